//! The keys that detach a client from a terminal.

use bytes::Bytes;

use crate::{EngineError, Result};

/// Docker's: ctrl-p, ctrl-q.
const STANDARD: [u8; 2] = [0x10, 0x11];

/// Finds the detach keys in what a client types.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of the keys were typed last; they are held back.
    typed: usize,
}

/// What is to be done with typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// To be passed on, including keys that were held back and turned out not to be meant.
    pub(crate) pass: Bytes,
    /// Whether the keys were completed. What follows them is dropped.
    pub(crate) detached: bool,
}

impl DetachKeys {
    /// Keys separated by commas: single characters, or `ctrl-` and a letter or one of `@[\]^_`.
    pub(crate) fn parse(keys: Option<&str>) -> Result<DetachKeys> {
        let keys = match keys {
            None | Some("") => STANDARD.to_vec(),
            Some(keys) => keys
                .split(',')
                .map(|key| {
                    code(key).ok_or_else(|| {
                        EngineError::Invalid(format!("Unknown character: {key:?} in detach keys"))
                    })
                })
                .collect::<Result<_>>()?,
        };
        Ok(DetachKeys { keys, typed: 0 })
    }

    /// Takes what was typed.
    pub(crate) fn scan(&mut self, bytes: &Bytes) -> Typed {
        if self.typed == 0 && !bytes.contains(&self.keys[0]) {
            return Typed {
                pass: bytes.clone(),
                detached: false,
            };
        }
        let mut pass = Vec::with_capacity(bytes.len() + self.typed);
        for &byte in bytes {
            if byte != self.keys[self.typed] {
                pass.extend_from_slice(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if byte != self.keys[self.typed] {
                pass.push(byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                return Typed {
                    pass: pass.into(),
                    detached: true,
                };
            }
        }
        Typed {
            pass: pass.into(),
            detached: false,
        }
    }
}

fn code(key: &str) -> Option<u8> {
    if let [single] = key.as_bytes() {
        return single.is_ascii().then_some(*single);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        b"@" => Some(0),
        [other @ b'['..=b'_'] => Some(other - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(keys: &mut DetachKeys, typed: &'static [u8]) -> (Vec<u8>, bool) {
        let typed = keys.scan(&Bytes::from_static(typed));
        (typed.pass.to_vec(), typed.detached)
    }

    #[test]
    fn the_standard_keys_detach_even_when_they_come_apart() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(scan(&mut keys, b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(scan(&mut keys, b"x\x10"), (b"x".to_vec(), false));
        assert_eq!(scan(&mut keys, b"\x11y"), (Vec::new(), true));
    }

    #[test]
    fn a_key_that_was_not_meant_is_passed_on() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(scan(&mut keys, b"\x10"), (Vec::new(), false));
        assert_eq!(scan(&mut keys, b"a"), (b"\x10a".to_vec(), false));
        assert_eq!(scan(&mut keys, b"\x10\x10\x11"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn other_keys_are_parsed_and_nonsense_is_refused() {
        let mut keys = DetachKeys::parse(Some("ctrl-a,d,ctrl-[")).unwrap();
        assert_eq!(scan(&mut keys, b"\x01d\x1b"), (Vec::new(), true));
        for nonsense in ["ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-1"] {
            assert!(DetachKeys::parse(Some(nonsense)).is_err(), "{nonsense}");
        }
    }
}
