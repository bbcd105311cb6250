//! The key sequence that detaches from a terminal, `ctrl-p,ctrl-q` unless told otherwise.

use std::str::FromStr;

use thiserror::Error;

/// A detach sequence that is none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "invalid detach keys {text:?}: {part:?} is neither one character nor ctrl- with a letter or one of @ [ \\ ] ^ _"
)]
pub(crate) struct DetachKeysError {
    text: String,
    part: String,
}

/// The keys, as the bytes a terminal in raw mode sends for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    text: String,
    bytes: Vec<u8>,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self {
            text: "ctrl-p,ctrl-q".to_owned(),
            bytes: vec![0x10, 0x11],
        }
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = text.split(',').map(|part| {
            key(part).ok_or_else(|| DetachKeysError {
                text: text.to_owned(),
                part: part.to_owned(),
            })
        });
        Ok(Self {
            text: text.to_owned(),
            bytes: bytes.collect::<Result<_, _>>()?,
        })
    }
}

impl DetachKeys {
    /// As the API wants them.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

fn key(part: &str) -> Option<u8> {
    if let [byte] = part.as_bytes() {
        return Some(*byte);
    }
    match part.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [sign @ (b'@' | b'['..=b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

/// Looks for the keys in what is typed. Keys that could be the beginning of the sequence are held
/// back until the next key decides.
#[derive(Debug)]
pub(super) struct EscapeFilter {
    keys: Vec<u8>,
    matched: usize,
}

impl EscapeFilter {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self {
            keys: keys.bytes,
            matched: 0,
        }
    }

    /// Appends to `passed` what goes to the container; true when the sequence is complete.
    pub(super) fn filter(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte != self.keys[self.matched] {
                passed.extend(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte != self.keys[self.matched] {
                passed.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: &str, reads: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut filter = EscapeFilter::new(keys.parse().unwrap());
        let mut passed = Vec::new();
        for read in reads {
            if filter.filter(read, &mut passed) {
                return (passed, true);
            }
        }
        (passed, false)
    }

    #[test]
    fn the_default_sequence_detaches_also_when_read_in_two_parts() {
        assert_eq!(run("", &[b"ls\x10\x11"]), (b"ls".to_vec(), true));
        assert_eq!(run("", &[b"ls\x10", b"\x11"]), (b"ls".to_vec(), true));
    }

    #[test]
    fn a_broken_sequence_reaches_the_container_in_order() {
        assert_eq!(run("", &[b"a\x10b\x11c"]), (b"a\x10b\x11c".to_vec(), false));
        assert_eq!(run("", &[b"\x10", b"\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run("", &[b"\x10"]), (b"".to_vec(), false));
    }

    #[test]
    fn every_kind_of_key_is_understood() {
        let keys: DetachKeys = "ctrl-a,ctrl-@,ctrl-_,x".parse().unwrap();
        assert_eq!(keys.bytes, [1, 0, 31, b'x']);
        assert_eq!(keys.as_str(), "ctrl-a,ctrl-@,ctrl-_,x");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = "ctrl-p,alt-q".parse::<DetachKeys>().unwrap_err();
        assert_eq!(error.part, "alt-q");
    }
}
