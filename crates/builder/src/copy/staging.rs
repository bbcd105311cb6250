//! What a layer is to hold, over the tree that it goes on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use tar_stream::{Device, FileId};
use tokio_util::sync::CancellationToken;

use super::CopyError;
use super::options::CopyOptions;
use crate::cancellation::check;
use crate::file_tree::{Attributes, FileTree, Node, NodeKind, TreeError, printable};
use crate::lookup::{LastLink, StepKind, Walkable, Walked, walk};
use crate::paths::{MAX_NAME, MAX_PATH, is_whiteout, join, last_name, parent};
use crate::spool::{Extent, SpoolWriter};

/// What the paths, links and extended attributes of a layer may have together, in bytes: a million of usual ones have a fifth of it.
const MAX_DESCRIBED: u64 = 512 << 20;

/// The layer so far, and the tree below it. Paths are clean and lead over no link.
pub(super) struct Staging<'a> {
    below: &'a dyn FileTree,
    entries: BTreeMap<Vec<u8>, Staged<'a>>,
    folder: PathBuf,
    /// What archives hold, once there is one.
    pub(super) spool: Option<SpoolWriter>,
    pub(super) unpacked: u64,
    /// Bytes of paths, links and extended attributes that were put into the layer: all of them are in memory.
    described: u64,
    /// Counts what is copied at once.
    pub(super) copies: u64,
    instruction: &'static str,
    max_entries: u64,
    pub(super) token: CancellationToken,
}

/// All files of a layer by their paths, what archives hold of them, and the folder for that.
pub(super) type Finished<'a> = (BTreeMap<Vec<u8>, Staged<'a>>, Option<SpoolWriter>, PathBuf);

/// A file of the layer.
#[derive(Clone)]
pub(super) struct Staged<'a> {
    pub(super) attributes: Attributes,
    pub(super) body: StagedBody<'a>,
}

#[derive(Clone)]
pub(super) enum StagedBody<'a> {
    Directory {
        /// Whether it hides what is below it.
        is_opaque: bool,
    },
    Regular {
        size: u64,
        content: StagedContent<'a>,
        /// Names with one file are hard links. `None` has one name only.
        file: Option<SharedFile>,
    },
    Symlink(Vec<u8>),
    Special(NodeKind),
}

/// A file with several names, in what is copied at once: as with BuildKit, each thing that a source names is copied on its own.
pub(super) type SharedFile = (u64, FileId);

#[derive(Clone)]
pub(super) enum StagedContent<'a> {
    Tree(&'a dyn FileTree, Node),
    Spool(Extent),
}

/// A place in what the tree is to become.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) path: Vec<u8>,
    /// What the tree below has here; shown or not.
    pub(super) below: Option<Node>,
    /// Whether what is in the directory below is shown.
    shows_below: bool,
}

impl<'a> Staging<'a> {
    pub(super) fn new(below: &'a dyn FileTree, options: &CopyOptions<'_>, folder: &Path) -> Self {
        Self {
            below,
            entries: BTreeMap::new(),
            folder: folder.to_owned(),
            spool: None,
            unpacked: 0,
            described: 0,
            copies: 0,
            instruction: options.instruction,
            max_entries: options.max_entries,
            token: options.token.clone(),
        }
    }

