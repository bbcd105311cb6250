//! Reading a log.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::files::Opened;
use super::record::Line;
use super::{LogFiles, tail};
use crate::{EngineError, LogOptions, LogRecord, OutputStream, Result};

/// How much is read at a time. A record takes less, for a byte becomes at most six in JSON.
const BATCH: usize = 256 * 1024;

/// Reads a container's log record by record.
#[derive(Debug)]
pub struct LogReader {
    files: Arc<LogFiles>,
    options: LogOptions,
    terminal: bool,
    cursor: Cursor,
    follow: Option<Follow>,
    ready: VecDeque<LogRecord>,
    done: bool,
}

/// What a reader waits for that goes on with a container.
pub(crate) struct Follow {
    /// Where the log ends.
    pub(crate) grown: watch::Receiver<u64>,
    /// Completes when nothing will be written any more.
    pub(crate) ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("grown", &self.grown)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    /// A reader of a log, which may be missing. With `follow` it goes on as the log grows.
    pub(crate) fn new(
        files: Arc<LogFiles>,
        options: LogOptions,
        terminal: bool,
        follow: Option<Follow>,
    ) -> LogReader {
        LogReader {
            files,
            options,
            terminal,
            cursor: Cursor::new(u64::MAX),
            follow,
            ready: VecDeque::new(),
            done: false,
        }
    }

    /// A reader of the log up to this place.
    pub(crate) fn until(files: Arc<LogFiles>, options: LogOptions, end: u64) -> LogReader {
        LogReader {
            cursor: Cursor::new(end),
            ..LogReader::new(files, options, false, None)
        }
    }

    /// Whether the container has a terminal: its log then is one raw stream.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// The next record; `None` at the end. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Result<Option<LogRecord>> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if self.done {
                return Ok(None);
            }
            if let Some(follow) = &mut self.follow {
                // What is written from now on wakes it again.
                follow.grown.mark_unchanged();
            }
            if self.fill().await? {
                continue;
            }
            let Some(follow) = &mut self.follow else {
                self.done = true;
                continue;
            };
            let over = tokio::select! {
                biased;
                grown = follow.grown.changed() => grown.is_err(),
                () = &mut follow.ended => true,
            };
            if over {
                // What was written before the end is still to be read.
                self.follow = None;
            }
        }
    }

    /// Reads the next batch; whether there was one.
    async fn fill(&mut self) -> Result<bool> {
        let (files, options, mut cursor) = (self.files.clone(), self.options.clone(), self.cursor.clone());
        let read = tokio::task::spawn_blocking(move || {
            let lines = cursor.read(&files, &options)?;
            Ok::<_, io::Error>((Batch::of(&lines, &options), cursor, !lines.is_empty()))
        });
        let (batch, cursor, is_some) = read
            .await
            .map_err(|error| EngineError::Internal(format!("read a log: {error}")))?
            .map_err(EngineError::io("read the log", self.files.active()))?;
        self.cursor = cursor;
        self.ready.extend(batch.records);
        self.done |= batch.over;
        Ok(is_some)
    }
}

/// Where a reader is.
#[derive(Clone, Debug)]
struct Cursor {
    /// The file that it reads; one that is full, or gone, meanwhile is read to its end.
    opened: Option<Opened>,
    position: u64,
    /// Where to stop.
    limit: u64,
    /// Whether it is where the wanted lines begin.
    placed: bool,
}

impl Cursor {
    fn new(limit: u64) -> Cursor {
        Cursor {
            opened: None,
            position: 0,
            limit,
            placed: false,
        }
    }

    /// The next whole lines; nothing when there are none yet.
    fn read(&mut self, files: &LogFiles, options: &LogOptions) -> io::Result<Vec<u8>> {
        if !self.placed {
            if let Some(lines) = options.tail {
                self.position = tail::start(files, self.limit, lines)?;
            }
            self.placed = true;
        }
        loop {
            let Some(opened) = self.open(files)? else {
                return Ok(Vec::new());
            };
            if self.position >= self.limit {
                return Ok(Vec::new());
            }
            let wanted = BATCH.min(usize::try_from(self.limit - self.position).unwrap_or(BATCH));
            let lines = whole_lines(&opened.file, self.position - opened.from, wanted)?;
            if !lines.is_empty() {
                self.position += lines.len() as u64;
                return Ok(lines);
            }
            if !self.leave(files)? {
                return Ok(lines);
            }
        }
    }

    fn open(&mut self, files: &LogFiles) -> io::Result<Option<Opened>> {
        if self.opened.is_none() {
            self.opened = files.open_at(self.position)?;
            // What was there before is not kept any more.
            let from = self.opened.as_ref().map_or(0, |opened| opened.from);
            self.position = self.position.max(from);
        }
        Ok(self.opened.clone())
    }

