//! What the docker CLI prints against hull is what it printed against Docker's engine: the same output, errors and exit codes.
//!
//! `docker_cli/calls.txt` has the calls, `docker_cli/docker.txt` what Docker answered, and `docker_cli/differences.txt` where hull
//! answers otherwise, and why.

use anyhow::{Context, Result};
use system_tests::golden::{Expectation, Section, answers_of, read_calls};
use system_tests::hull;

const CALLS: &str = include_str!("../docker_cli/calls.txt");
const DOCKER: &str = include_str!("../docker_cli/docker.txt");
const DIFFERENCES: &str = include_str!("../docker_cli/differences.txt");

/// The sections, each a test.
macro_rules! sections {
    ($($name:ident)*) => {
        const SECTIONS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() -> Result<()> {
                let hull = hull!();
                let section = section(stringify!($name))?;
                let answers = answers_of(&section, &hull.socket())?;
                let different = Expectation::read(DOCKER, DIFFERENCES)?.compare(&section.name, &answers);
                assert!(different.is_empty(), "{} calls differ:\n{}", different.len(), different.join("\n"));
                Ok(())
            }
        )*
    };
}

sections! { run options refusals life ps inspect exec logs files events images volumes system }

fn section(name: &str) -> Result<Section> {
    let mut sections = read_calls(CALLS)?.into_iter();
    sections
        .find(|section| section.name == name)
        .with_context(|| format!("calls.txt has no section [{name}]"))
}

#[test]
fn each_section_is_a_test_each_call_was_recorded_and_each_difference_is_one() -> Result<()> {
    let sections = read_calls(CALLS)?;
    let names: Vec<&str> = sections.iter().map(|section| section.name.as_str()).collect();
    assert_eq!(names, SECTIONS);
    Expectation::read(DOCKER, DIFFERENCES)?.check(&sections)
}
