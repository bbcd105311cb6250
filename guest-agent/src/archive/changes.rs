//! What a container has changed of its image: `diff`. As Docker compares them: whatever mode, owner, device, capability
//! or kind tells apart, and for everything but directories size and modification time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};

use guest_protocol::{Change, ChangeKind, ContainerSpec};
use rustix::fs::{AtFlags, FileType, OFlags, Stat, statat};
use rustix::io::Errno;

use super::trees::{Layers, Tree};
use super::walk::{join, names};
use super::{Result, has_gone, text, xattrs};
use crate::os_error::{During, OsError};

/// What is mounted over the container's root, which is never part of it.
pub(super) struct Covered(BTreeSet<Vec<u8>>);

impl Covered {
    pub(super) fn of(container: &ContainerSpec) -> Self {
        let mounts = container.mounts.iter().map(|mount| &mount.target);
        let files = container.files.iter().map(|file| &file.target);
        let sockets = container.sockets.iter().map(|socket| &socket.target);
        let standard = ["/proc", "/dev", "/sys"].map(String::from);
        let names = |path: &String| {
            let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
            names.collect::<Vec<_>>().join("/").into_bytes()
        };
        let targets = mounts.chain(files).chain(sockets).chain(&standard);
        Self(targets.map(names).collect())
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }
}

/// Whether overlayfs has something of this name deleted: a character device 0/0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Answers [`guest_protocol::Task::Changes`].
pub(super) fn changes(container: &ContainerSpec, layers: &Layers, output: File) -> Result<()> {
    let mut comparison = Comparison {
        layers,
        covered: Covered::of(container),
        output: BufWriter::new(output),
        above: Vec::new(),
    };
    comparison.compare_all()?;
    let flushed = comparison.output.flush();
    Ok(flushed.map_err(guest_protocol::FrameError::from)?)
}

struct Comparison<'a> {
    layers: &'a Layers,
    covered: Covered,
    output: BufWriter<File>,
    /// The directories on the way to what is looked at, the root not among them.
    above: Vec<Above>,
}

/// A directory of the writable layer.
struct Above {
    path: Vec<u8>,
    /// Whether a change of it has been told.
    told: bool,
}

/// A directory whose names are yet to be compared, the next one last.
struct Pending {
    path: Vec<u8>,
    names: Vec<(Vec<u8>, Origin)>,
    /// Whether the image has a directory here.
    in_image: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Upper,
    /// Only the image has it, and the directory in the writable layer hides it.
    HiddenImage,
}