    /// Leaves a file of which all is read for the next one; whether there is more to read.
    fn leave(&mut self, files: &LogFiles) -> io::Result<bool> {
        let Some(opened) = &mut self.opened else {
            return Ok(false);
        };
        if let Some(end) = opened.to {
            self.position = self.position.max(end);
            self.opened = None;
            return Ok(true);
        }
        // One that has just become full may have got more since it was read.
        opened.to = files.end_of(opened)?;
        Ok(opened.to.is_some())
    }
}

/// The whole lines among the next bytes. A line that is being written is read when it is whole.
fn whole_lines(file: &File, position: u64, wanted: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; wanted];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let whole = match bytes[..filled].iter().rposition(|&byte| byte == b'\n') {
        Some(feed) => feed + 1,
        // What fills all of it is no record.
        None if filled == BATCH => filled,
        None => 0,
    };
    bytes.truncate(whole);
    Ok(bytes)
}

struct Batch {
    records: Vec<LogRecord>,
    /// Whether a record after the wanted time was met.
    over: bool,
}

impl Batch {
    fn of(lines: &[u8], options: &LogOptions) -> Batch {
        let mut batch = Batch {
            records: Vec::new(),
            over: false,
        };
        for line in lines.split(|&byte| byte == b'\n').filter_map(Line::parse) {
            if options.until.is_some_and(|until| line.time() > until) {
                batch.over = true;
                break;
            }
            let wanted = match line.stream() {
                OutputStream::Stdout => options.stdout,
                OutputStream::Stderr => options.stderr,
            };
            if wanted && options.since.is_none_or(|since| line.time() >= since) {
                batch.records.push(line.into_record());
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputStream::{Stderr, Stdout};
    use crate::log::{LogForm, LogWriter, Offsets, Rotation};

    struct Log {
        folder: tempfile::TempDir,
        files: Arc<LogFiles>,
        writer: LogWriter,
        grown: watch::Sender<u64>,
    }

    fn log() -> Log {
        log_of(LogForm::default())
    }

    fn log_of(form: LogForm) -> Log {
        let folder = tempfile::tempdir().unwrap();
        let files = LogFiles::new(folder.path().join("log"));
        let grown = watch::Sender::new(0);
        let writer = LogWriter::open(&files, form, Offsets::default(), grown.clone()).unwrap();
        Log {
            folder,
            files,
            writer,
            grown,
        }
    }

    fn both() -> LogOptions {
        LogOptions {
            stdout: true,
            stderr: true,
            ..LogOptions::default()
        }
    }

    async fn all(mut reader: LogReader) -> String {
        let mut text = String::new();
        while let Some(record) = reader.next().await.unwrap() {
            text += std::str::from_utf8(&record.bytes).unwrap();
        }
        text
    }

    #[tokio::test]
    async fn only_the_wanted_streams_are_read() {
        let mut log = log();
        log.writer.write(Stdout, b"out\n");
        log.writer.write(Stderr, b"err\n");
        let options = LogOptions {
            stderr: true,
            ..LogOptions::default()
        };
        assert_eq!(
            all(LogReader::new(log.files.clone(), options, false, None)).await,
            "err\n"
        );
        assert_eq!(
            all(LogReader::new(log.files, both(), false, None)).await,
            "out\nerr\n"
        );
    }

    #[tokio::test]
    async fn tail_takes_the_last_lines_and_time_narrows() {
        let mut log = log();
        for n in 0..20_000 {
            log.writer.write(Stdout, format!("line {n}\n").as_bytes());
        }
        let tail = |lines| LogOptions {
            tail: Some(lines),
            ..both()
        };
        let read = |options| all(LogReader::new(log.files.clone(), options, false, None));
        assert_eq!(read(tail(2)).await, "line 19998\nline 19999\n");
        assert_eq!(read(tail(0)).await, "");
        assert_eq!(read(tail(1_000_000)).await.lines().count(), 20_000);
        assert_eq!(read(tail(10_000)).await.lines().count(), 10_000);
        let now = jiff::Timestamp::now();
        assert_eq!(
            read(LogOptions {
                since: Some(now),
                ..both()
            })
            .await,
            ""
        );
        assert_eq!(
            read(LogOptions {
                until: Some(now),
                ..both()
            })
            .await
            .lines()
            .count(),
            20_000
        );
        let long_ago = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(
            read(LogOptions {
                until: Some(long_ago),
                ..both()
            })
            .await,
            ""
        );
    }

    #[tokio::test]
    async fn a_follower_reads_what_is_written_later_up_to_the_end() {
        let mut log = log();
        log.writer.write(Stdout, b"before\n");
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let follow = Follow {
            grown: log.grown.subscribe(),
            ended: Box::pin(async { drop(ended.await) }),
        };
        let reader = tokio::spawn(all(LogReader::new(
            log.files.clone(),
            both(),
            false,
            Some(follow),
        )));
        tokio::task::yield_now().await;
        log.writer.write(Stdout, b"later\n");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        log.writer.write(Stdout, b"last");
        log.writer.end(Stdout);
        end.send(()).unwrap();
        assert_eq!(reader.await.unwrap(), "before\nlater\nlast");
    }

    #[tokio::test]
    async fn a_missing_log_is_empty() {
        let reader = LogReader::new(LogFiles::new("/nonexistent/log".into()), both(), false, None);
        assert_eq!(all(reader).await, "");
    }

    fn bounded(files: u32, compress: bool) -> LogForm {
        LogForm {
            rotation: Some(Rotation {
                size: 2000,
                files,
                compress,
            }),
            attributes: Vec::new(),
        }
    }

    fn numbers(text: &str) -> Vec<u32> {
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn full_files_are_read_with_the_last_one_compressed_or_not() {
        for compress in [false, true] {
            let mut log = log_of(bounded(1000, compress));
            for n in 0..2000 {
                log.writer.write(Stdout, format!("{n}\n").as_bytes());
            }
            assert!(std::fs::read_dir(log.folder.path()).unwrap().count() > 10);
            let read = |tail| {
                let options = LogOptions { tail, ..both() };
                all(LogReader::new(log.files.clone(), options, false, None))
            };
            assert_eq!(numbers(&read(None).await), Vec::from_iter(0..2000));
            for lines in [0, 1, 23, 24, 25, 500, 1999, 2000, 9999] {
                let first = 2000_u32.saturating_sub(lines);
                let tail = read(Some(lines.into())).await;
                assert_eq!(numbers(&tail), Vec::from_iter(first..2000), "{lines}");
            }
            let end = log.writer.length();
            log.writer.write(Stdout, b"2000\n");
            let until = LogReader::until(log.files.clone(), both(), end);
            assert_eq!(numbers(&all(until).await).len(), 2000);
        }
    }

    #[tokio::test]
    async fn what_is_not_kept_any_more_is_left_out() {
        let mut log = log_of(bounded(2, false));
        for n in 0..1000 {
            log.writer.write(Stdout, format!("{n}\n").as_bytes());
        }
        let reader = LogReader::new(log.files.clone(), both(), false, None);
        let kept = numbers(&all(reader).await);
        assert!(kept.len() > 20 && kept.len() < 60, "{kept:?}");
        assert_eq!(kept, Vec::from_iter(1000 - kept.len() as u32..1000));
    }

    #[tokio::test]
    async fn a_follower_that_keeps_up_gets_each_line_once_over_rotations() {
        for files in [1, 2, 5] {
            let mut log = log_of(bounded(files, false));
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let follow = Follow {
                grown: log.grown.subscribe(),
                ended: Box::pin(async { drop(ended.await) }),
            };
            let mut reader = LogReader::new(log.files.clone(), both(), false, Some(follow));
            let mut got = Vec::new();
            for n in 0..500_u32 {
                // Whole pieces of it are rotated away between two looks.
                log.writer.write(Stdout, format!("{n}\n").as_bytes());
                if n % 20 == 19 {
                    for _ in 0..20 {
                        let record = reader.next().await.unwrap().unwrap();
                        got.push(String::from_utf8(record.bytes.to_vec()).unwrap());
                    }
                }
            }
            end.send(()).unwrap();
            assert!(reader.next().await.unwrap().is_none());
            assert_eq!(numbers(&got.concat()), Vec::from_iter(0..500));
        }
    }

    #[tokio::test]
    async fn a_follower_beside_a_writer_loses_and_doubles_nothing_of_what_is_kept() {
        for compress in [false, true] {
            let mut log = log_of(bounded(1000, compress));
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let follow = Follow {
                grown: log.grown.subscribe(),
                ended: Box::pin(async { drop(ended.await) }),
            };
            let reader = LogReader::new(log.files.clone(), both(), false, Some(follow));
            let writer = std::thread::spawn(move || {
                for n in 0..10_000 {
                    log.writer.write(Stdout, format!("{n}\n").as_bytes());
                }
                end.send(()).unwrap();
                log
            });
            assert_eq!(numbers(&all(reader).await), Vec::from_iter(0..10_000));
            writer.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_log_that_was_emptied_by_somebody_does_not_keep_its_follower_busy() {
        let mut log = log();
        log.writer.write(Stdout, b"before\n");
        std::fs::write(log.files.active(), "").unwrap();
        let follow = Follow {
            grown: log.grown.subscribe(),
            ended: Box::pin(std::future::pending()),
        };
        let mut reader = LogReader::new(log.files.clone(), both(), false, Some(follow));
        let wait = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, reader.next()).await.is_err());
        log.writer.write(Stdout, b"after\n");
        let record = reader.next().await.unwrap().unwrap();
        assert_eq!(record.bytes, "after\n");
    }
}
