//! What differs from one time to the next, replaced by what it is.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::Outcome;

/// What stands for a moment that has not come, and is the same each time.
const NEVER: &str = "0001-01-01T00:00:00Z";

static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rules = [
        (r"(sha256:)?\b[0-9a-f]{64}\b", "<id>"),
        (r"\b[0-9a-f]{12}\b", "<short id>"),
        (
            r"\b(About an? (minute|hour)|Less than a second|\d+ (second|minute|hour|day|week|month|year)s?)( ago)?\b",
            "<while>",
        ),
        (r"\b\d+(\.\d+)? ?(B|[kMG]B|[KMG]iB)\b", "<size>"),
        // Where the client tells of its help, each version in its own way.
        (r"\n*(?m:^(S?Run|See) 'docker .*--help'.*$)", ""),
        // The end of an empty standard input, as a terminal shows it.
        (r"\^@(\x08\x08)?", ""),
        (r"lookup (\S+)( on \S+)?: ", "lookup $1: "),
        (r"\(\d{10}(\.\d+)?\)", "(<moment>)"),
        (
            r"cannot be resolved: .*; check",
            "cannot be resolved: <why>; check",
        ),
        // The columns of a table are as wide as what is in them.
        (r" {2,}", "  "),
        (r"(?m)[ \t\r]+$", ""),
    ];
    let compile = |(rule, with)| (Regex::new(rule).expect("a rule is a regular expression"), with);
    rules.map(compile).into()
});

static TIME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
        .expect("a rule is a regular expression")
});

/// An outcome as it is compared; `here` is a folder whose name is another each time.
pub(super) fn text(outcome: &Outcome, here: &str) -> String {
    let mut text = String::new();
    for (mark, said) in [("", &outcome.stdout), ("! ", &outcome.stderr)] {
        for line in normal(said, here).lines() {
            text.push_str(mark);
            text.push_str(line);
            text.push('\n');
        }
    }
    if outcome.code != 0 {
        text.push_str(&format!("= {}\n", outcome.code));
    }
    text
}

fn normal(said: &str, here: &str) -> String {
    let said = said.replace(here, "<folder>");
    let moment = |found: &Captures<'_>| if &found[0] == NEVER { NEVER } else { "<time>" }.to_owned();
    let said = TIME.replace_all(&said, moment).into_owned();
    RULES.iter().fold(said, |said, (rule, with)| {
        rule.replace_all(&said, *with).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_times_spans_sizes_and_widths_are_replaced() {
        let id = "7ccf062cf4543cee926b0f47fb2035ca7daf079ded58e1857286a1643ab12090";
        let said = format!(
            "sha256:{id} {id} 7ccf062cf454\nUp 2 seconds    1.98MB  \n/tmp/x/y 2024-05-06T07:08:09.1Z"
        );
        assert_eq!(
            normal(&said, "/tmp/x"),
            "<id> <id> <short id>\nUp <while>  <size>\n<folder>/y <time>"
        );
        assert_eq!(normal(NEVER, "/tmp/x"), NEVER);
        assert_eq!(
            normal("no\n\nRun 'docker run --help' for more information\n", "/x"),
            "no\n"
        );
        assert_eq!(
            normal("Exited (3) About a minute ago", "/x"),
            "Exited (3) <while>"
        );
    }

    #[test]
    fn an_outcome_shows_output_errors_and_code() {
        let outcome = Outcome {
            code: 3,
            stdout: "out\n".into(),
            stderr: "err\n".into(),
        };
        assert_eq!(text(&outcome, "/x"), "out\n! err\n= 3\n");
    }
}
