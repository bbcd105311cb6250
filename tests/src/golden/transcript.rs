//! Answers in a file.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};

use super::Answer;

/// The answers of sections, in the order in which they were written.
///
/// As text: a name in brackets begins a section; a call stands behind `$ `; the lines of its answer follow, with two spaces in
/// front; a line that begins with `#` is for people, and one before a call is its reason.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    sections: Vec<(String, Vec<Answer>)>,
    reasons: BTreeMap<(String, String), String>,
}

impl Transcript {
    /// Reads one.
    pub fn read(text: &str) -> Result<Self> {
        let mut read = Self::default();
        let mut reason = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(said) = line.strip_prefix('#') {
                reason.push_str(said);
            } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                read.push(name, Vec::new());
                reason.clear();
            } else {
                let (name, answers) = read
                    .sections
                    .last_mut()
                    .context("a line stands before the first section")?;
                if let Some(call) = line.strip_prefix("$ ") {
                    let call = call.to_owned();
                    read.reasons
                        .insert((name.clone(), call.clone()), std::mem::take(&mut reason));
                    let text = String::new();
                    answers.push(Answer { call, text });
                } else {
                    let answer = answers
                        .last_mut()
                        .context("an answer stands before the first call")?;
                    answer.text.push_str(line.strip_prefix("  ").unwrap_or(line));
                    answer.text.push('\n');
                }
            }
        }
        Ok(read)
    }

    /// Adds a section.
    pub fn push(&mut self, section: &str, answers: Vec<Answer>) {
        self.sections.push((section.to_owned(), answers));
    }

    /// All answers, each with its section.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Answer)> {
        let sections = self.sections.iter();
        sections.flat_map(|(section, answers)| answers.iter().map(move |answer| (section.as_str(), answer)))
    }

    /// The answers of a section.
    pub fn section(&self, name: &str) -> Vec<Answer> {
        let named = self.sections.iter().filter(|(section, _)| section == name);
        named.flat_map(|(_, answers)| answers.clone()).collect()
    }

    /// Checks that a reason stands before every call.
    pub fn check_reasons(&self) -> Result<()> {
        for ((section, call), reason) in &self.reasons {
            ensure!(
                !reason.is_empty(),
                "no reason stands before this call of [{section}]: {call}"
            );
        }
        Ok(())
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, answers) in &self.sections {
            writeln!(f, "\n[{name}]")?;
            for answer in answers {
                writeln!(f, "$ {}", answer.call)?;
                for line in answer.text.lines() {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(call: &str, text: &str) -> Answer {
        Answer {
            call: call.into(),
            text: text.into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut written = Transcript::default();
        let answers = vec![answer("docker ps", "NAMES\n\na  [b]\n= 1\n"), answer("true", "")];
        written.push("one", answers.clone());
        let read = Transcript::read(&written.to_string()).unwrap();
        assert_eq!(read.section("one"), answers);
        assert_eq!(read.section("two"), []);
    }

    #[test]
    fn a_call_without_a_reason_is_found() {
        let read = |text| Transcript::read(text).unwrap().check_reasons();
        assert!(read("[one]\n# it must be\n$ docker ps\n  x\n").is_ok());
        assert!(
            read("[one]\n# it must be\n$ docker ps\n  x\n$ true\n")
                .unwrap_err()
                .to_string()
                .contains("true")
        );
    }
}
