//! The archive of a folder: equal folders give equal archives.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use dockerfile::pattern::Walk;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tar_stream::{Entry, EntryKind, FileId, HardLinks, Writer, Xattr};

use super::contents::{Known, LEAST, LargeFile};
use super::selection::Selection;
use crate::commands::local_file::{describe, fill, kind, sorted_entries};

const PIECE: usize = 128 << 10;
/// The one attribute that Docker's clients send: what a program may do without being root.
const CAPABILITY: &str = "security.capability";
/// The longest value that the kernel takes for it, with much to spare.
const CAPABILITY_SIZE: usize = 256;
/// The mode of files that are not taken from the folder.
const ADDED_MODE: u16 = 0o644;

/// What is sent.
#[derive(Debug)]
pub(super) struct FolderContext {
    /// The folder, if there is one.
    pub(super) folder: Option<PathBuf>,
    /// Which of its files.
    pub(super) selection: Selection,
    /// Files beside those of the folder.
    pub(super) added: Vec<(String, Vec<u8>)>,
    /// Files whose contents need not be sent.
    pub(super) known: Known,
}

impl FolderContext {
    /// Writes the archive.
    pub(super) fn pack(&self, to: impl Write) -> anyhow::Result<()> {
        self.walk(to, Contents::Sent(&self.known))
    }

    /// The large files of the archive.
    pub(super) fn large_files(&self) -> anyhow::Result<Vec<LargeFile>> {
        let mut files = Vec::new();
        self.walk(io::sink(), Contents::Listed(&mut files))?;
        Ok(files)
    }

    fn walk(&self, to: impl Write, contents: Contents<'_>) -> anyhow::Result<()> {
        let mut packer = Packer {
            archive: Writer::new(to),
            selection: &self.selection,
            contents,
            links: HardLinks::default(),
            above: Vec::new(),
            buffer: vec![0; PIECE],
        };
        for (name, content) in &self.added {
            packer.add_content(name, content)?;
        }
        if let Some(folder) = &self.folder {
            packer.add_below(folder, b"", &self.selection.ignore.walk())?;
        }
        packer.archive.finish()?.flush()?;
        Ok(())
    }
}

