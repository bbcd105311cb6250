//! Which names of interfaces may stand in a rule, a path or a request.

/// The longest name of an interface, in bytes (`IFNAMSIZ` with its terminator is 16).
pub(crate) const MAX_NAME: usize = 15;

/// Whether a name has only letters, digits, `-`, `_` and `.`. The kernel takes more, but some of that means something where
/// names are written: `*` and quotes in rules of nft, `/` in paths, `%` in the request that makes an interface.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_NAME).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_mean_nothing_else_are_plain() {
        for name in ["hull0", "hullt-a_b.1", "123456789012345"] {
            assert!(is_plain(name), "{name}");
        }
        let others = [
            "",
            ".",
            "..",
            "hullt*",
            "a b",
            "a\"b",
            "a/b",
            "a:b",
            "tap%d",
            "a\n",
            "ü",
            "a;b",
            "1234567890123456",
        ];
        for name in others {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
