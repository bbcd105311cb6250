//! Ids of containers and execs.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Characters of an id that people use.
pub(crate) const SHORT_ID: usize = 12;

/// A new id: 64 hexadecimal digits, of which the first 12 are not all decimal, so that the short id is no number and
/// may be a host name.
pub(crate) fn new_id() -> io::Result<String> {
    loop {
        let id: String = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        if !id[..SHORT_ID].bytes().all(|digit| digit.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// The id as people use it.
pub(crate) fn short(id: &str) -> &str {
    &id[..SHORT_ID.min(id.len())]
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hexadecimal_digits_and_differ() {
        let (a, b) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!(a.len(), 64);
        assert!(a.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(a, b);
        assert_eq!(short(&a).len(), 12);
    }
}
