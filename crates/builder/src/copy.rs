//! COPY and ADD: what one of them brings, as the archive of a layer. No microVM, and no file of the host, has a part in it.
//!
//! What is copied where, and with which attributes, is as BuildKit has it:
//! - A directory's contents are copied, not the directory. A link that is named is followed; one within a directory is copied.
//! - A directory that a source is copied to keeps its attributes, and is root's (or `--chown`'s), 0755, if it has to be made. A
//!   directory within a source brings its attributes, also to one that is there.
//! - Owners of a stage's files stay; those of a context are root.
//! - A wildcard that matches nothing copies nothing.
//! - A local archive that ADD unpacks keeps its owners, modes and times; `--chown` changes owners, `--chmod` nothing. Devices and
//!   pipes in it are left out.

mod destination;
mod digest;
mod emit;
mod options;
mod select;
mod staging;
mod unpack;
mod visit;

use std::io::{self, Write};
use std::path::Path;

use image_store::Digest;
use tar_stream::{ArchiveError, WriteError};

use self::destination::place;
pub use self::options::{CopyOptions, Excludes, Source, Times, What};
use self::select::{Selected, select};
use self::staging::Staging;
use crate::cancellation::Cancelled;
use crate::file_tree::{FileTree, TreeError};
use crate::paths::is_directory_path;

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is not there.
    #[error("\"/{path}\": not found")]
    NotFound {
        /// Its path, unprintable bytes escaped.
        path: String,
    },
    /// Several sources would become one file.
    #[error(
        "When using {instruction} with more than one source file, the destination must be a directory and end with a /"
    )]
    ManySources {
        /// `COPY` or `ADD`.
        instruction: &'static str,
    },
    /// A directory goes where something else is.
    #[error("cannot copy to non-directory: /{path}")]
    NonDirectory {
        /// What is there.
        path: String,
    },
    /// A file goes where a directory is.
    #[error("cannot replace to directory /{path} with file")]
    Directory {
        /// What is there.
        path: String,
    },
    /// `--parents` starts at something that is no directory.
    #[error("\"/{path}\": not a directory")]
    Pivot {
        /// What it is.
        path: String,
    },
    /// The name would remove a file in an image.
    #[error(
        "/{path} cannot be in an image: names that begin with .wh. mark what a layer removes; give it another name, or exclude it"
    )]
    WhiteoutName {
        /// Where it was to be.
        path: String,
    },
    /// The device would remove a file in an image.
    #[error("/{path} cannot be in an image: a character device 0:0 marks what a layer removes")]
    WhiteoutDevice {
        /// Where it was to be.
        path: String,
    },
    /// A path that no file can have.
    #[error("{path} has {length} bytes; {most} are possible")]
    TooLong {
        /// Its beginning.
        path: String,
        /// Its length in bytes.
        length: usize,
        /// What is possible.
        most: usize,
    },
    /// It is too much.
    #[error("{instruction} brings more than {limit} {what}; copy less at once")]
    TooMuch {
        /// `COPY` or `ADD`.
        instruction: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// An archive that ADD unpacks.
    #[error("cannot unpack {path}: {source}")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// An archive that ADD unpacks has an entry that cannot be.
    #[error("cannot unpack {archive}: {entry} {why}")]
    ArchiveEntry {
        /// The archive.
        archive: String,
        /// The entry.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody waits for it any more.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The temporary file for what archives hold.
    #[error("cannot use a temporary file in {folder}: {source}")]
    Temporary {
        /// Where it was to be.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// The layer does not go where it is to go.
    #[error("cannot write the layer: {0}")]
    Write(#[from] WriteError),
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Files of all kinds in the layer, directories on the way to them among them. None: nothing was copied.
    pub entries: u64,
    /// The sizes of its regular files, in bytes.
    pub content: u64,
}

/// Writes the archive of the layer that one COPY or ADD adds to `stage`. Equal trees and options give equal bytes. What archives
/// hold goes to a temporary file without a name in `folder`.
///
/// With `--link`, `stage` is the empty tree: then the layer depends on nothing that is below it.
///
/// # Errors
/// Nothing of what was written counts then.
pub fn copy<W: Write>(
    stage: &dyn FileTree,
    sources: &[Source<'_>],
    options: &CopyOptions<'_>,
    folder: &Path,
    output: W,
) -> Result<CopySummary, CopyError> {
    check_count(sources.len(), options)?;
    let mut staging = Staging::new(stage, options, folder);
    for source in sources {
        let selected = select(source, options)?;
        check_matches(&staging, &selected, options)?;
        for one in &selected {
            place(&mut staging, source, one, options)?;
        }
    }
    emit::emit(staging, output)
}

/// What the sources of one COPY or ADD hold, for the cache of builds: the names beneath each source, types, modes and owners as they
/// will be, sizes, contents, targets of links, extended attributes, and which names are one file; no times. Neither the
/// destination nor the stage has a part in it.
pub fn source_digest(sources: &[Source<'_>], options: &CopyOptions<'_>) -> Result<Digest, CopyError> {
    check_count(sources.len(), options)?;
    let mut digest = digest::SourceDigest::default();
    for source in sources {
        digest.begin_source(source);
        for one in &select(source, options)? {
            digest.add(source, one, options)?;
        }
    }
    Ok(digest.finish())
}

fn check_count(count: usize, options: &CopyOptions<'_>) -> Result<(), CopyError> {
    match count > 1 && !is_directory_path(&options.destination) {
        true => Err(CopyError::ManySources {
            instruction: options.instruction,
        }),
        false => Ok(()),
    }
}

/// Several matches of a wildcard need a directory, too.
fn check_matches(
    staging: &Staging<'_>,
    selected: &[Selected],
    options: &CopyOptions<'_>,
) -> Result<(), CopyError> {
    let are_several = selected.len() > 1 && selected.iter().any(|one| !one.node.is_directory());
    if !are_several || staging.is_directory(&options.destination)? {
        return Ok(());
    }
    check_count(selected.len(), options)
}
