//! The files of a log: the one that is written to, and those that were full.
//!
//! ```text
//! log.json                  the one that is written to
//! log.json.<from>-<to>      a full one, with the bytes of the whole log from `from` up to `to`
//! log.json.<from>-<to>.gz   the same, compressed
//! ```
//! A place in a log is counted from the beginning of its first file, whether that is still there or not. The names say
//! where each file begins, so that a rotation is one rename, whatever happens around it. Where only one file may be
//! kept, an empty one tells where it begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::Rotation;

/// The files of one log.
#[derive(Debug)]
pub(crate) struct LogFiles {
    active: PathBuf,
    /// Held while names change, and by whoever looks at them.
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// Whether full files are being compressed.
    compressing: bool,
}

/// A full file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Full {
    pub(crate) from: u64,
    pub(crate) to: u64,
    compressed: bool,
}

/// A file of the log that is open to be read.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) file: Arc<File>,
    pub(crate) from: u64,
    /// Where it ends; `None` while it is written to.
    pub(crate) to: Option<u64>,
}

impl LogFiles {
    /// The log that is written to this file.
    pub(crate) fn new(active: PathBuf) -> Arc<LogFiles> {
        Arc::new(LogFiles {
            active,
            names: Mutex::default(),
        })
    }

    /// The file that is written to.
    pub(crate) fn active(&self) -> &Path {
        &self.active
    }

    /// Opens the file that is written to, to append; makes it if it is missing. Answers it with where it begins.
    pub(crate) fn open_active(&self) -> io::Result<(File, u64)> {
        let names = self.names();
        if !names.compressing {
            for left in [self.named("new"), self.named("gz.new")] {
                remove(&left)?;
            }
        }
        Ok((append_to(&self.active)?, self.begin()?))
    }

    /// Opens the file with this place, or the first one behind it; `None` if there is none.
    pub(crate) fn open_at(&self, position: u64) -> io::Result<Option<Opened>> {
        let (full, file) = {
            let _names = self.names();
            let full = self.full()?.into_iter().find(|full| full.to > position);
            let path = full.as_ref().map_or(self.active.clone(), |full| self.path(full));
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let from = match &full {
                Some(full) => full.from,
                None => self.begin()?,
            };
            (full.ok_or(from), file)
        };
        match full {
            Ok(full) => self.opened(&full, file).map(Some),
            Err(from) => Ok(Some(Opened {
                file: Arc::new(file),
                from,
                to: None,
            })),
        }
    }

    /// Opens a full file; `None` if it is not there any more.
    pub(crate) fn open_full(&self, full: &Full) -> io::Result<Option<Opened>> {
        let file = {
            let _names = self.names();
            let now = self.full()?.into_iter().find(|now| now.from == full.from);
            match now {
                None => return Ok(None),
                Some(now) => (File::open(self.path(&now))?, now),
            }
        };
        self.opened(&file.1, file.0).map(Some)
    }

    fn opened(&self, full: &Full, file: File) -> io::Result<Opened> {
        let file = match full.compressed {
            true => self.expand(full, &file)?,
            false => file,
        };
        Ok(Opened {
            file: Arc::new(file),
            from: full.from,
            to: Some(full.to),
        })
    }

    /// A compressed file's content, in a file without a name.
    fn expand(&self, full: &Full, file: &File) -> io::Result<File> {
        let mut content = tempfile::tempfile_in(self.folder())?;
        let length = full.to - full.from;
        io::copy(&mut GzDecoder::new(file).take(length), &mut content)?;
        Ok(content)
    }

    /// Where a file ends that was opened while it was written to; `None` if it still is.
    pub(crate) fn end_of(&self, opened: &Opened) -> io::Result<Option<u64>> {
        let _names = self.names();
        if self.begin()? <= opened.from {
            return Ok(None);
        }
        // Nothing is written to it any more.
        Ok(Some(opened.from + opened.file.metadata()?.len()))
    }

    /// The full files, the oldest first.
    pub(crate) fn full_files(&self) -> io::Result<Vec<Full>> {
        let _names = self.names();
        self.full()
    }

