//! The tree of entries, in memory until the image is finished.

use crate::metadata::{FileType, Metadata, Special};
use crate::path::{EntryPath, PathError, check_name, printable};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Index of a node; the root is 0. Indices are not reused.
pub(crate) type NodeId = usize;
/// The root directory, which always exists.
pub(crate) const ROOT: NodeId = 0;

/// Directories beneath each other.
const MAX_DEPTH: u16 = 1024;
/// Symbolic links on the way to one entry (`MAXSYMLINKS` in the kernel's include/linux/namei.h).
const MAX_SYMLINKS: usize = 40;
/// Components on the way to one entry, symbolic links included.
const MAX_STEPS: usize = 4096;
/// What an entry is taken to cost besides its names and contents when [`TreeLimits`] are checked.
const NODE_COST: u64 = 128;

/// Why an entry has no place in the tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path itself is at fault.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A file that is no directory stands on the way to the entry.
    #[error("entry `{path}` lies beneath `{component}`, which is not a directory")]
    NotADirectory {
        /// The entry.
        path: String,
        /// The name on its way that is no directory.
        component: String,
    },
    /// Symbolic links on the way to the entry form a loop or a very long chain.
    #[error("entry `{path}` lies beneath more than {MAX_SYMLINKS} symbolic links or {MAX_STEPS} directories")]
    TooManySymlinks {
        /// The entry.
        path: String,
    },
    /// The entry is nested too deeply.
    #[error("entry `{path}` lies more than {MAX_DEPTH} directories deep")]
    TooDeep {
        /// The entry.
        path: String,
    },
    /// A hard link points to nothing in this image.
    #[error(
        "hard link `{path}` points to `{target}`, which is not in this image; a link needs its file before it, in the same layer"
    )]
    LinkTargetMissing {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// A hard link points to a directory.
    #[error("hard link `{path}` points to the directory `{target}`")]
    LinkToDirectory {
        /// The link.
        path: String,
        /// What it points to.
        target: String,
    },
    /// Nothing has this path.
    #[error("there is no entry `{path}`")]
    Missing {
        /// The path that was looked for.
        path: String,
    },
    /// More files than allowed.
    #[error("entry `{path}` is one too many: {limit} files are allowed in one image")]
    TooManyInodes {
        /// The entry.
        path: String,
        /// How many are allowed.
        limit: u32,
    },
    /// Names, attributes and small contents take more memory than allowed.
    #[error("at entry `{path}` names and attributes exceed the {limit} bytes that one image may take")]
    MetadataTooLarge {
        /// The entry.
        path: String,
        /// How many bytes are allowed.
        limit: u64,
    },
}

/// What the tree may grow to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeLimits {
    pub(crate) inodes: u32,
    pub(crate) metadata_bytes: u64,
}

/// Where a regular file's bytes are.
#[derive(Debug)]
pub(crate) enum Content {
    /// In the output already, from this block on.
    Blocks(u32),
    /// Here, to be written with the inode.
    Memory(Box<[u8]>),
}

/// A directory's place and its names.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) parent: NodeId,
    depth: u16,
    pub(crate) children: BTreeMap<Box<[u8]>, NodeId>,
}

/// What kind of file a node is, with what only that kind has.
#[derive(Debug)]
pub(crate) enum Body {
    Directory(Directory),
    Regular { size: u64, content: Content },
    Symlink(Box<[u8]>),
    Special(Special),
}

/// One inode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) metadata: Metadata,
    /// Names that lead here. Not used for directories.
    pub(crate) links: u32,
    pub(crate) body: Body,
}

impl Node {
    pub(crate) fn file_type(&self) -> FileType {
        match &self.body {
            Body::Directory(_) => FileType::Directory,
            Body::Regular { .. } => FileType::Regular,
            Body::Symlink(_) => FileType::Symlink,
            Body::Special(special) => special.file_type(),
        }
    }

    /// Bytes of memory that a hostile stream makes us keep for this node.
    fn cost(metadata: &Metadata, body: &Body) -> u64 {
        let xattrs: usize = metadata
            .xattrs
            .iter()
            .map(|x| x.name.len() + x.value.len() + 32)
            .sum();
        let content = match body {
            Body::Regular {
                content: Content::Memory(bytes),
                ..
            } => bytes.len(),
            Body::Symlink(target) => target.len(),
            _ => 0,
        };
        NODE_COST + (xattrs + content) as u64
    }
}

