//! The tree of entries while they come in.

use crate::index::Index;
use crate::metadata::Metadata;
use crate::node::{Attributes, Body, Directory, Link, Node, ROOT};
use crate::path::{EntryPath, PathError, check_name, printable};
use crate::scratch::{RecordId, Scratch};
use crate::xattr;
use std::borrow::Cow;
use std::fs::File;
use std::io;

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
    /// Names, attributes and small contents take more room than allowed.
    #[error("at entry `{path}` names and attributes exceed the {limit} bytes that one image may take")]
    MetadataTooLarge {
        /// The entry.
        path: String,
        /// How many bytes are allowed.
        limit: u64,
    },
    /// The temporary file failed.
    #[error("cannot use the temporary file for names and attributes: {0}")]
    Scratch(#[from] io::Error),
}

/// What the tree may grow to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeLimits {
    pub(crate) inodes: u32,
    pub(crate) metadata_bytes: u64,
}

/// A name in a directory, which may or may not be taken.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    directory: RecordId,
    name: &'a [u8],
}

/// The tree. Paths are followed inside it only: a symbolic link on the way to an entry is taken as the
/// running container would take it, `..` in its target stops at the root.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) scratch: Scratch,
    index: Index,
    /// Attributes of directories that no entry described.
    implied: Attributes,
    limits: TreeLimits,
    nodes: u32,
    metadata_bytes: u64,
}

impl Tree {
    /// A root directory. Without a file everything is held in memory.
    pub(crate) fn new(implied: Attributes, limits: TreeLimits, file: Option<File>) -> Self {
        let mut scratch = Scratch::new(file);
        let root = Node {
            links: 1,
            ..Node::new(implied, directory_in(ROOT, 0))
        };
        let id = root.append(&mut scratch);
        debug_assert_eq!(id.ok(), Some(ROOT), "the first page is in memory");
        Self {
            scratch,
            index: Index::default(),
            implied,
            limits,
            nodes: 1,
            metadata_bytes: 0,
        }
    }

    pub(crate) fn node(&mut self, id: RecordId) -> io::Result<Node> {
        Node::read(&mut self.scratch, id)
    }

    /// The index of names goes: no path can be followed any more.
    pub(crate) fn close(&mut self) {
        self.index = Index::default();
    }

    /// The node at `path`; a symbolic link at its end is not followed.
    pub(crate) fn lookup(&mut self, path: &EntryPath<'_>) -> Result<Option<RecordId>, TreeError> {
        let Ok((name, parents)) = path.split_last() else {
            return Ok(Some(ROOT));
        };
        let mut walk = Walk::new(path, parents);
        while let Some(step) = walk.next(self)? {
            if let Step::Missing(_) = step {
                return Ok(None);
            }
        }
        Ok(self.child(walk.current, name)?)
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
        metadata: Option<&Metadata>,
    ) -> Result<RecordId, TreeError> {
        if let Some(existing) = self.child(place.directory, place.name)?
            && let Body::Directory(_) = self.node(existing)?.body
        {
            if let Some(metadata) = metadata {
                self.set_metadata(path, existing, metadata)?;
            }
            return Ok(existing);
        }
        let depth = match self.node(place.directory)?.body {
            Body::Directory(parent) => parent.depth + 1,
            _ => 1,
        };
        if depth > MAX_DEPTH {
            return Err(TreeError::TooDeep {
                path: path.to_string(),
            });
        }
        let attributes = match metadata {
            Some(metadata) => self.keep(path, metadata)?,
            None => self.implied,
        };
        self.insert_node(
            path,
            place,
            Node::new(attributes, directory_in(place.directory, depth)),
        )
    }

    /// Puts a new file at `place`, in the stead of whatever is there.
    pub(crate) fn insert(
        &mut self,
        path: &EntryPath<'_>,
        place: &Place<'_>,
        metadata: &Metadata,
        body: Body,
    ) -> Result<RecordId, TreeError> {
        let attributes = self.keep(path, metadata)?;
        self.insert_node(path, place, Node::new(attributes, body))
    }

    fn insert_node(
        &mut self,
        path: &EntryPath<'_>,
        place: &Place<'_>,
        node: Node,
    ) -> Result<RecordId, TreeError> {
        if self.nodes >= self.limits.inodes {
            return Err(TreeError::TooManyInodes {
                path: path.to_string(),
                limit: self.limits.inodes,
            });
        }
        self.charge(path, NODE_COST)?;
        self.nodes += 1;
        let id = node.append(&mut self.scratch)?;
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
        if let Body::Directory(_) = self.node(id)?.body {
            return Err(TreeError::LinkToDirectory {
                path: path.to_string(),
                target: target.to_string(),
            });
        }
        if self.child(place.directory, place.name)? == Some(id) {
            return Ok(());
        }
        self.charge(path, NODE_COST)?;
        self.link(path, place, id)
    }