/// What becomes of the contents of files.
enum Contents<'a> {
    /// They are sent, but for these.
    Sent(&'a Known),
    /// Large ones are put on this list, and none is sent.
    Listed(&'a mut Vec<LargeFile>),
}

struct Packer<'a, W: Write> {
    archive: Writer<W>,
    selection: &'a Selection,
    contents: Contents<'a>,
    links: HardLinks,
    /// Folders on the way to where the walk is that were not written: they are when something in them is.
    above: Vec<Entry>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<'_, W> {
    fn add_content(&mut self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let mut entry = Entry::new(name, EntryKind::Regular);
        entry.mode = ADDED_MODE;
        entry.size = content.len() as u64;
        self.archive.begin(&entry)?;
        Ok(self.archive.write(content)?)
    }

    /// What is in a directory, which the archive calls `name`.
    fn add_below(&mut self, directory: &Path, name: &[u8], walk: &Walk<'_>) -> anyhow::Result<()> {
        for (below, kind) in sorted_entries(directory)? {
            let mut inside = name.to_vec();
            if !name.is_empty() {
                inside.push(b'/');
            }
            inside.extend_from_slice(below.as_bytes());
            let path = directory.join(below);
            let is_taken = self.selection.takes(walk, &String::from_utf8_lossy(&inside));
            match kind.is_file() {
                true if is_taken => self.add_file(&path, &inside)?,
                true => {}
                false => self.add_other(&path, &inside, is_taken, walk)?,
            }
        }
        Ok(())
    }

    /// Anything but a regular file.
    fn add_other(&mut self, path: &Path, name: &[u8], is_taken: bool, walk: &Walk<'_>) -> anyhow::Result<()> {
        let looked = || format!("cannot look at {}", path.display());
        let metadata = fs::symlink_metadata(path).with_context(looked)?;
        if metadata.is_dir() {
            let mut entry = describe(name, EntryKind::Directory, &metadata);
            entry.path.push(b'/');
            return self.add_directory(path, name, entry, is_taken, walk);
        }
        let Some(kind) = kind(&metadata).filter(|_| is_taken) else {
            return Ok(());
        };
        if kind == EntryKind::Regular {
            // It has only just become one.
            return self.add_file(path, name);
        }
        let mut entry = plain(describe(name, kind, &metadata));
        if kind == EntryKind::Symlink {
            let target = fs::read_link(path).with_context(looked)?;
            entry.link = target.as_os_str().as_bytes().to_vec();
        }
        self.write_above()?;
        self.links.link(&mut entry, file_id(&metadata), metadata.nlink());
        Ok(self.archive.begin(&entry)?)
    }

    fn add_directory(
        &mut self,
        path: &Path,
        name: &[u8],
        entry: Entry,
        is_taken: bool,
        walk: &Walk<'_>,
    ) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(name);
        let entry = plain(entry);
        let depth = self.above.len();
        if is_taken {
            self.write_above()?;
            self.archive.begin(&entry)?;
        } else {
            self.above.push(entry);
        }
        let inside = walk.enter(&text);
        if self.selection.reads(&inside, &text) {
            self.add_below(path, name, &inside)?;
        }
        self.above.truncate(depth);
        Ok(())
    }

    fn write_above(&mut self) -> anyhow::Result<()> {
        for entry in self.above.drain(..) {
            self.archive.begin(&entry)?;
        }
        Ok(())
    }

    /// A regular file. What it is shows when it is open, so that nothing but its name is looked up, once.
    fn add_file(&mut self, path: &Path, name: &[u8]) -> anyhow::Result<()> {
        let cannot = || {
            format!(
                "cannot read {} (what the build does not need can be left out with .dockerignore)",
                path.display()
            )
        };
        let mut file = open(path).with_context(cannot)?;
        let metadata = file.metadata().with_context(cannot)?;
        ensure!(
            metadata.is_file(),
            "{} was replaced while it was read: build again",
            path.display()
        );
        let mut entry = plain(describe(name, EntryKind::Regular, &metadata));
        self.write_above()?;
        if self.links.link(&mut entry, file_id(&metadata), metadata.nlink()) {
            return Ok(self.archive.begin(&entry)?);
        }
        let known = match &mut self.contents {
            Contents::Listed(files) => {
                if metadata.len() >= LEAST {
                    files.push(LargeFile::read(path, &file).with_context(cannot)?);
                }
                return Ok(());
            }
            Contents::Sent(known) => known.attribute(path, metadata.len()),
        };
        entry.xattrs.extend(capability(&file).with_context(cannot)?);
        if let Some(known) = known {
            entry.xattrs.push(known);
            return Ok(self.archive.begin(&entry)?);
        }
        entry.size = metadata.len();
        self.archive.begin(&entry)?;
        fill(&mut self.archive, &mut file, path, &mut self.buffer)
    }
}

/// Opens a file. What has taken its place meanwhile is neither followed nor waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn file_id(metadata: &Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// Whoever has a file here, in a context it is root's; and Docker's clients know whole seconds.
fn plain(mut entry: Entry) -> Entry {
    entry.uid = 0;
    entry.gid = 0;
    entry.mtime.nanoseconds = 0;
    entry
}

/// The file's capabilities, if it has any.
fn capability(file: &File) -> Result<Option<Xattr>, Errno> {
    let mut value = [0; CAPABILITY_SIZE];
    match rustix::fs::fgetxattr(file, CAPABILITY, &mut value) {
        Ok(length) => Ok(Some(Xattr {
            name: CAPABILITY.into(),
            value: value.get(..length).unwrap_or_default().to_vec(),
        })),
        // There are none, or the file system has none.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}
