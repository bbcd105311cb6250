//! docker-py, which a program in Python drives containers with, against hull.

use std::process::Command;

use anyhow::{Result, ensure};
use system_tests::{Outcome, hull};

/// The tests in Python.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_py/life.py");

#[test]
fn docker_py_drives_containers_images_and_volumes() -> Result<()> {
    let hull = hull!();
    if hull.prefix().join("docker-py.offline").exists() {
        println!(
            "SKIPPED {}: docker-py could not be got, as pypi.org cannot be reached",
            module_path!()
        );
        return Ok(());
    }
    let python = hull.prefix().join("docker-py/bin/python");
    ensure!(
        python.exists(),
        "{} is not there: `make testdeps` installs docker-py from PyPI",
        python.display()
    );
    let outcome = Outcome::from(
        Command::new(python)
            .arg(SCRIPT)
            .env("DOCKER_HOST", format!("unix://{}", hull.socket().display()))
            .env("PREFIX", "docker-py")
            .output()?,
    );
    assert!(outcome.code == 0, "{outcome}");
    Ok(())
}
