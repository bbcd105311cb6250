//! hull's answers beside Docker's.

use anyhow::{Context, Result, ensure};

use super::{Answer, Section, Transcript};

/// What is expected of hull.
#[derive(Clone, Debug)]
pub struct Expectation {
    docker: Transcript,
    differences: Transcript,
}

impl Expectation {
    /// Docker's answers, except where a difference is accepted: as the texts of two transcripts.
    pub fn read(docker: &str, differences: &str) -> Result<Self> {
        let differences = Transcript::read(differences)?;
        differences.check_reasons()?;
        let docker = Transcript::read(docker)?;
        Ok(Self { docker, differences })
    }

    /// Checks that what was recorded are the calls of these sections, and that each accepted difference is one.
    pub fn check(&self, sections: &[Section]) -> Result<()> {
        for section in sections {
            let recorded: Vec<String> = calls(&self.docker.section(&section.name));
            ensure!(
                recorded == section.calls,
                "the calls of [{}] are not those that were recorded: run record-goldens",
                section.name
            );
        }
        for (section, difference) in self.differences.all() {
            let docker = self.docker.section(section);
            let docker = docker.iter().find(|answer| answer.call == difference.call);
            let docker =
                docker.with_context(|| format!("[{section}] has no such call: {}", difference.call))?;
            ensure!(
                docker != difference,
                "[{section}] is no difference: {}",
                difference.call
            );
        }
        Ok(())
    }

    /// What hull's answers to the calls of a section are otherwise than expected, for people.
    pub fn compare(&self, section: &str, hull: &[Answer]) -> Vec<String> {
        let accepted = self.differences.section(section);
        let expected = self.docker.section(section);
        let pairs = expected.iter().zip(hull);
        let different = pairs.filter_map(|(docker, hull)| {
            let difference = accepted.iter().find(|accepted| accepted.call == hull.call);
            let expected = difference.unwrap_or(docker);
            (expected != hull).then(|| {
                format!(
                    "$ {}\n--- expected\n{}--- hull\n{}",
                    hull.call, expected.text, hull.text
                )
            })
        });
        different.collect()
    }
}

fn calls(answers: &[Answer]) -> Vec<String> {
    answers.iter().map(|answer| answer.call.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "[one]\n$ docker ps\n  x\n$ true\n";

    fn answers(ps: &str) -> Vec<Answer> {
        let answer = |call: &str, text: &str| Answer {
            call: call.into(),
            text: text.into(),
        };
        vec![answer("docker ps", ps), answer("true", "")]
    }

    #[test]
    fn a_difference_is_shown_unless_it_is_the_accepted_one() {
        let plain = Expectation::read(DOCKER, "").unwrap();
        assert!(plain.compare("one", &answers("x\n")).is_empty());
        assert!(plain.compare("one", &answers("y\n"))[0].contains("--- hull\ny\n"));
        let accepting = Expectation::read(DOCKER, "[one]\n# hull's way\n$ docker ps\n  y\n").unwrap();
        assert!(accepting.compare("one", &answers("y\n")).is_empty());
        assert_eq!(accepting.compare("one", &answers("x\n")).len(), 1);
    }

    #[test]
    fn what_is_no_difference_or_was_not_recorded_is_refused() {
        let check = |differences: &str, calls: &[&str]| {
            let calls = calls.iter().map(|&call| call.to_owned()).collect();
            let name = "one".to_owned();
            Expectation::read(DOCKER, differences)
                .unwrap()
                .check(&[Section { name, calls }])
        };
        assert!(check("", &["docker ps", "true"]).is_ok());
        assert!(check("", &["docker ps"]).is_err());
        assert!(check("[one]\n# no reason\n$ docker ps\n  x\n", &["docker ps", "true"]).is_err());
        assert!(
            check(
                "[one]\n# no such call\n$ docker images\n  x\n",
                &["docker ps", "true"]
            )
            .is_err()
        );
    }
}
