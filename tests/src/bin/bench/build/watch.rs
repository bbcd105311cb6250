//! A build as its user sees it: when it begins with each step, by the lines that it prints.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use regex::Regex;

/// `Step 1/2 : FROM x` of hull, `STEP 1/2: FROM x` and `[1/2] STEP 1/2: FROM x` of buildah.
static STEP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:\[\d+/\d+\] )?(?i:step) \d+/\d+ ?: (.*)$").expect("the expression is one")
});

/// What was seen of a build.
pub(super) struct Seen {
    pub(super) whole: Duration,
    /// Up to the first step.
    pub(super) before: Duration,
    /// The steps, and the time from each to the next; that of the last goes to the end of the program.
    pub(super) steps: Vec<(String, Duration)>,
}

/// Carries a build out; a failure shows what it printed.
pub(super) fn watch(command: &mut Command) -> Result<Seen> {
    let begin = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.with_context(|| format!("{command:?} cannot be executed"))?;
    let output = child.stdout.take().context("the output is a pipe")?;
    let mut errors = child.stderr.take().context("the errors are a pipe")?;
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        errors.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (mut printed, mut begins) = (String::new(), Vec::new());
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(step) = STEP.captures(&line) {
            begins.push((step[1].to_owned(), begin.elapsed()));
        }
        printed += &format!("{line}\n");
    }
    let status = child.wait()?;
    let whole = begin.elapsed();
    let errors = errors
        .join()
        .map_err(|_| anyhow::anyhow!("the errors were not read"))??;
    let errors = String::from_utf8_lossy(&errors);
    ensure!(
        status.success(),
        "{command:?} ended with {status}: {printed}{errors}"
    );
    Ok(Seen::of(whole, begins))
}

impl Seen {
    fn of(whole: Duration, begins: Vec<(String, Duration)>) -> Seen {
        let ends: Vec<_> = begins.iter().skip(1).map(|(_, at)| *at).chain([whole]).collect();
        let before = begins.first().map_or(whole, |(_, at)| *at);
        let steps = begins.into_iter().zip(ends);
        Seen {
            whole,
            before,
            steps: steps
                .map(|((step, at), end)| (step, end.saturating_sub(at)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn steps_are_seen_in_what_both_print() {
        let lines = [
            "Sending build context",
            "Step 1/3 : FROM x",
            " ---> Step 1/1 : no",
            "[1/2] STEP 2/2: RUN y",
            "STEP 3/3: CMD z",
        ];
        let script = lines.map(|line| format!("echo '{line}'")).join("; ");
        let seen = watch(&mut shell(&script)).unwrap();
        let steps: Vec<&str> = seen.steps.iter().map(|(step, _)| step.as_str()).collect();
        assert_eq!(steps, ["FROM x", "RUN y", "CMD z"]);
        let sum: Duration = seen.steps.iter().map(|(_, time)| *time).sum();
        assert_eq!(seen.before + sum, seen.whole);
    }

    #[test]
    fn a_failure_shows_what_was_printed() {
        let Err(error) = watch(&mut shell("echo said; echo complained >&2; exit 3")) else {
            panic!("it failed");
        };
        let error = error.to_string();
        assert!(error.contains("said\ncomplained"), "{error}");
    }
}
