//! Reading a log.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::record::Line;
use crate::{EngineError, LogOptions, LogRecord, OutputStream, Result};

/// How much is read at a time. A record takes less, for a byte becomes at most six in JSON.
const BATCH: usize = 256 * 1024;

/// Reads a container's log record by record.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    options: LogOptions,
    terminal: bool,
    file: Option<Arc<File>>,
    position: u64,
    /// Where to stop, in bytes from the beginning of the file.
    limit: u64,
    follow: Option<Follow>,
    ready: VecDeque<LogRecord>,
    done: bool,
}

/// What a reader waits for that goes on with a container.
pub(crate) struct Follow {
    /// The length of the file.
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
    /// A reader of the log at `path`, which may be missing. With `follow` it goes on as the file grows.
    pub(crate) fn new(
        path: PathBuf,
        options: LogOptions,
        terminal: bool,
        follow: Option<Follow>,
    ) -> LogReader {
        LogReader {
            path,
            options,
            terminal,
            file: None,
            position: 0,
            limit: u64::MAX,
            follow,
            ready: VecDeque::new(),
            done: false,
        }
    }

    /// A reader of the first `length` bytes of the log.
    pub(crate) fn until(path: PathBuf, options: LogOptions, length: u64) -> LogReader {
        LogReader {
            limit: length,
            ..LogReader::new(path, options, false, None)
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
            if self.fill().await? {
                continue;
            }
            let Some(follow) = &mut self.follow else {
                self.done = true;
                continue;
            };
            let position = self.position;
            let over = tokio::select! {
                biased;
                grown = follow.grown.wait_for(|length| *length > position) => grown.is_err(),
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
        let (path, file, position, limit) = (self.path.clone(), self.file.clone(), self.position, self.limit);
        let options = self.options.clone();
        let read = tokio::task::spawn_blocking(move || -> io::Result<Option<Batch>> {
            let (file, position) = match file {
                Some(file) => (file, position),
                None => match File::open(&path) {
                    Ok(file) => {
                        let end = file.metadata()?.len().min(limit);
                        let tail = options
                            .tail
                            .map(|lines| tail_start(&file, position, end, lines))
                            .transpose()?;
                        (Arc::new(file), tail.unwrap_or(position))
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                },
            };
            Batch::read(file, position, limit, &options).map(Some)
        });
        let batch = read
            .await
            .map_err(|error| EngineError::Internal(format!("read a log: {error}")))?;
        let Some(batch) = batch.map_err(EngineError::io("read the log", &self.path))? else {
            return Ok(false);
        };
        let moved = batch.position > self.position || self.file.is_none();
        self.file = Some(batch.file);
        self.position = batch.position;
        self.ready.extend(batch.records);
        self.done |= batch.over;
        Ok(moved)
    }
}

struct Batch {
    file: Arc<File>,
    records: Vec<LogRecord>,
    position: u64,
    /// Whether a record after the wanted time was met.
    over: bool,
}

impl Batch {
    fn read(file: Arc<File>, position: u64, limit: u64, options: &LogOptions) -> io::Result<Batch> {
        let mut bytes = vec![0; BATCH.min(limit.saturating_sub(position) as usize)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A line that is being written is read when it is whole. One that fills the batch is no record.
        let whole = match bytes[..filled].iter().rposition(|&byte| byte == b'\n') {
            Some(feed) => feed + 1,
            None if filled == BATCH => filled,
            None => 0,
        };
        let mut batch = Batch {
            file,
            records: Vec::new(),
            position: position + whole as u64,
            over: false,
        };
        let lines = bytes[..whole]
            .split(|&byte| byte == b'\n')
            .filter_map(Line::parse);
        for line in lines {
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
        Ok(batch)
    }
}

/// Where the last `lines` lines before `end` begin, not before `start`.
fn tail_start(file: &File, start: u64, end: u64, lines: u64) -> io::Result<u64> {
    let mut feeds = 0;
    let mut upto = end;
    while upto > start {
        let begin = upto.saturating_sub(BATCH as u64).max(start);
        let mut block = vec![0; (upto - begin) as usize];
        file.read_exact_at(&mut block, begin)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The line feed that ends the last line wanted is one more.
            feeds += 1;
            if feeds > lines {
                return Ok(begin + index as u64 + 1);
            }
        }
        upto = begin;
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputStream::{Stderr, Stdout};
    use crate::log::{LogWriter, Offsets};

    struct Log {
        _folder: tempfile::TempDir,
        path: PathBuf,
        writer: LogWriter,
        grown: watch::Sender<u64>,
    }

    fn log() -> Log {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let grown = watch::Sender::new(0);
        let writer = LogWriter::open(&path, Offsets::default(), grown.clone()).unwrap();
        Log {
            _folder: folder,
            path,
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
            all(LogReader::new(log.path.clone(), options, false, None)).await,
            "err\n"
        );
        assert_eq!(
            all(LogReader::new(log.path, both(), false, None)).await,
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
        let read = |options| all(LogReader::new(log.path.clone(), options, false, None));
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
        let reader = tokio::spawn(all(LogReader::new(log.path.clone(), both(), false, Some(follow))));
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
        let reader = LogReader::new("/nonexistent/log".into(), both(), false, None);
        assert_eq!(all(reader).await, "");
    }
}
