//! Extended attributes: their names on disk, and the record that follows an inode.

use crate::format::{get16, put16};
use crate::path::printable;

/// One extended attribute, with its full name such as `user.comment`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The full name, prefix included.
    pub name: Box<[u8]>,
    /// The value, any bytes.
    pub value: Box<[u8]>,
}

impl Xattr {
    /// An attribute from its full name and value.
    pub fn new(name: impl Into<Box<[u8]>>, value: impl Into<Box<[u8]>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    /// Whether EROFS has a place for attributes of this name: `user.*`, `trusted.*`, `security.*` and the
    /// two POSIX ACLs. Linux refuses most others when they are set on a file system, too.
    pub fn is_storable(name: &[u8]) -> bool {
        split_name(name).is_some_and(|(_, suffix)| suffix.len() <= usize::from(u8::MAX))
    }
}

/// Why an extended attribute cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum XattrError {
    /// The name has a prefix without a number on disk, or is too long.
    #[error(
        "extended attribute `{name}` has no place in EROFS (only user.*, trusted.*, security.* and POSIX ACLs, names up to 255 bytes)"
    )]
    Name {
        /// The full name, unprintable bytes escaped.
        name: String,
    },
    /// The value is longer than 65 535 bytes.
    #[error("extended attribute `{name}` has a value of {length} bytes; 65535 are possible")]
    ValueTooLong {
        /// The full name, unprintable bytes escaped.
        name: String,
        /// The value's length in bytes.
        length: usize,
    },
    /// All attributes of one file together are longer than the inode can say.
    #[error("the extended attributes of one file take {length} bytes; {MAX_BODY} are possible")]
    TooMany {
        /// Their length on disk.
        length: usize,
    },
}

/// `struct erofs_xattr_ibody_header`.
const HEADER: usize = 12;
/// `struct erofs_xattr_entry` without name and value.
const ENTRY: usize = 4;
/// The largest size of all attributes of one inode: its 16-bit count stands for 12 + 4 (n - 1) bytes.
const MAX_BODY: usize = HEADER + 4 * (u16::MAX as usize - 1);

/// `EROFS_XATTR_INDEX_*`. The two ACLs are whole names, the others prefixes.
const PREFIXES: [(u8, &[u8]); 5] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];

/// A full name as its prefix number and the rest.
fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(index, prefix)| {
        let suffix = name.strip_prefix(*prefix)?;
        let whole = !prefix.ends_with(b".");
        (whole == suffix.is_empty()).then_some((*index, suffix))
    })
}

/// Puts attributes into the order in which they are written: by name, of equal names only the last.
pub(crate) fn normalise(xattrs: &mut Vec<Xattr>) -> Result<(), XattrError> {
    xattrs.reverse();
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|later, kept| later.name == kept.name);
    for xattr in xattrs.iter() {
        if !Xattr::is_storable(&xattr.name) {
            return Err(XattrError::Name {
                name: printable(&xattr.name),
            });
        }
        if xattr.value.len() > usize::from(u16::MAX) {
            return Err(XattrError::ValueTooLong {
                name: printable(&xattr.name),
                length: xattr.value.len(),
            });
        }
    }
    match encoded_size(xattrs) {
        length if length > MAX_BODY => Err(XattrError::TooMany { length }),
        _ => Ok(()),
    }
}

/// Bytes that `xattrs` take behind their inode; 0 for none.
pub(crate) fn encoded_size(xattrs: &[Xattr]) -> usize {
    if xattrs.is_empty() {
        return 0;
    }
    let entry = |xattr: &Xattr| {
        let suffix = split_name(&xattr.name).map_or(0, |(_, suffix)| suffix.len());
        (ENTRY + suffix + xattr.value.len()).next_multiple_of(4)
    };
    HEADER + xattrs.iter().map(entry).sum::<usize>()
}

