//! The file half of a build: what COPY and ADD bring, made on the host without a microVM.
//!
//! A stage is a [`LayerTree`]: the EROFS images of its layers, read as overlayfs would show them. A build context is a [`Context`].
//! Both are a [`FileTree`], and [`copy`] makes of one what another gets: the archive of a layer, which the image store takes in like
//! that of any other. The host never creates a name, an owner, a device or a link that an image or a context asked for: they are
//! data in an archive. Contents lie in files that have no name, or that are named by their digest.

mod block_file;
mod cancellation;
mod context;
mod copy;
mod fetch;
mod file_tree;
mod git;
mod layer;
mod layer_tree;
mod layers;
mod lookup;
mod paths;
mod solve;
mod spool;
mod users;

pub use cancellation::{Cancellable, Cancelled};
pub use context::{
    Context, ContextAttributes, ContextBuilder, ContextError, ContextLimits, ContextStore, ContextStoreError,
    LEAST_STORED, Room, STORED_CONTENT,
};
pub use copy::{CopyError, CopyOptions, CopySummary, Excludes, Source, Times, What, copy, source_digest};
pub use fetch::{FetchError, FetchOptions, Fetched, fetch, url_file_name};
pub use file_tree::{Attributes, Content, FileTree, Node, NodeKind, TreeError};
pub use git::{GitError, GitOptions, GitReference, GitReferenceError, fetch_git, resolve_git};
pub use image_store::Digest;
pub use layer::Layer;
pub use layer_tree::LayerTree;
pub use layers::Layers;
pub use lookup::{Found, LastLink, lookup};
pub use solve::*;
pub use tar_stream::{Device, FileId, Timestamp, Xattr};
pub use users::{Owner, OwnerError, resolve_owner};
