//! Writing a log.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::record::{self, Head};
use super::{LogFiles, LogForm, MAX_RECORD, Offsets, Rotation};
use crate::OutputStream;

/// Memory for text on its way to the file is given back above this size.
const KEEP_CAPACITY: usize = 256 * 1024;

/// Writes a container's log. Its output arrives in any pieces; the file gets whole lines, or pieces of [`MAX_RECORD`]
/// bytes of longer ones, with one write for each piece of output.
#[derive(Debug)]
pub(crate) struct LogWriter {
    target: Target,
    logged: Offsets,
    partial: Partial,
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
    /// Opens the log to append what comes after these offsets, and makes it if it is missing. Where it ends is told to
    /// `grown` whenever it grows.
    pub(crate) fn open(
        files: &Arc<LogFiles>,
        form: LogForm,
        logged: Offsets,
        grown: watch::Sender<u64>,
    ) -> io::Result<LogWriter> {
        Ok(LogWriter {
            target: Target::open(files, form, grown)?,
            logged,
            partial: Partial::default(),
        })
    }

    /// Takes output of a stream. Afterwards [`LogWriter::logged`] says how much of the stream is in the file.
    pub(crate) fn write(&mut self, stream: OutputStream, mut output: &[u8]) {
        let time = Timestamp::now().to_string();
        let partial = self.partial.get(stream);
        let logged = self.logged.get_mut(stream);
        let target = &mut self.target;
        let mut record = |text: &[u8]| {
            *logged += text.len() as u64;
            target.add(stream, &time, text, *logged);
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
        self.target.flush();
    }

    /// Writes the begun line of a stream that has ended.
    pub(crate) fn end(&mut self, stream: OutputStream) {
        let partial = std::mem::take(self.partial.get(stream));
        if !partial.is_empty() {
            let logged = self.logged.get_mut(stream);
            *logged += partial.len() as u64;
            self.target
                .add(stream, &Timestamp::now().to_string(), &partial, *logged);
            self.target.flush();
        }
    }

    /// How much of each stream is in the log.
    pub(crate) fn logged(&self) -> Offsets {
        self.logged
    }

    /// Where the log ends.
    pub(crate) fn length(&self) -> u64 {
        self.target.end()
    }

    /// The begun line of a stream: what was taken and is not in the file yet.
    pub(crate) fn begun(&mut self, stream: OutputStream) -> &[u8] {
        self.partial.get(stream)
    }
}

/// The file that lines go to, and the next one when it is full.
#[derive(Debug)]
struct Target {
    files: Arc<LogFiles>,
    form: LogForm,
    file: File,
    /// Where the file begins in the log.
    from: u64,
    length: u64,
    text: Vec<u8>,
    grown: watch::Sender<u64>,
    failed: bool,
}

impl Target {
    fn open(files: &Arc<LogFiles>, form: LogForm, grown: watch::Sender<u64>) -> io::Result<Target> {
        let (file, from) = files.open_active()?;
        let length = file.metadata()?.len();
        grown.send_replace(from + length);
        if form.rotation.is_some_and(|rotation| rotation.compress) {
            files.resume_compressing();
        }
        Ok(Target {
            files: files.clone(),
            form,
            file,
            from,
            length,
            text: Vec::new(),
            grown,
            failed: false,
        })
    }

    fn end(&self) -> u64 {
        self.from + self.length
    }

    /// Adds a line to the text; one that has no room in the file any more goes to the next.
    fn add(&mut self, stream: OutputStream, time: &str, text: &[u8], offset: u64) {
        let before = self.text.len();
        let head = Head {
            stream,
            time,
            attributes: &self.form.attributes,
        };
        record::append(&mut self.text, head, text, offset);
        let Some(rotation) = self.form.rotation else {
            return;
        };
        let has_room = self.length + self.text.len() as u64 <= rotation.size;
        // A line that is longer than a file may be has one of its own.
        if has_room || self.length + before as u64 == 0 {
            return;
        }
        let line = self.text.split_off(before);
        self.flush();
        match self.rotate(&rotation) {
            Ok(()) => self.text = line,
            // Dropped, as what cannot be written is: the bound holds.
            Err(error) => self.tell_failure(&error),
        }
    }

    fn rotate(&mut self, rotation: &Rotation) -> io::Result<()> {
        if self.length > 0 {
            self.file = self.files.rotate(self.from, self.end(), rotation)?;
            (self.from, self.length) = (self.end(), 0);
        }
        Ok(())
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
                self.grown.send_replace(self.end());
            }
            Err(error) => {
                self.tell_failure(&error);
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

    fn tell_failure(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(%error, "output of a container is dropped: its log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::OutputStream::{Stderr, Stdout};
    use crate::log::record::Line;

    fn open(path: &Path, grown: watch::Sender<u64>) -> LogWriter {
        let files = LogFiles::new(path.to_owned());
        LogWriter::open(&files, LogForm::default(), Offsets::default(), grown).unwrap()
    }

    fn written(outputs: &[(OutputStream, &[u8])]) -> (Vec<(OutputStream, Vec<u8>, u64)>, Offsets) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        let mut writer = open(&path, watch::Sender::new(0));
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
        let mut writer = open(&folder.path().join("log"), grown.clone());
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
        let mut writer = open(Path::new("/dev/full"), watch::Sender::new(0));
        writer.write(Stdout, b"lost\n");
        assert_eq!(writer.length(), 0);
        assert_eq!(writer.logged().stdout, 5);
    }

    #[test]
    fn a_log_with_a_bound_goes_on_in_other_files_and_stays_within_it() {
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
        let grown = watch::Sender::new(0);
        let mut writer = LogWriter::open(&files, form, Offsets::default(), grown.clone()).unwrap();
        let mut output = Vec::new();
        for n in 0..200 {
            output.extend_from_slice(format!("line {n}\n").as_bytes());
        }
        // In one piece, and line by line.
        writer.write(Stdout, &output);
        for line in output.split_inclusive(|&byte| byte == b'\n') {
            writer.write(Stderr, line);
        }
        assert_eq!(writer.logged().stdout, output.len() as u64);
        assert_eq!(*grown.borrow(), writer.length());
        let mut sizes = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            sizes.push(entry.unwrap().metadata().unwrap().len());
        }
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        // A line that is longer than a file may be is kept whole.
        writer.write(Stdout, &[b'x'; 5000]);
        writer.end(Stdout);
        let opened = files.open_at(writer.length() - 1).unwrap().unwrap();
        assert!(opened.file.metadata().unwrap().len() > 5000);
        assert_eq!(
            writer.length() - opened.from,
            opened.file.metadata().unwrap().len()
        );
    }
}