/// A name in a directory, which may or may not be taken.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    directory: NodeId,
    name: &'a [u8],
}

/// The tree. Paths are followed inside it only: a symbolic link on the way to an entry is taken as the
/// running container would take it, `..` in its target stops at the root.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Attributes of directories that no entry described.
    implied: Metadata,
    limits: TreeLimits,
    metadata_bytes: u64,
}

impl Tree {
    pub(crate) fn new(implied: Metadata, limits: TreeLimits) -> Self {
        let body = Body::Directory(Directory {
            parent: ROOT,
            depth: 0,
            children: BTreeMap::new(),
        });
        let root = Node {
            metadata: implied.clone(),
            links: 1,
            body,
        };
        Self {
            nodes: vec![root],
            implied,
            limits,
            metadata_bytes: 0,
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }

    /// Number of node indices ever given out.
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// The node at `path`; a symbolic link at its end is not followed.
    pub(crate) fn lookup(&self, path: &EntryPath<'_>) -> Result<Option<NodeId>, TreeError> {
        let Ok((name, parents)) = path.split_last() else {
            return Ok(Some(ROOT));
        };
        let mut walk = Walk::new(path, parents);
        while let Some(step) = walk.next(self)? {
            if let Step::Missing(_) = step {
                return Ok(None);
            }
        }
        Ok(self.child(walk.current, name))
    }

    /// The place for a new entry; directories on the way are created.
    pub(crate) fn place<'a>(&mut self, path: &EntryPath<'a>) -> Result<Place<'a>, TreeError> {
        let (name, parents) = path.split_last()?;
        let mut walk = Walk::new(path, parents);
        while let Some(step) = walk.next(self)? {
            if let Step::Missing(name) = step {
                check_name(&name, &name)?;
                let place = Place {
                    directory: walk.current,
                    name: &name,
                };
                walk.current = self.insert_directory(path, &place, None)?;
            }
        }
        Ok(Place {
            directory: walk.current,
            name,
        })
    }

    /// Makes a directory, or gives one that exists new attributes and keeps what is in it. Without
    /// `metadata` it is an implied one.
    pub(crate) fn insert_directory(
        &mut self,
        path: &EntryPath<'_>,
        place: &Place<'_>,
        metadata: Option<Metadata>,
    ) -> Result<NodeId, TreeError> {
        let metadata = metadata.unwrap_or_else(|| self.implied.clone());
        if let Some(existing) = self.child(place.directory, place.name)
            && matches!(self.nodes[existing].body, Body::Directory(_))
        {
            self.set_metadata(path, existing, metadata)?;
            return Ok(existing);
        }
        let depth = self.directory(place.directory).map_or(0, |parent| parent.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep {
                path: path.to_string(),
            });
        }
        let body = Body::Directory(Directory {
            parent: place.directory,
            depth,
            children: BTreeMap::new(),
        });
        self.insert(path, place, metadata, body)
    }

    /// Puts a new file at `place`, in the stead of whatever is there.
    pub(crate) fn insert(
        &mut self,
        path: &EntryPath<'_>,
        place: &Place<'_>,
        metadata: Metadata,
        body: Body,
    ) -> Result<NodeId, TreeError> {
        if self.nodes.len() >= self.limits.inodes as usize {
            return Err(TreeError::TooManyInodes {
                path: path.to_string(),
                limit: self.limits.inodes,
            });
        }
        self.charge(path, Node::cost(&metadata, &body))?;
        let id = self.nodes.len();
        self.nodes.push(Node {
            metadata,
            links: 0,
            body,
        });
        self.link(path, place, id)?;
        Ok(id)
    }

    /// Gives the file at `target` a further name. A link to itself changes nothing.
    pub(crate) fn insert_link(
        &mut self,
        path: &EntryPath<'_>,
        place: &Place<'_>,
        target: &EntryPath<'_>,
    ) -> Result<(), TreeError> {
        let Some(id) = self.lookup(target)? else {
            return Err(TreeError::LinkTargetMissing {
                path: path.to_string(),
                target: target.to_string(),
            });
        };
        if matches!(self.nodes[id].body, Body::Directory(_)) {
            return Err(TreeError::LinkToDirectory {
                path: path.to_string(),
                target: target.to_string(),
            });
        }
        if self.child(place.directory, place.name) == Some(id) {
            return Ok(());
        }
        self.charge(path, NODE_COST)?;
        self.link(path, place, id)
    }

    /// Replaces the attributes of the node `id`.
    pub(crate) fn set_metadata(
        &mut self,
        path: &EntryPath<'_>,
        id: NodeId,
        metadata: Metadata,
    ) -> Result<(), TreeError> {
        self.charge(path, Node::cost(&metadata, &self.nodes[id].body))?;
        self.nodes[id].metadata = metadata;
        Ok(())
    }

    fn link(&mut self, path: &EntryPath<'_>, place: &Place<'_>, id: NodeId) -> Result<(), TreeError> {
        self.charge(path, place.name.len() as u64)?;
        self.nodes[id].links += 1;
        if let Body::Directory(directory) = &mut self.nodes[place.directory].body
            && let Some(replaced) = directory.children.insert(place.name.into(), id)
        {
            self.unlink(replaced);
        }
        Ok(())
    }

    /// Takes one name from `id`, and from all that is beneath it.
    fn unlink(&mut self, id: NodeId) {
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            let node = &mut self.nodes[id];
            node.links -= 1;
            if let Body::Directory(directory) = &mut node.body {
                doomed.extend(std::mem::take(&mut directory.children).into_values());
            }
        }
    }

    fn charge(&mut self, path: &EntryPath<'_>, bytes: u64) -> Result<(), TreeError> {
        self.metadata_bytes += bytes;
        if self.metadata_bytes > self.limits.metadata_bytes {
            let limit = self.limits.metadata_bytes;
            return Err(TreeError::MetadataTooLarge {
                path: path.to_string(),
                limit,
            });
        }
        Ok(())
    }

    fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.nodes[id].body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.directory(directory)?.children.get(name).copied()
    }
}

