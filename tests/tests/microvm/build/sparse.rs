//! Files with holes in tar archives, as GNU tar writes them in its format "1.0": the archive has the pieces with data, one after the
//! other, and before them where they belong, in decimal numbers, a line each, filled up to a block.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};

const BLOCK: usize = 512;
/// The corpus has no larger ones.
const MOST: usize = 64 << 20;

/// The name of a file with holes, which its header does not have.
pub(super) fn name(extensions: &BTreeMap<String, Vec<u8>>) -> Option<&[u8]> {
    let is_sparse = extensions.contains_key("GNU.sparse.major");
    let name = extensions.get("GNU.sparse.name").filter(|_| is_sparse);
    name.map(Vec::as_slice)
}

/// All of such a file's content.
pub(super) fn content(mut pieces: impl Read, extensions: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let size = extensions
        .get("GNU.sparse.realsize")
        .context("a file with holes has no size")?;
    let size: usize = std::str::from_utf8(size)?.parse()?;
    ensure!(size <= MOST, "a file with holes has {size} bytes");
    let mut map = Numbers {
        input: &mut pieces,
        read: 0,
    };
    let count = map.next()?;
    let segments: Vec<(usize, usize)> = (0..count)
        .map(|_| Ok((map.next()?, map.next()?)))
        .collect::<Result<_>>()?;
    map.finish()?;
    let mut content = vec![0; size];
    for (offset, length) in segments {
        let piece = offset
            .checked_add(length)
            .and_then(|end| content.get_mut(offset..end));
        pieces.read_exact(piece.context("a piece lies behind the end")?)?;
    }
    Ok(content)
}

struct Numbers<'r, R> {
    input: &'r mut R,
    read: usize,
}

impl<R: Read> Numbers<'_, R> {
    fn next(&mut self) -> Result<usize> {
        let mut digits = String::new();
        loop {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            self.read += 1;
            match byte[0] {
                b'\n' => return Ok(digits.parse()?),
                digit => digits.push(digit.into()),
            }
        }
    }

    /// Goes on to the end of the block.
    fn finish(self) -> Result<()> {
        let rest = self.read.next_multiple_of(BLOCK) - self.read;
        Ok(self.input.read_exact(&mut vec![0; rest])?)
    }
}