impl Comparison<'_> {
    fn compare_all(&mut self) -> Result<()> {
        let mut pending = vec![self.open(Vec::new(), self.layers.lower.is_some())?];
        while let Some(directory) = pending.last_mut() {
            let Some((name, origin)) = directory.names.pop() else {
                pending.pop();
                self.above.pop();
                continue;
            };
            let path = join(&directory.path, &name);
            let in_image = directory.in_image;
            if self.covered.contains(&path) {
                continue;
            }
            let entered = match origin {
                Origin::Upper => self.compare(&path, in_image)?,
                Origin::HiddenImage => {
                    self.tell(&path, ChangeKind::Deleted)?;
                    None
                }
            };
            if let Some(in_image) = entered {
                pending.push(self.open(path, in_image)?);
            }
        }
        Ok(())
    }

    /// Tells how one thing of the writable layer differs. For a directory to be entered it answers whether the image
    /// has a directory there.
    fn compare(&mut self, path: &[u8], parent_in_image: bool) -> Result<Option<bool>> {
        let Some(upper) = stat(&self.layers.upper, path)? else {
            return Ok(None);
        };
        let lower = match &self.layers.lower {
            Some(lower) if parent_in_image => stat(lower, path)?,
            _ => None,
        };
        if is_whiteout(&upper) {
            if lower.is_some() {
                self.tell(path, ChangeKind::Deleted)?;
            }
            return Ok(None);
        }
        let told = match &lower {
            None => Some(ChangeKind::Added),
            Some(lower) if self.differ(path, &upper, lower)? => Some(ChangeKind::Modified),
            Some(_) => None,
        };
        if let Some(kind) = told {
            self.tell(path, kind)?;
        }
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory(&upper) {
            return Ok(None);
        }
        self.above.push(Above {
            path: path.to_vec(),
            told: told.is_some(),
        });
        Ok(Some(lower.as_ref().is_some_and(is_directory)))
    }

    fn differ(&self, path: &[u8], upper: &Stat, lower: &Stat) -> Result<bool> {
        let identity = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        if identity(upper) != identity(lower) {
            return Ok(true);
        }
        match FileType::from_raw_mode(upper.st_mode) {
            FileType::Directory => Ok(false),
            kind => {
                let content = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
                Ok(content(upper) != content(lower)
                    || (kind == FileType::RegularFile && self.capabilities_differ(path)?))
            }
        }
    }

    fn capabilities_differ(&self, path: &[u8]) -> Result<bool> {
        let read = |tree: &Tree| -> Result<_> {
            match tree.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
                Ok(file) => Ok(xattrs::read(&file)
                    .into_iter()
                    .find(|xattr| xattr.name.starts_with(b"security."))),
                Err(error) if has_gone(error) => Ok(None),
                Err(error) => Ok(Err(error).during("open", text(path))?),
            }
        };
        let lower = self.layers.lower.as_ref().map(read).transpose()?;
        Ok(read(&self.layers.upper)? != lower.flatten())
    }

    /// Tells a change, and before it those of the directories above, which it makes changed.
    fn tell(&mut self, path: &[u8], kind: ChangeKind) -> Result<()> {
        for above in self.above.iter_mut().filter(|above| !above.told) {
            above.told = true;
            write(&mut self.output, &above.path, ChangeKind::Modified)?;
        }
        write(&mut self.output, path, kind)
    }

    fn open(&self, path: Vec<u8>, in_image: bool) -> Result<Pending> {
        let upper = &self.layers.upper;
        let read = |tree: &Tree| match names(tree, &path) {
            Ok(names) => Ok(names),
            Err(error) if has_gone(error) => Ok(Vec::new()),
            Err(error) => Err(error).during("read the directory", text(&path)),
        };
        let own: BTreeSet<_> = read(upper)?.into_iter().collect();
        let hidden = match &self.layers.lower {
            Some(lower) if in_image && is_opaque(upper, &path)? => read(lower)?,
            _ => Vec::new(),
        };
        let mut names: Vec<_> = hidden
            .into_iter()
            .filter(|name| !own.contains(name))
            .map(|name| (name, Origin::HiddenImage))
            .collect();
        names.extend(own.into_iter().map(|name| (name, Origin::Upper)));
        names.sort_unstable_by(|a, b| b.0.cmp(&a.0));
        Ok(Pending {
            path,
            names,
            in_image,
        })
    }
}

pub(super) fn is_opaque(tree: &Tree, path: &[u8]) -> Result<bool, OsError> {
    match tree.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => Ok(xattrs::is_opaque(&directory)),
        Err(error) if has_gone(error) => Ok(false),
        Err(error) => Err(error).during("open", text(path)),
    }
}

fn write(output: &mut impl Write, path: &[u8], kind: ChangeKind) -> Result<()> {
    let path = format!("/{}", text(path));
    Ok(output
        .write_all(&guest_protocol::encode(&Change { path, kind })?)
        .map_err(guest_protocol::FrameError::from)?)
}

/// What is at a path; `None` for nothing.
fn stat(tree: &Tree, path: &[u8]) -> Result<Option<Stat>> {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    };
    let looked = tree
        .directory(parent)
        .and_then(|parent| statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW));
    match looked {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Ok(Err(error).during("look at", text(path))?),
    }
}
