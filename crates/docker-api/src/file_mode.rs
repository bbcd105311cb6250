//! File modes as Go has them (`io/fs`, "FileMode"), which is what Docker's API speaks.

/// The type bits of `st_mode`, stat(2), and what Go has for them.
const TYPES: [(u32, u32); 6] = [
    (0o040_000, 1 << 31),
    (0o120_000, 1 << 27),
    (0o060_000, 1 << 26),
    (0o020_000, (1 << 26) | (1 << 21)),
    (0o010_000, 1 << 25),
    (0o140_000, 1 << 24),
];
/// Set-user-id, set-group-id and sticky, and what Go has for them.
const FLAGS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// Go's mode for a `st_mode`.
pub(crate) fn go_file_mode(mode: u32) -> u32 {
    let kind = TYPES.iter().find(|(unix, _)| mode & 0o170_000 == *unix);
    let flags = FLAGS.iter().filter(|(unix, _)| mode & unix != 0);
    flags.chain(kind).fold(mode & 0o777, |all, (_, go)| all | go)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_flags_are_where_go_has_them() {
        assert_eq!(go_file_mode(0o100_644), 0o644);
        assert_eq!(go_file_mode(0o040_755), 2_147_484_141);
        assert_eq!(go_file_mode(0o120_777), 134_218_239);
        assert_eq!(go_file_mode(0o104_755), 0o755 | 1 << 23);
        assert_eq!(go_file_mode(0o041_777), 0o777 | 1 << 31 | 1 << 20);
        assert_eq!(go_file_mode(0o020_620), 0o620 | 1 << 26 | 1 << 21);
    }
}
