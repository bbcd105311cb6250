//! A tree of files that is only read: the layers of a stage, or a build context.

use std::io::{self, Read, Seek};

use image_store::Digest;
use tar_stream::{Device, FileId, Timestamp, Xattr};
use tokio_util::sync::CancellationToken;

use crate::cancellation::Cancelled;

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Nobody waits for it any more.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A layer's file system image.
    #[error("cannot read layer {layer}: {source}")]
    Layer {
        /// The digest of its archive.
        layer: Digest,
        /// What is wrong with it.
        source: erofs::ReadError,
    },
    /// A layer's file.
    #[error("cannot open layer {layer}: {source}")]
    OpenLayer {
        /// The digest of its archive.
        layer: Digest,
        /// What the system said.
        source: io::Error,
    },
    /// The content of a file.
    #[error("cannot read {path}: {source}")]
    Content {
        /// What was read.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A path leads over too many symbolic links.
    #[error("{path}: too many levels of symbolic links")]
    TooManyLinks {
        /// The path, unprintable bytes escaped.
        path: String,
    },
    /// A path leads through a file.
    #[error("{path}: not a directory")]
    NotADirectory {
        /// The part of the path that is a file.
        path: String,
    },
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}

/// Owner, permissions, time and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission, set-id and sticky bits.
    pub mode: u16,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes, in the order of their names. Never those of overlayfs (`trusted.*`).
    pub xattrs: Vec<Xattr>,
}

impl Attributes {
    /// Those of a directory that nothing describes: root's, 0755.
    pub fn of_new_directory(mtime: Timestamp) -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: Vec::new(),
        }
    }
}

/// One file of a tree. It is of use only with the tree that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What kind of file it is.
    pub kind: NodeKind,
    /// Owner, permissions, time and extended attributes.
    pub attributes: Attributes,
    /// The size of a regular file, or the length of a link's target, in bytes.
    pub size: u64,
    /// Names that lead to it, as far as is known; 1 if it is not.
    pub links: u32,
    /// Which file it is: two names with one identity are hard links. Unique in this process.
    pub id: FileId,
    /// Where the tree finds it.
    pub(crate) place: Place,
}

/// Where a tree finds a file: pairs of a part of the tree and a number in it. A directory that several layers have has one
/// for each, the uppermost first.
pub(crate) type Place = Vec<(u32, u64)>;

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }
}

/// The content of a file.
pub trait Content: Read + Seek + Send {}

impl<T: Read + Seek + Send> Content for T {}

/// A tree of files that is only read. Nothing here follows a symbolic link; [`lookup`](crate::lookup) does.
pub trait FileTree: Send + Sync {
    /// The directory at the top.
    fn root(&self) -> Result<Node, TreeError>;

    /// The file with this name in a directory; `None` if there is none.
    fn child(&self, directory: &Node, name: &[u8]) -> Result<Option<Node>, TreeError>;

    /// The names in a directory, in the order of their bytes, without `.` and `..`.
    fn names(&self, directory: &Node) -> Result<Vec<Vec<u8>>, TreeError>;

    /// The target of a symbolic link.
    fn link_target(&self, link: &Node) -> Result<Vec<u8>, TreeError>;

    /// The content of a regular file, from its beginning.
    fn open(&self, file: &Node) -> Result<Box<dyn Content + '_>, TreeError>;

    /// The digest of the content of a regular file. To read it may take long: the token ends that.
    fn content_digest(&self, file: &Node, token: &CancellationToken) -> Result<Digest, TreeError>;
}

/// Bytes as text for a message, safe for a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec())
        .ok()
        .filter(|text| !text.contains(char::is_control))
        .unwrap_or_else(|| bytes.escape_ascii().to_string())
}
