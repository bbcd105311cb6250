//! Asking before something is gone.

use std::io::{self, BufRead, Write};

/// Whether the user answers a warning with yes. Everything else, and the end of the input, is no.
pub(super) fn confirm(warning: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{warning} [y/N] ")?;
    stdout.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim(), "y" | "Y")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_a_y_is_yes() {
        assert!(is_yes("y\n") && is_yes(" Y\r\n"));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("n\n") && !is_yes("yes\n"));
    }
}
