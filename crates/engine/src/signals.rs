//! Signals by name.

use crate::{EngineError, Result};

/// Linux's names for x86-64, signal(7), beginning with 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Other names for some of them.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("RTMIN", RTMIN)];
/// The first and last real-time signals that a C library leaves to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// SIGKILL
pub(crate) const KILL: i32 = 9;
/// SIGTERM
pub(crate) const TERM: i32 = 15;

/// The number of a signal that is given as a number or a name, with or without `SIG`.
pub(crate) fn parse(signal: &str) -> Result<i32> {
    number(signal).ok_or_else(|| EngineError::Invalid(format!("invalid signal: {signal}")))
}

fn number(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Some(index as i32 + 1);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(*number);
    }
    let number = match name.strip_prefix("RTMAX") {
        Some("") => RTMAX,
        Some(minus) => RTMAX - minus.strip_prefix('-')?.parse::<u8>().ok()? as i32,
        None => RTMIN + name.strip_prefix("RTMIN+")?.parse::<u8>().ok()? as i32,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_name() {
        for (signal, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigint", 2),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(parse(signal).unwrap(), number, "{signal}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for signal in ["", "0", "65", "-1", "SIGFOO", "RTMIN+31", "RTMAX-200", "RTMIN+x"] {
            assert!(parse(signal).is_err(), "{signal}");
        }
    }
}