    /// Replaces the attributes of the node `id`.
    pub(crate) fn set_metadata(
        &mut self,
        path: &EntryPath<'_>,
        id: RecordId,
        metadata: &Metadata,
    ) -> Result<(), TreeError> {
        self.charge(path, NODE_COST)?;
        let attributes = self.keep(path, metadata)?;
        let mut node = self.node(id)?;
        node.attributes = attributes;
        Ok(node.write(&mut self.scratch, id)?)
    }

    /// Takes bytes that belong to an entry.
    pub(crate) fn keep_bytes(&mut self, path: &EntryPath<'_>, bytes: &[u8]) -> Result<RecordId, TreeError> {
        self.charge(path, bytes.len() as u64)?;
        Ok(self.scratch.append_bytes(bytes)?)
    }

    /// The attributes of an entry, its extended ones in the scratch.
    fn keep(&mut self, path: &EntryPath<'_>, metadata: &Metadata) -> Result<Attributes, TreeError> {
        let mut attributes = Attributes::plain(metadata);
        if !metadata.xattrs.is_empty() {
            attributes.xattrs = Some(self.keep_bytes(path, &xattr::encode(&metadata.xattrs))?);
        }
        Ok(attributes)
    }

    fn link(&mut self, path: &EntryPath<'_>, place: &Place<'_>, id: RecordId) -> Result<(), TreeError> {
        self.charge(path, place.name.len() as u64)?;
        let mut node = self.node(id)?;
        node.links += 1;
        node.write(&mut self.scratch, id)?;
        let found = self.index.find(&mut self.scratch, place.directory, place.name)?;
        if let Some((taken, mut link)) = found {
            let replaced = std::mem::replace(&mut link.node, id);
            link.write(&mut self.scratch, taken)?;
            return Ok(self.unlink(replaced)?);
        }
        let mut parent = self.node(place.directory)?;
        let Body::Directory(directory) = &mut parent.body else {
            return Ok(());
        };
        let link = Link {
            next: directory.first,
            directory: place.directory,
            node: id,
            first: false,
            name: place.name.to_vec(),
        };
        let added = link.append(&mut self.scratch)?;
        directory.first = Some(added);
        parent.write(&mut self.scratch, place.directory)?;
        self.index.insert(place.directory, place.name, added);
        Ok(())
    }

    /// Takes one name from `id`, and from all that is beneath it. A directory that nothing leads to any more keeps its
    /// links: nothing comes by them.
    fn unlink(&mut self, id: RecordId) -> io::Result<()> {
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            let mut node = self.node(id)?;
            node.links -= 1;
            node.write(&mut self.scratch, id)?;
            let mut next = match node.body {
                Body::Directory(directory) => directory.first,
                _ => None,
            };
            while let Some(id) = next {
                let link = Link::read(&mut self.scratch, id)?;
                doomed.push(link.node);
                next = link.next;
            }
        }
        Ok(())
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

    fn child(&mut self, directory: RecordId, name: &[u8]) -> io::Result<Option<RecordId>> {
        let found = self.index.find(&mut self.scratch, directory, name)?;
        Ok(found.map(|(_, link)| link.node))
    }
}

/// A directory without names.
fn directory_in(parent: RecordId, depth: u16) -> Body {
    Body::Directory(Directory {
        parent,
        depth,
        first: None,
        size: 0,
        tail: None,
    })
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
    current: RecordId,
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
    fn next(&mut self, tree: &mut Tree) -> Result<Option<Step<'a>>, TreeError> {
        let Some(name) = self.pending.pop() else {
            return Ok(None);
        };
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(TreeError::TooManySymlinks {
                path: self.path.to_string(),
            });
        }
        match &*name {
            b"" | b"." => return Ok(Some(Step::Down)),
            b".." => {
                if let Body::Directory(directory) = tree.node(self.current)?.body {
                    self.current = directory.parent;
                }
                return Ok(Some(Step::Down));
            }
            _ => {}
        }
        let Some(child) = tree.child(self.current, &name)? else {
            return Ok(Some(Step::Missing(name)));
        };
        match tree.node(child)?.body {
            Body::Directory(_) => self.current = child,
            Body::Symlink { target, .. } => self.follow(&tree.scratch.bytes(target)?)?,
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