/// What stopped a walk.
enum Step<'a> {
    /// One component further.
    Down,
    /// This name does not exist in the current directory.
    Missing(Cow<'a, [u8]>),
}

/// A walk along components from the root, one step at a time.
struct Walk<'p, 'a> {
    path: &'p EntryPath<'a>,
    current: NodeId,
    /// What is still to go, the next component last.
    pending: Vec<Cow<'a, [u8]>>,
    symlinks: usize,
    steps: usize,
}

impl<'p, 'a> Walk<'p, 'a> {
    fn new(path: &'p EntryPath<'a>, components: &[&'a [u8]]) -> Self {
        let pending = components
            .iter()
            .rev()
            .map(|component| Cow::Borrowed(*component))
            .collect();
        Self {
            path,
            current: ROOT,
            pending,
            symlinks: 0,
            steps: 0,
        }
    }

    /// Takes one step; `None` at the end of the way.
    fn next(&mut self, tree: &Tree) -> Result<Option<Step<'a>>, TreeError> {
        let Some(name) = self.pending.pop() else {
            return Ok(None);
        };
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(TreeError::TooManySymlinks {
                path: self.path.to_string(),
            });
        }
        match (&*name, tree.directory(self.current)) {
            (b"" | b".", _) => return Ok(Some(Step::Down)),
            (b"..", Some(directory)) => {
                self.current = directory.parent;
                return Ok(Some(Step::Down));
            }
            _ => {}
        }
        let Some(child) = tree.child(self.current, &name) else {
            return Ok(Some(Step::Missing(name)));
        };
        match &tree.node(child).body {
            Body::Directory(_) => self.current = child,
            Body::Symlink(target) => self.follow(target)?,
            _ => {
                let (path, component) = (self.path.to_string(), printable(&name));
                return Err(TreeError::NotADirectory { path, component });
            }
        }
        Ok(Some(Step::Down))
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), TreeError> {
        self.symlinks += 1;
        if self.symlinks > MAX_SYMLINKS {
            return Err(TreeError::TooManySymlinks {
                path: self.path.to_string(),
            });
        }
        if target.starts_with(b"/") {
            self.current = ROOT;
        }
        let components = target.split(|byte| *byte == b'/').rev();
        self.pending
            .extend(components.map(|component| Cow::Owned(component.to_vec())));
        Ok(())
    }
}
