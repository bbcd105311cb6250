//! `--chmod`: an octal number, or clauses as `chmod`(1) has them (`u=rwX,go=rX`).

use crate::diagnostic::quoted;
use thiserror::Error;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
/// The most clauses that one mode may have.
const MAX_CLAUSES: usize = 64;

/// What a file's mode becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
    Octal(u32),
    /// What the clauses make of the file's own.
    Symbolic(Vec<Clause>),
}

/// One change, e.g. `go=rX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The bits of the users it is about, as a mask over `0o7777`.
    who: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permissions {
    /// These bits, for whomever; and with the second one `x` where a file is a folder or can be executed already.
    Bits(u32, bool),
    /// Those that the user (6), the group (3) or others (0) have: the number of bits to the right.
    Of(u32),
}

/// A mode that is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ModeError {
    /// Not octal, or too large.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Octal(String),
    /// A clause that `chmod` would not take.
    #[error("invalid chmod parameter: '{0}': a mode is octal (0644) or clauses such as u=rwX,go=rX")]
    Symbolic(String),
}

impl Mode {
    /// Reads a mode, its variables expanded.
    pub fn parse(text: &str) -> Result<Mode, ModeError> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let octal = || ModeError::Octal(quoted(text));
            let bits = u32::from_str_radix(text, 8).map_err(|_| octal())?;
            return (bits <= 0o7777).then_some(Mode::Octal(bits)).ok_or_else(octal);
        }
        let symbolic = || ModeError::Symbolic(quoted(text));
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut clauses).ok_or_else(symbolic)?;
            if clauses.len() > MAX_CLAUSES {
                return Err(symbolic());
            }
        }
        Ok(Mode::Symbolic(clauses))
    }

    /// The mode (`0o7777`) that a file of this mode gets.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Mode::Octal(bits) => *bits,
            Mode::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_folder)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::Bits(bits, conditional) if conditional && (is_folder || mode & 0o111 != 0) => {
                bits | 0o111
            }
            Permissions::Bits(bits, _) => bits,
            Permissions::Of(shift) => ((mode >> shift) & 0o7) * 0o111,
        };
        let bits = bits & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // As GNU chmod: `=` leaves a folder's set-ID bits alone unless they are named.
            Operator::Set if is_folder => (mode & !(self.who & !(SET_UID | SET_GID))) | bits,
            Operator::Set => (mode & !self.who) | bits,
        }
    }
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`
fn parse_clause(text: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let mut characters = text.chars().peekable();
    let mut who = 0;
    while let Some(user) = characters.next_if(|next| "ugoa".contains(*next)) {
        who |= match user {
            'u' => SET_UID | 0o700,
            'g' => SET_GID | 0o070,
            'o' => STICKY | 0o007,
            _ => 0o7777,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    characters.peek()?;
    while let Some(operator) = characters.next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => return None,
        };
        let permissions = match characters.next_if(|next| "ugo".contains(*next)) {
            Some('u') => Permissions::Of(6),
            Some('g') => Permissions::Of(3),
            Some(_) => Permissions::Of(0),
            None => {
                let (mut bits, mut conditional) = (0, false);
                while let Some(permission) = characters.next_if(|next| "rwxXst".contains(*next)) {
                    match permission {
                        'r' => bits |= 0o444,
                        'w' => bits |= 0o222,
                        'x' => bits |= 0o111,
                        's' => bits |= SET_UID | SET_GID,
                        't' => bits |= STICKY,
                        _ => conditional = true,
                    }
                }
                Permissions::Bits(bits, conditional)
            }
        };
        clauses.push(Clause {
            who,
            operator,
            permissions,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_applied_as_chmod_does() {
        for (text, mode, is_folder, expected) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o777, false, 0o644),
            ("07777", 0, true, 0o7777),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("o=", 0o777, false, 0o770),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
            ("g+w-x", 0o750, false, 0o760),
            ("=r", 0o2775, true, 0o2444),
        ] {
            let parsed = Mode::parse(text).unwrap();
            assert_eq!(parsed.apply(mode, is_folder), expected, "{text} on {mode:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "8",
            "10000",
            "0x1",
            "u",
            "",
            "u=q",
            "rwx",
            "u=r,",
            "77777777777777",
            "-1z",
        ] {
            assert!(Mode::parse(text).is_err(), "{text}");
        }
    }
}