/// The record behind the inode, all attributes inline; `xattrs` have been through [`normalise`].
pub(crate) fn encode(xattrs: &[Xattr]) -> Vec<u8> {
    let mut body = vec![0; if xattrs.is_empty() { 0 } else { HEADER }];
    for xattr in xattrs {
        let Some((index, suffix)) = split_name(&xattr.name) else {
            continue;
        };
        let mut entry = [suffix.len() as u8, index, 0, 0];
        put16(&mut entry, 2, xattr.value.len() as u16);
        body.extend_from_slice(&entry);
        body.extend_from_slice(suffix);
        body.extend_from_slice(&xattr.value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    body
}

/// The opposite of [`encode`]; `None` when the record contradicts itself or refers to shared attributes.
pub(crate) fn decode(body: &[u8]) -> Option<Vec<Xattr>> {
    let mut rest = match body {
        [] => return Some(Vec::new()),
        _ => body.get(HEADER..)?,
    };
    if body[4] != 0 {
        return None;
    }
    let mut xattrs = Vec::new();
    while !rest.is_empty() {
        let name_end = ENTRY + usize::from(*rest.first()?);
        let index = *rest.get(1)?;
        let value_end = name_end + usize::from(get16(rest.get(..ENTRY)?, 2));
        let (_, prefix) = PREFIXES.iter().find(|(number, _)| *number == index)?;
        let name = [prefix, rest.get(ENTRY..name_end)?].concat();
        xattrs.push(Xattr::new(name, rest.get(name_end..value_end)?));
        rest = rest.get(value_end.next_multiple_of(4)..)?;
    }
    Some(xattrs)
}

/// The inode's 16-bit count for a record of `size` bytes (at most [`MAX_BODY`]).
pub(crate) fn size_to_count(size: usize) -> u16 {
    match size {
        0 => 0,
        _ => ((size - HEADER) / 4 + 1) as u16,
    }
}

/// The size of the record for an inode's 16-bit count.
pub(crate) fn count_to_size(count: u16) -> usize {
    match count {
        0 => 0,
        n => HEADER + 4 * (usize::from(n) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Xattr> {
        vec![
            Xattr::new(*b"user.comment", *b"hello"),
            Xattr::new(*b"trusted.overlay.opaque", *b"y"),
            Xattr::new(*b"security.capability", [1, 0, 0, 2, 10, 0]),
            Xattr::new(*b"system.posix_acl_access", [2, 0, 0, 0]),
            Xattr::new(*b"user.empty", *b""),
        ]
    }

    #[test]
    fn attributes_survive_the_disk_form() {
        let mut xattrs = sample();
        normalise(&mut xattrs).unwrap();
        let body = encode(&xattrs);
        assert_eq!(body.len(), encoded_size(&xattrs));
        assert_eq!(count_to_size(size_to_count(body.len())), body.len());
        assert_eq!(decode(&body).unwrap(), xattrs);
    }

    #[test]
    fn of_two_equal_names_the_last_counts() {
        let mut xattrs = vec![Xattr::new(*b"user.a", *b"1"), Xattr::new(*b"user.a", *b"2")];
        normalise(&mut xattrs).unwrap();
        assert_eq!(xattrs, [Xattr::new(*b"user.a", *b"2")]);
    }

    #[test]
    fn names_without_a_number_on_disk_are_refused() {
        for name in [
            b"system.nfs4_acl".as_slice(),
            b"com.apple.x",
            b"user",
            b"",
            b"user.",
            b"system.posix_acl_accessx",
        ] {
            assert!(!Xattr::is_storable(name), "{}", printable(name));
            let mut xattrs = vec![Xattr::new(name, *b"")];
            assert!(matches!(normalise(&mut xattrs), Err(XattrError::Name { .. })));
        }
    }

    #[test]
    fn sizes_beyond_the_format_are_refused() {
        let mut xattrs = vec![Xattr::new(*b"user.a", vec![0; 65536])];
        assert!(matches!(
            normalise(&mut xattrs),
            Err(XattrError::ValueTooLong { length: 65536, .. })
        ));
        let mut xattrs: Vec<_> = (0..5)
            .map(|n| Xattr::new(format!("user.{n}").into_bytes(), vec![0; 65535]))
            .collect();
        assert!(matches!(normalise(&mut xattrs), Err(XattrError::TooMany { .. })));
    }

    #[test]
    fn every_cut_of_a_record_is_survived() {
        let mut xattrs = sample();
        normalise(&mut xattrs).unwrap();
        let body = encode(&xattrs);
        for end in 1..body.len() {
            assert_ne!(decode(&body[..end]).as_ref(), Some(&xattrs));
        }
    }
}