    /// Whether a path leads to a directory, links followed.
    pub(super) fn is_directory(&self, path: &[u8]) -> Result<bool, TreeError> {
        match walk(self, path, LastLink::Follow) {
            Ok(walked) => Ok(walked.missing.is_empty() && self.shows_directory(&walked.end)?),
            Err(TreeError::NotADirectory { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the file at a place is a directory.
    pub(super) fn shows_directory(&self, spot: &Spot) -> Result<bool, TreeError> {
        Ok(match self.entries.get(&spot.path) {
            Some(staged) => matches!(staged.body, StagedBody::Directory { .. }),
            None => spot.path.is_empty() || spot.below.as_ref().is_some_and(Node::is_directory),
        })
    }

    /// The directory that a walk leads to; what of the way is missing is made with these attributes.
    pub(super) fn make_directories(
        &mut self,
        walked: Walked<Spot>,
        attributes: &Attributes,
    ) -> Result<Spot, CopyError> {
        let mut spot = walked.end;
        if !self.shows_directory(&spot)? {
            let path = format!("/{}", printable(&spot.path));
            return Err(TreeError::NotADirectory { path }.into());
        }
        for name in walked.missing {
            spot = self.put_directory(&spot, &name, attributes.clone(), false)?;
        }
        Ok(spot)
    }

    /// The file with this name in a directory, if it is there. No link is followed.
    pub(super) fn look(&self, from: &Spot, name: &[u8]) -> Result<Option<(Spot, StepKind)>, TreeError> {
        self.step(from, name)
    }

    /// What the file at a place has.
    pub(super) fn attributes(&self, spot: &Spot) -> Result<Attributes, TreeError> {
        match (self.entries.get(&spot.path), &spot.below) {
            (Some(staged), _) => Ok(staged.attributes.clone()),
            (None, Some(node)) => Ok(node.attributes.clone()),
            (None, None) => Ok(self.below.root()?.attributes),
        }
    }

    /// The file at a place, as the layer would have to say it.
    pub(super) fn staged(&self, spot: &Spot) -> Result<Option<Staged<'a>>, TreeError> {
        if let Some(staged) = self.entries.get(&spot.path) {
            return Ok(Some(staged.clone()));
        }
        match &spot.below {
            Some(node) => self.copy_of(self.below, node, node.attributes.clone()),
            None => Ok(None),
        }
    }

    /// A file of a tree with other attributes; `None` for a socket, which an archive cannot hold.
    pub(super) fn copy_of(
        &self,
        tree: &'a dyn FileTree,
        node: &Node,
        attributes: Attributes,
    ) -> Result<Option<Staged<'a>>, TreeError> {
        let body = match node.kind {
            NodeKind::Socket => return Ok(None),
            NodeKind::Directory => StagedBody::Directory { is_opaque: false },
            NodeKind::Symlink => StagedBody::Symlink(tree.link_target(node)?),
            NodeKind::Regular => StagedBody::Regular {
                size: node.size,
                content: StagedContent::Tree(tree, node.clone()),
                file: (node.links > 1).then_some((self.copies, node.id)),
            },
            special => StagedBody::Special(special),
        };
        Ok(Some(Staged { attributes, body }))
    }

    /// Puts a directory into a directory, or other attributes on one that is there.
    pub(super) fn put_directory(
        &mut self,
        from: &Spot,
        name: &[u8],
        attributes: Attributes,
        is_opaque: bool,
    ) -> Result<Spot, CopyError> {
        let path = join(&from.path, name);
        let was_opaque = match self.entries.get(&path).map(|staged| &staged.body) {
            Some(StagedBody::Directory { is_opaque }) => *is_opaque,
            _ => false,
        };
        let is_opaque = is_opaque || was_opaque;
        let below = self.below_of(from, name)?;
        let body = StagedBody::Directory { is_opaque };
        self.put(&path, Staged { attributes, body })?;
        Ok(Spot {
            shows_below: !is_opaque && below.as_ref().is_some_and(Node::is_directory),
            path,
            below,
        })
    }

    /// Hides what is in a directory.
    pub(super) fn cover(&mut self, directory: Spot, attributes: Attributes) -> Result<Spot, CopyError> {
        let body = StagedBody::Directory { is_opaque: true };
        self.put(&directory.path, Staged { attributes, body })?;
        Ok(Spot {
            shows_below: false,
            ..directory
        })
    }

    /// Puts a file where none, or another file, is.
    pub(super) fn put(&mut self, path: &[u8], staged: Staged<'a>) -> Result<(), CopyError> {
        let name = last_name(path);
        if is_whiteout(name) {
            let path = printable(path);
            return Err(CopyError::WhiteoutName { path });
        }
        if let StagedBody::Special(NodeKind::CharDevice(Device { major: 0, minor: 0 })) = staged.body {
            let path = printable(path);
            return Err(CopyError::WhiteoutDevice { path });
        }
        let link = match &staged.body {
            StagedBody::Symlink(target) => target.len(),
            _ => 0,
        };
        for (length, most) in [(name.len(), MAX_NAME), (path.len(), MAX_PATH), (link, MAX_PATH)] {
            if length > most {
                return Err(CopyError::TooLong {
                    path: printable(&path[..path.len().min(100)]),
                    length,
                    most,
                });
            }
        }
        let xattrs = staged.attributes.xattrs.iter();
        let xattrs: usize = xattrs.map(|xattr| xattr.name.len() + xattr.value.len()).sum();
        self.described += (path.len() + link + xattrs) as u64;
        if self.described > MAX_DESCRIBED {
            return Err(CopyError::TooMuch {
                instruction: self.instruction,
                what: "bytes of paths, links and extended attributes",
                limit: MAX_DESCRIBED,
            });
        }
        self.entries.insert(path.to_vec(), staged);
        if self.entries.len() as u64 > self.max_entries {
            return Err(CopyError::TooMuch {
                instruction: self.instruction,
                what: "files",
                limit: self.max_entries,
            });
        }
        Ok(())
    }

    /// Takes back all that the layer has at and beneath a path.
    pub(super) fn take_back(&mut self, path: &[u8]) {
        let prefix = [path, b"/"].concat();
        let beneath = self.entries.range(prefix.clone()..).map(|(path, _)| path);
        let beneath: Vec<Vec<u8>> = beneath
            .take_while(|path| path.starts_with(&prefix))
            .cloned()
            .collect();
        for path in beneath {
            self.entries.remove(&path);
        }
        self.entries.remove(path);
    }

    /// The temporary file for what archives hold.
    pub(super) fn spool(&mut self) -> Result<&mut SpoolWriter, CopyError> {
        let spool = match self.spool.take() {
            Some(spool) => spool,
            None => SpoolWriter::new(&self.folder).map_err(|source| self.temporary_error(source))?,
        };
        Ok(self.spool.insert(spool))
    }

    pub(super) fn temporary_error(&self, source: std::io::Error) -> CopyError {
        let folder = self.folder.display().to_string();
        CopyError::Temporary { folder, source }
    }

    /// All files of the layer, with the directories on the way to them as they are below: what an upper layer says of a directory
    /// is what overlayfs shows.
    pub(super) fn finish(mut self) -> Result<Finished<'a>, CopyError> {
        let mut repeated: HashMap<Vec<u8>, Node> = HashMap::new();
        for path in self.entries.keys() {
            check(&self.token)?;
            self.repeat(parent(path), &mut repeated)?;
        }
        // Without an entry, the top directory is root's, 0755, in a layer.
        let plain = Attributes::of_new_directory(Default::default());
        for (path, node) in repeated {
            let body = StagedBody::Directory { is_opaque: false };
            let attributes = node.attributes;
            let is_plain = attributes.mode == plain.mode
                && (attributes.uid, attributes.gid) == (plain.uid, plain.gid)
                && attributes.xattrs.is_empty();
            if !path.is_empty() || !is_plain {
                self.entries.insert(path, Staged { attributes, body });
            }
        }
        Ok((self.entries, self.spool, self.folder))
    }

    /// Finds a directory below, and those that it is in, unless the layer has them.
    fn repeat(&self, path: Option<&[u8]>, repeated: &mut HashMap<Vec<u8>, Node>) -> Result<(), TreeError> {
        let mut missing = Vec::new();
        let mut next = path;
        while let Some(path) = next {
            if self.entries.contains_key(path) || repeated.contains_key(path) {
                break;
            }
            missing.push(path);
            next = parent(path);
        }
        for path in missing.into_iter().rev() {
            let node = match parent(path) {
                None => Some(self.below.root()?),
                Some(above) => {
                    let from = match repeated.get(above) {
                        Some(node) => node.clone(),
                        None => self.find_below(above)?,
                    };
                    self.below.child(&from, last_name(path))?
                }
            };
            if let Some(node) = node {
                repeated.insert(path.to_vec(), node);
            }
        }
        Ok(())
    }

    /// A directory below that is shown through one of the layer.
    fn find_below(&self, path: &[u8]) -> Result<Node, TreeError> {
        let walked = walk(&self.below, path, LastLink::Keep)?;
        Ok(walked.end)
    }

    fn below_of(&self, from: &Spot, name: &[u8]) -> Result<Option<Node>, TreeError> {
        match &from.below {
            Some(directory) if from.shows_below => self.below.child(directory, name),
            _ => Ok(None),
        }
    }
}

impl Walkable for Staging<'_> {
    type At = Spot;

