//! Writing a log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use tokio::sync::watch;

use super::{MAX_RECORD, Offsets, record};
use crate::OutputStream;

/// Memory for text on its way to the file is given back above this size.
const KEEP_CAPACITY: usize = 256 * 1024;

/// Writes a container's log. Its output arrives in any pieces; the file gets whole lines, or pieces of [`MAX_RECORD`]
/// bytes of longer ones, with one write for each piece of output.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: File,
    length: u64,
    logged: Offsets,
    partial: Partial,
    text: Vec<u8>,
    grown: watch::Sender<u64>,
    failed: bool,
}

/// The begun line of each stream.
#[derive(Debug, Default)]
struct Partial {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Partial {
    fn get(&mut self, stream: OutputStream) -> &mut Vec<u8> {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }
}

impl LogWriter {
    /// Opens the log to append what comes after these offsets, and makes it if it is missing. Its length is told to
    /// `grown` whenever it grows.
    pub(crate) fn open(path: &Path, logged: Offsets, grown: watch::Sender<u64>) -> io::Result<LogWriter> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        let length = file.metadata()?.len();
        grown.send_replace(length);
        let partial = Partial::default();
        Ok(LogWriter {
            file,
            length,
            logged,
            partial,
            text: Vec::new(),
            grown,
            failed: false,
        })
    }

    /// Takes output of a stream. Afterwards [`LogWriter::logged`] says how much of the stream is in the file.
    pub(crate) fn write(&mut self, stream: OutputStream, mut output: &[u8]) {
        let time = Timestamp::now().to_string();
        let partial = self.partial.get(stream);
        let logged = self.logged.get_mut(stream);
        let mut record = |text: &[u8]| {
            *logged += text.len() as u64;
            record::append(&mut self.text, stream, &time, text, *logged);
        };
        while !output.is_empty() {
            let room = MAX_RECORD - partial.len();
            let window = &output[..room.min(output.len())];
            let (piece, whole) = match window.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&window[..=end], true),
                None => (window, window.len() == room),
            };
            output = &output[piece.len()..];
            match (whole, partial.is_empty()) {
                (true, true) => record(piece),
                (true, false) => {
                    partial.extend_from_slice(piece);
                    record(partial);
                    partial.clear();
                }
                (false, _) => partial.extend_from_slice(piece),
            }
        }
        self.flush();
    }

    /// Writes the begun line of a stream that has ended.
    pub(crate) fn end(&mut self, stream: OutputStream) {
        let partial = std::mem::take(self.partial.get(stream));
        if !partial.is_empty() {
            let logged = self.logged.get_mut(stream);
            *logged += partial.len() as u64;
            record::append(
                &mut self.text,
                stream,
                &Timestamp::now().to_string(),
                &partial,
                *logged,
            );
            self.flush();
        }
    }

    /// How much of each stream is in the file.
    pub(crate) fn logged(&self) -> Offsets {
        self.logged
    }

    /// The length of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The begun line of a stream: what was taken and is not in the file yet.
    pub(crate) fn begun(&mut self, stream: OutputStream) -> &[u8] {
        self.partial.get(stream)
    }

    /// Writes the text. Text that cannot be written is dropped, as Docker does: a full disk must not stop the
    /// container.
    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        match self.file.write_all(&self.text) {
            Ok(()) => {
                self.length += self.text.len() as u64;
                self.failed = false;
                self.grown.send_replace(self.length);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(%error, "output of a container is dropped: its log cannot be written");
                }
                // A piece may have been written; the next line must begin on a line of its own.
                if let Err(error) = self.file.set_len(self.length) {
                    tracing::warn!(%error, "a torn line stays in a log");
                }
            }
        }
        self.text.clear();
        if self.text.capacity() > KEEP_CAPACITY {
            self.text = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputStream::{Stderr, Stdout};
    use crate::log::record::Line;

    fn written(outputs: &[(OutputStream, &[u8])]) -> (Vec<(OutputStream, Vec<u8>, u64)>, Offsets) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        let mut writer = LogWriter::open(&path, Offsets::default(), watch::Sender::new(0)).unwrap();
        for (stream, output) in outputs {
            writer.write(*stream, output);
        }
        writer.end(Stdout);
        writer.end(Stderr);
        let text = std::fs::read(&path).unwrap();
        assert_eq!(writer.length(), text.len() as u64);
        let records = text.split_inclusive(|&byte| byte == b'\n').map(|line| {
            let line = Line::parse(line).unwrap();
            let offset = line.offset;
            let record = line.into_record();
            (record.stream, record.bytes.to_vec(), offset)
        });
        (records.collect(), writer.logged())
    }

    #[test]
    fn output_in_pieces_becomes_lines_of_each_stream() {
        let (records, logged) = written(&[
            (Stdout, b"one\ntw"),
            (Stderr, b"oops\n"),
            (Stdout, b"o\nthree"),
            (Stdout, b""),
        ]);
        assert_eq!(
            records,
            [
                (Stdout, b"one\n".to_vec(), 4),
                (Stderr, b"oops\n".to_vec(), 5),
                (Stdout, b"two\n".to_vec(), 8),
                (Stdout, b"three".to_vec(), 13),
            ]
        );
        assert_eq!(
            logged,
            Offsets {
                stdout: 13,
                stderr: 5
            }
        );
    }

    #[test]
    fn a_long_line_is_several_records_and_offsets_count_raw_bytes() {
        let long = vec![0xff; MAX_RECORD + 10];
        let (records, logged) = written(&[(Stdout, &long[..100]), (Stdout, &long[100..]), (Stdout, b"\n")]);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].2, MAX_RECORD as u64);
        assert_eq!(records[1].2, MAX_RECORD as u64 + 11);
        assert_eq!(logged.stdout, MAX_RECORD as u64 + 11);
    }

    #[test]
    fn a_begun_line_is_not_logged_until_its_stream_ends() {
        let folder = tempfile::tempdir().unwrap();
        let grown = watch::Sender::new(7);
        let mut writer =
            LogWriter::open(&folder.path().join("log"), Offsets::default(), grown.clone()).unwrap();
        writer.write(Stdout, b"prompt> ");
        assert_eq!(writer.logged().stdout, 0);
        assert_eq!(writer.begun(Stdout), b"prompt> ");
        assert_eq!(*grown.borrow(), 0);
        writer.end(Stdout);
        assert_eq!(writer.logged().stdout, 8);
        assert_eq!(*grown.borrow(), writer.length());
    }

    #[test]
    fn a_full_disk_drops_output_and_goes_on() {
        let mut writer =
            LogWriter::open(Path::new("/dev/full"), Offsets::default(), watch::Sender::new(0)).unwrap();
        writer.write(Stdout, b"lost\n");
        assert_eq!(writer.length(), 0);
        assert_eq!(writer.logged().stdout, 5);
    }
}
