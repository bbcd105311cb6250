//! Where the last lines of a log begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::LogFiles;

/// How much is read at a time, from the end on.
const BLOCK: u64 = 256 * 1024;

/// Where the last `lines` lines before `end` begin.
pub(super) fn start(files: &LogFiles, end: u64, lines: u64) -> io::Result<u64> {
    let mut search = Search { lines, feeds: 0 };
    // What is rotated from here on is found below, and left out.
    let last = files.open_at(u64::MAX)?;
    let full = files.full_files()?;
    let begin = match &last {
        Some(last) => last.from,
        None => full.last().map_or(0, |full| full.to),
    };
    if let Some(last) = last
        && let Some(found) = search.back_from(&last.file, end.saturating_sub(begin))?
    {
        return Ok(begin + found);
    }
    let mut oldest = begin;
    for full in full.iter().rev().filter(|full| full.from < begin) {
        let Some(opened) = files.open_full(full)? else {
            break;
        };
        if let Some(found) = search.back_from(&opened.file, end.saturating_sub(full.from))? {
            return Ok(full.from + found);
        }
        oldest = full.from;
    }
    Ok(oldest)
}

/// Counts lines from the end on.
struct Search {
    lines: u64,
    feeds: u64,
}

impl Search {
    /// Where the wanted lines begin, if all of them are in this file before `end`.
    fn back_from(&mut self, file: &File, end: u64) -> io::Result<Option<u64>> {
        let mut upto = end.min(file.metadata()?.len());
        while upto > 0 {
            let begin = upto.saturating_sub(BLOCK);
            let mut block = vec![0; (upto - begin) as usize];
            file.read_exact_at(&mut block, begin)?;
            for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                // The line feed that ends the last line wanted is one more.
                self.feeds += 1;
                if self.feeds > self.lines {
                    return Ok(Some(begin + index as u64 + 1));
                }
            }
            upto = begin;
        }
        Ok(None)
    }
}