    /// Makes the file that is written to, which goes from `from` to `to`, a full one, and keeps no more files than
    /// there may be. Answers the next one to write to. May be called again after it failed.
    pub(crate) fn rotate(self: &Arc<Self>, from: u64, to: u64, rotation: &Rotation) -> io::Result<File> {
        let mut names = self.names();
        let full = Full {
            from,
            to,
            compressed: false,
        };
        if !self.path(&full).exists() {
            fs::rename(&self.active, self.path(&full))?;
        }
        let file = append_to(&self.active)?;
        self.prune(rotation.files)?;
        if rotation.compress {
            self.begin_to_compress(&mut names);
        }
        Ok(file)
    }

    /// Compresses full files that are not yet, in the background: what an earlier engine did not come to.
    pub(crate) fn resume_compressing(self: &Arc<Self>) {
        self.begin_to_compress(&mut self.names());
    }

    /// Removes the oldest files but for one less than `files`: one is written to.
    fn prune(&self, files: u32) -> io::Result<()> {
        let mut full = self.full()?;
        let keep = (files as usize).saturating_sub(1);
        let last = full.last().cloned();
        full.truncate(full.len().saturating_sub(keep));
        for full in full {
            if Some(&full) == last.as_ref() {
                // Its name tells where the file behind it begins. Who reads the old one goes on.
                let empty = self.named("new");
                private(&empty)?;
                fs::rename(&empty, self.path(&full))?;
            } else {
                remove(&self.path(&full))?;
            }
        }
        Ok(())
    }

    fn begin_to_compress(self: &Arc<Self>, names: &mut Names) {
        if names.compressing {
            return;
        }
        names.compressing = true;
        let files = self.clone();
        let spawned = std::thread::Builder::new()
            .name("log-gzip".into())
            .spawn(move || files.compress());
        if let Err(error) = spawned {
            names.compressing = false;
            tracing::warn!(%error, "a full log is not compressed");
        }
    }

