//! The calls.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};

/// Calls that run one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its name. The names of its containers and volumes, and of its images beneath `localhost`, begin so.
    pub name: String,
    /// Lines for a shell.
    pub calls: Vec<String>,
}

/// Reads sections: a name in brackets, then a call a line. A line that begins with two spaces goes on with the one before, and one
/// with `#` is for people.
pub fn read_calls(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push(Section {
                name: name.to_owned(),
                calls: Vec::new(),
            });
            continue;
        }
        let section = sections
            .last_mut()
            .context("a call stands before the first section")?;
        match line.strip_prefix("  ") {
            None => section.calls.push(line.to_owned()),
            Some(more) => {
                let call = section.calls.last_mut().context("a line goes on with no call")?;
                call.push(' ');
                call.push_str(more.trim_start());
            }
        }
    }
    for section in &sections {
        let mut seen = HashSet::new();
        let twice = section.calls.iter().find(|&call| !seen.insert(call));
        ensure!(
            twice.is_none(),
            "[{}] has a call twice, which a comment would tell apart: {twice:?}",
            section.name
        );
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_by_section_and_lines_go_on() {
        let read =
            read_calls("# for people\n[one]\ndocker ps\n\ndocker run\n  --rm x\n[two]\ntrue\n").unwrap();
        let section = |name: &str, calls: &[&str]| Section {
            name: name.to_owned(),
            calls: calls.iter().map(|&call| call.to_owned()).collect(),
        };
        assert_eq!(
            read,
            [
                section("one", &["docker ps", "docker run --rm x"]),
                section("two", &["true"])
            ]
        );
    }

    #[test]
    fn a_call_without_a_section_or_made_twice_is_refused() {
        assert!(read_calls("docker ps").is_err());
        assert!(read_calls("[one]\n  goes on").is_err());
        assert!(read_calls("[one]\ntrue\ntrue").is_err());
        assert!(read_calls("[one]\ntrue\ntrue # again").is_ok());
    }
}
