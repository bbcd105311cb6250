//! Taking up a log that was being written when its writer was killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use super::record::Line;
use super::{LogFiles, Offsets};
use crate::OutputStream;

/// How much is read at a time, from the end on.
const BLOCK: u64 = 1 << 20;

/// Cuts a torn last line off and finds up to where each stream was logged, looking at nothing before `start`: there
/// the log of the current run begins.
pub(crate) fn recover(files: &LogFiles, start: u64) -> io::Result<Offsets> {
    let mut found = Found::default();
    let full = files.full_files()?;
    let begin = full.last().map_or(0, |full| full.to);
    match OpenOptions::new().read(true).write(true).open(files.active()) {
        Ok(file) => {
            let whole = scan(&file, start.saturating_sub(begin), &mut found)?;
            if whole < file.metadata()?.len() {
                file.set_len(whole)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for full in full.iter().rev() {
        if found.both() || full.to <= start {
            break;
        }
        if let Some(opened) = files.open_full(full)? {
            scan(&opened.file, start.saturating_sub(full.from), &mut found)?;
        }
    }
    Ok(found.offsets())
}

/// Looks for the last line of each stream in a file from `start` on; where the last whole line ends.
fn scan(file: &File, start: u64, found: &mut Found) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut whole = None;
    // The beginning of a line whose end was in the block after this one.
    let mut rest = Vec::new();
    while end > start && !found.both() {
        let begin = end.saturating_sub(BLOCK).max(start);
        let mut block = vec![0; (end - begin) as usize];
        file.read_exact_at(&mut block, begin)?;
        block.append(&mut rest);
        let mut upto = block.len();
        while let Some(feed) = block[..upto].iter().rposition(|&byte| byte == b'\n') {
            match whole {
                // The last line feed of the file: what follows it is torn.
                None => whole = Some(begin + feed as u64 + 1),
                Some(_) => found.line(&block[feed + 1..upto]),
            }
            upto = feed;
        }
        if begin == start && whole.is_some() {
            found.line(&block[..upto]);
        }
        // Of a torn line nothing is needed but that it is there.
        block.truncate(if whole.is_some() { upto } else { 0 });
        rest = block;
        end = begin;
    }
    Ok(whole.unwrap_or(start.min(length)))
}

#[derive(Default)]
struct Found {
    stdout: Option<u64>,
    stderr: Option<u64>,
}

impl Found {
    fn line(&mut self, line: &[u8]) {
        let Some(line) = Line::parse(line) else { return };
        let slot = match line.stream() {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        slot.get_or_insert(line.offset);
    }

    fn both(&self) -> bool {
        self.stdout.is_some() && self.stderr.is_some()
    }

    fn offsets(&self) -> Offsets {
        Offsets {
            stdout: self.stdout.unwrap_or(0),
            stderr: self.stderr.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::OutputStream::{Stderr, Stdout};
    use crate::log::{LogForm, LogWriter, Rotation};

    fn log(path: &Path) -> (Arc<LogFiles>, LogWriter) {
        let files = LogFiles::new(path.to_owned());
        let writer = open(&files, LogForm::default());
        (files, writer)
    }

    fn open(files: &Arc<LogFiles>, form: LogForm) -> LogWriter {
        LogWriter::open(files, form, Offsets::default(), watch::Sender::new(0)).unwrap()
    }

    #[test]
    fn a_torn_line_is_cut_and_the_offsets_before_it_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (files, mut writer) = log(&path);
        writer.write(Stderr, b"early\n");
        // More than a block, so that lines lie across its border.
        let line = [b"x".repeat(999).as_slice(), b"\n"].concat();
        for _ in 0..3000 {
            writer.write(Stdout, &line);
        }
        let length = writer.length();
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(br#"{"log":"torn"#);
        std::fs::write(&path, text).unwrap();
        assert_eq!(
            recover(&files, 0).unwrap(),
            Offsets {
                stdout: 3_000_000,
                stderr: 6
            }
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
        assert_eq!(recover(&files, 0).unwrap(), writer.logged());
    }

    #[test]
    fn an_earlier_run_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (files, mut writer) = log(&path);
        writer.write(Stdout, b"first run\n");
        let start = writer.length();
        assert_eq!(recover(&files, start).unwrap(), Offsets::default());
        let mut writer = open(&files, LogForm::default());
        writer.write(Stdout, b"2\n");
        assert_eq!(recover(&files, start).unwrap(), Offsets { stdout: 2, stderr: 0 });
    }

    #[test]
    fn a_log_that_is_missing_or_all_torn_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let files = LogFiles::new(path.clone());
        assert_eq!(recover(&files, 0).unwrap(), Offsets::default());
        std::fs::write(&path, b"{\"log\":").unwrap();
        assert_eq!(recover(&files, 0).unwrap(), Offsets::default());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_stream_that_wrote_last_in_a_full_file_is_found_there() {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::new(folder.path().join("log"));
        let form = LogForm {
            rotation: Some(Rotation {
                size: 1000,
                files: 3,
                compress: false,
            }),
            attributes: Vec::new(),
        };
        let mut writer = open(&files, form.clone());
        writer.write(Stdout, b"first run\n");
        let start = writer.length();
        let mut writer = open(&files, form);
        writer.write(Stderr, b"early\n");
        for _ in 0..20 {
            writer.write(Stdout, b"0123456789\n");
        }
        let logged = writer.logged();
        assert!(!files.full_files().unwrap().is_empty());
        // With another engine's eyes.
        let files = LogFiles::new(folder.path().join("log"));
        assert_eq!(recover(&files, start).unwrap(), logged);
    }
}