    /// Compresses until there is nothing to compress.
    fn compress(&self) {
        loop {
            let next = {
                let mut names = self.names();
                let next = self.full().ok().and_then(|full| {
                    let mut plain = full.into_iter().filter(|full| !full.compressed);
                    plain.next()
                });
                names.compressing = next.is_some();
                next
            };
            let Some(full) = next else { return };
            if let Err(error) = self.compress_one(&full) {
                // A container that was removed has none.
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(log = %self.path(&full).display(), %error, "a full log is not compressed");
                }
                let _ = remove(&self.named("gz.new"));
                self.names().compressing = false;
                return;
            }
        }
    }

    fn compress_one(&self, full: &Full) -> io::Result<()> {
        let (plain, new) = (self.path(full), self.named("gz.new"));
        let mut from = File::open(&plain)?;
        let mut encoder = GzEncoder::new(private(&new)?, Compression::fast());
        io::copy(&mut from, &mut encoder)?;
        // Whole before it takes the place of the other.
        encoder.finish()?.sync_data()?;
        let _names = self.names();
        if !plain.exists() {
            return remove(&new);
        }
        fs::rename(
            &new,
            self.path(&Full {
                compressed: true,
                ..full.clone()
            }),
        )?;
        remove(&plain)
    }

    /// Where the file that is written to begins. For a caller that holds the names.
    fn begin(&self) -> io::Result<u64> {
        Ok(self.full()?.last().map_or(0, |full| full.to))
    }

    /// The full files, the oldest first. For a caller that holds the names.
    fn full(&self) -> io::Result<Vec<Full>> {
        let entries = match fs::read_dir(self.folder()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut full = Vec::new();
        for entry in entries {
            full.extend(self.parse(&entry?.file_name().to_string_lossy()));
        }
        full.sort_unstable();
        // One that was just compressed when its engine was killed is there twice.
        full.dedup_by_key(|full| full.from);
        Ok(full)
    }

    fn parse(&self, name: &str) -> Option<Full> {
        let active = self.active.file_name()?.to_str()?;
        let range = name.strip_prefix(active)?.strip_prefix('.')?;
        let (range, compressed) = match range.strip_suffix(".gz") {
            Some(range) => (range, true),
            None => (range, false),
        };
        let (from, to) = range.split_once('-')?;
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from < to).then_some(Full { from, to, compressed })
    }

    fn path(&self, full: &Full) -> PathBuf {
        let gz = if full.compressed { ".gz" } else { "" };
        self.named(&format!("{}-{}{gz}", full.from, full.to))
    }

    fn named(&self, suffix: &str) -> PathBuf {
        let mut path = self.active.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        path.into()
    }

    fn folder(&self) -> &Path {
        self.active.parent().unwrap_or(Path::new("/"))
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn rotation(files: u32, compress: bool) -> Rotation {
        Rotation {
            size: 1,
            files,
            compress,
        }
    }

    /// A log in which each of these texts has filled a file; what is written to begins behind them.
    fn filled(folder: &Path, texts: &[&str], rotation: &Rotation) -> Arc<LogFiles> {
        let files = LogFiles::new(folder.join("log.json"));
        let (mut file, mut from) = files.open_active().unwrap();
        for text in texts {
            file.write_all(text.as_bytes()).unwrap();
            let to = from + text.len() as u64;
            file = files.rotate(from, to, rotation).unwrap();
            from = to;
        }
        files
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn text(opened: &Opened) -> String {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; opened.file.metadata().unwrap().len() as usize];
        opened.file.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_more_files_are_kept_than_there_may_be_and_each_is_found_by_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let files = filled(folder.path(), &["aaaa", "bb", "cccc"], &rotation(3, false));
        assert_eq!(
            names(folder.path()),
            ["log.json", "log.json.4-6", "log.json.6-10"]
        );
        for (position, from, is) in [(0, 4, "bb"), (5, 4, "bb"), (6, 6, "cccc"), (10, 10, "")] {
            let opened = files.open_at(position).unwrap().unwrap();
            assert_eq!((opened.from, text(&opened).as_str()), (from, is), "{position}");
        }
        // Another engine finds the same.
        let files = LogFiles::new(folder.path().join("log.json"));
        assert_eq!(files.open_active().unwrap().1, 10);
    }

    #[test]
    fn a_log_of_one_file_knows_where_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let files = filled(folder.path(), &["aaaa", "bb"], &rotation(1, false));
        assert_eq!(names(folder.path()), ["log.json", "log.json.4-6"]);
        assert_eq!(fs::metadata(folder.path().join("log.json.4-6")).unwrap().len(), 0);
        assert_eq!(files.open_active().unwrap().1, 6);
    }

    #[test]
    fn who_reads_a_file_goes_on_when_it_is_full_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let files = filled(folder.path(), &[], &rotation(1, false));
        let (mut file, _) = files.open_active().unwrap();
        file.write_all(b"aaaa").unwrap();
        let opened = files.open_at(0).unwrap().unwrap();
        assert_eq!(files.end_of(&opened).unwrap(), None);
        files.rotate(0, 4, &rotation(1, false)).unwrap();
        assert_eq!(files.end_of(&opened).unwrap(), Some(4));
        assert_eq!(text(&opened), "aaaa");
    }

    #[test]
    fn a_rotation_that_was_cut_short_is_finished_by_the_next_one_or_the_next_engine() {
        let folder = tempfile::tempdir().unwrap();
        let active = folder.path().join("log.json");
        let files = filled(folder.path(), &["aaaa"], &rotation(3, false));
        fs::write(&active, "bb").unwrap();
        fs::rename(&active, folder.path().join("log.json.4-6")).unwrap();
        files.rotate(4, 6, &rotation(3, false)).unwrap();
        assert_eq!(names(folder.path()), ["log.json", "log.json.0-4", "log.json.4-6"]);
        fs::remove_file(&active).unwrap();
        let files = LogFiles::new(active);
        assert_eq!(files.open_active().unwrap().1, 6);
    }

    #[test]
    fn compressed_files_read_as_the_others_and_what_a_crash_left_of_one_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = filled(folder.path(), &["aaaa", "bb"], &rotation(3, true));
        while files.names().compressing {
            std::thread::yield_now();
        }
        assert_eq!(
            names(folder.path()),
            ["log.json", "log.json.0-4.gz", "log.json.4-6.gz"]
        );
        assert_eq!(text(&files.open_at(0).unwrap().unwrap()), "aaaa");
        // A crash left the one that was compressed, and a piece of another.
        fs::write(folder.path().join("log.json.0-4"), "aaaa").unwrap();
        fs::write(folder.path().join("log.json.gz.new"), "x").unwrap();
        let files = LogFiles::new(folder.path().join("log.json"));
        assert_eq!(files.open_active().unwrap().1, 6);
        assert_eq!(files.full_files().unwrap().len(), 2);
        assert!(!folder.path().join("log.json.gz.new").exists());
    }
}
