//! Sparse files in GNU tar's four forms (GNU tar manual, "Storing Sparse Files"): the old header and the pax
//! versions 0.0, 0.1 and 1.0.

use crate::pax::{PaxRecords, parse_number};
use std::io::{self, Read};

/// Data segments of one file. More would cost a hostile archive little and us much.
pub(crate) const MAX_SEGMENTS: usize = 1 << 16;
/// The block size of a tar archive.
const BLOCK: usize = 512;

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file it begins.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// The data segments of a sparse file, in order; all else is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseMap(Vec<Segment>);

impl SparseMap {
    /// Checks that segments ascend, lie within `size` and add up to the `stored` bytes in the archive.
    pub(crate) fn new(segments: Vec<Segment>, size: u64, stored: u64) -> Option<Self> {
        let (mut end, mut total) = (0u64, 0u64);
        for segment in &segments {
            if segment.offset < end || segments.len() > MAX_SEGMENTS {
                return None;
            }
            end = segment.offset.checked_add(segment.length)?;
            total = total.checked_add(segment.length)?;
        }
        (end <= size && total == stored).then_some(Self(segments))
    }

    /// The segments.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }
}

/// What pax records say of a sparse file.
#[derive(Debug)]
pub(crate) enum PaxSparse {
    /// The map is in the records themselves (0.0 and 0.1).
    Segments(Vec<Segment>),
    /// The map stands before the data (1.0).
    InData,
}

impl PaxSparse {
    /// The sparse description in `records`, `Ok(None)` when they have none.
    pub(crate) fn of(records: &PaxRecords) -> Result<Option<Self>, ()> {
        let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
        if let (Some(b"1"), Some(b"0")) = version {
            return Ok(Some(Self::InData));
        }
        if let Some(map) = records.get("GNU.sparse.map") {
            let numbers: Option<Vec<u64>> = map.split(|byte| *byte == b',').map(parse_number).collect();
            return Ok(Some(Self::Segments(pair_up(&numbers.ok_or(())?)?)));
        }
        let mut numbers = Vec::new();
        for (key, value) in records.iter() {
            let expected: &[u8] = if numbers.len() % 2 == 0 {
                b"GNU.sparse.offset"
            } else {
                b"GNU.sparse.numbytes"
            };
            if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                numbers.push(parse_number(value).filter(|_| key == expected).ok_or(())?);
            }
        }
        match numbers.is_empty() {
            true => Ok(None),
            false => Ok(Some(Self::Segments(pair_up(&numbers)?))),
        }
    }
}

fn pair_up(numbers: &[u64]) -> Result<Vec<Segment>, ()> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    match rest {
        [] => Ok(pairs
            .iter()
            .map(|[offset, length]| Segment {
                offset: *offset,
                length: *length,
            })
            .collect()),
        _ => Err(()),
    }
}

/// Reads the map that version 1.0 puts before the data: decimal lines (a count, then offsets and lengths)
/// in whole 512-byte blocks. Returns it and the number of bytes that it took.
pub(crate) fn read_leading_map(data: &mut dyn Read) -> io::Result<(Vec<Segment>, u64)> {
    let mut lines = Lines {
        data,
        block: [0; BLOCK],
        next: BLOCK,
        taken: 0,
    };
    let count = lines.number()?;
    if count > MAX_SEGMENTS as u64 {
        return Err(io::Error::other(format!(
            "a sparse file of {count} segments; {MAX_SEGMENTS} are possible"
        )));
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(Segment {
            offset: lines.number()?,
            length: lines.number()?,
        });
    }
    Ok((segments, lines.taken))
}

struct Lines<'a> {
    data: &'a mut dyn Read,
    block: [u8; BLOCK],
    next: usize,
    taken: u64,
}

impl Lines<'_> {
    fn number(&mut self) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(io::Error::other("a sparse map with a very long number")),
            }
        }
        parse_number(&digits)
            .ok_or_else(|| io::Error::other("a sparse map that holds no number where one belongs"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.next == BLOCK {
            self.data.read_exact(&mut self.block)?;
            self.taken += BLOCK as u64;
            self.next = 0;
        }
        self.next += 1;
        Ok(self.block[self.next - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn maps_must_ascend_fit_and_add_up() {
        let good = vec![segment(0, 512), segment(4096, 100), segment(8192, 0)];
        assert!(SparseMap::new(good.clone(), 8192, 612).is_some());
        assert!(SparseMap::new(good.clone(), 8191, 612).is_none());
        assert!(SparseMap::new(good, 8192, 613).is_none());
        assert!(SparseMap::new(vec![segment(10, 10), segment(5, 10)], 100, 20).is_none());
        assert!(SparseMap::new(vec![segment(u64::MAX, 2)], u64::MAX, 2).is_none());
    }

    #[test]
    fn every_pax_version_is_understood() {
        let of = |text: &[u8]| PaxSparse::of(&PaxRecords::parse(text).unwrap());
        let pairs = b"23 GNU.sparse.offset=1\n25 GNU.sparse.numbytes=2\n";
        assert!(matches!(of(pairs), Ok(Some(PaxSparse::Segments(s))) if s == [segment(1, 2)]));
        let map = b"26 GNU.sparse.map=1,2,5,6\n";
        assert!(matches!(of(map), Ok(Some(PaxSparse::Segments(s))) if s == [segment(1, 2), segment(5, 6)]));
        let one = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n";
        assert!(matches!(of(one), Ok(Some(PaxSparse::InData))));
        assert!(matches!(of(b"9 path=a\n"), Ok(None)));
        assert!(of(b"24 GNU.sparse.map=1,2,5\n").is_err());
        assert!(of(b"25 GNU.sparse.numbytes=2\n").is_err());
    }

    #[test]
    fn a_leading_map_takes_whole_blocks() {
        let mut data = b"2\n0\n512\n1048576\n7\n".to_vec();
        data.resize(512, 0);
        data.extend_from_slice(b"data");
        let mut rest = data.as_slice();
        let (segments, taken) = read_leading_map(&mut rest).unwrap();
        assert_eq!(
            (segments, taken, rest),
            (vec![segment(0, 512), segment(1 << 20, 7)], 512, &b"data"[..])
        );
        let mut endless = io::repeat(b'1').take(1 << 20);
        assert!(read_leading_map(&mut endless).is_err());
        assert!(read_leading_map(&mut &b"99999999\n".repeat(100)[..]).is_err());
    }
}