    fn top(&self) -> Result<Spot, TreeError> {
        Ok(Spot {
            path: Vec::new(),
            below: Some(self.below.root()?),
            shows_below: true,
        })
    }

    fn step(&self, from: &Spot, name: &[u8]) -> Result<Option<(Spot, StepKind)>, TreeError> {
        let path = join(&from.path, name);
        let below = self.below_of(from, name)?;
        let staged = self.entries.get(&path);
        let (kind, is_opaque) = match (staged.map(|staged| &staged.body), &below) {
            (None, None) => return Ok(None),
            (Some(StagedBody::Directory { is_opaque }), _) => (StepKind::Directory, *is_opaque),
            (Some(StagedBody::Symlink(target)), _) => (StepKind::Symlink(target.clone()), false),
            (Some(_), _) => (StepKind::Other, false),
            (None, Some(node)) => match node.kind {
                NodeKind::Directory => (StepKind::Directory, false),
                NodeKind::Symlink => (StepKind::Symlink(self.below.link_target(node)?), false),
                _ => (StepKind::Other, false),
            },
        };
        let shows_below = !is_opaque && below.as_ref().is_some_and(Node::is_directory);
        let spot = Spot {
            path,
            below,
            shows_below,
        };
        Ok(Some((spot, kind)))
    }
}
