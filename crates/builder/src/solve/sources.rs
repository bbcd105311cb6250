//! What COPY and ADD copy, as the files half of this crate wants it.

use std::path::Path;

use dockerfile::pattern::{Ignore, PathPattern, Wildcard, has_wildcard, split_pivot};
use dockerfile::{ExpandedFiles, ExpandedSource};
use tar_stream::Timestamp;

use super::BuildError;
use crate::{Context, ContextAttributes, ContextBuilder, ContextLimits, Excludes, FileTree, Source, What};

/// `--exclude`, in Docker's patterns.
pub(super) struct Excluded(Ignore);

impl Excluded {
    /// `None` without patterns.
    pub(super) fn of(patterns: &[String]) -> Result<Option<Self>, BuildError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let ignore = Ignore::new(patterns.iter().map(String::as_str));
        ignore
            .map(|ignore| Some(Self(ignore)))
            .map_err(|error| BuildError::Pattern(error.to_string()))
    }
}

impl Excludes for Excluded {
    fn is_excluded(&self, path: &[u8]) -> bool {
        self.0.matches(&String::from_utf8_lossy(path))
    }

    fn has_exceptions(&self) -> bool {
        true
    }
}

/// One source, before it is known what tree it is in.
pub(super) enum Wanted {
    /// A path in the tree.
    Path {
        base: Vec<u8>,
        path: Vec<u8>,
        parents: bool,
        unpack: bool,
    },
    /// What matches in the tree.
    Pattern {
        base: Vec<u8>,
        pattern: PathPattern,
        depth: Option<usize>,
        parents: bool,
        unpack: bool,
    },
    /// A file of its own.
    File {
        tree: Context,
        name: String,
        unpack: bool,
    },
}

impl Wanted {
    /// What the sources name; here-documents go to files in `folder`.
    pub(super) fn all(
        files: &ExpandedFiles,
        unpack: bool,
        time: Timestamp,
        folder: &Path,
    ) -> Result<Vec<Self>, BuildError> {
        let wanted = |source: &ExpandedSource| match source {
            ExpandedSource::Inline { name, content } => inline(name, content, time, folder),
            ExpandedSource::Path(path) => named(path, files.parents, unpack),
        };
        files.sources.iter().map(wanted).collect()
    }

    /// The source, where the tree is known.
    pub(super) fn source<'a>(
        &'a self,
        tree: &'a dyn FileTree,
        matches: &'a dyn Fn(&[u8]) -> bool,
    ) -> Source<'a> {
        match self {
            Self::File { tree, name, unpack } => Source {
                tree,
                base: Vec::new(),
                what: What::Path(name.as_bytes().to_vec()),
                parents: false,
                unpack: *unpack,
            },
            Self::Path {
                base,
                path,
                parents,
                unpack,
            } => Source {
                tree,
                base: base.clone(),
                what: What::Path(path.clone()),
                parents: *parents,
                unpack: *unpack,
            },
            Self::Pattern {
                base,
                depth,
                parents,
                unpack,
                ..
            } => Source {
                tree,
                base: base.clone(),
                what: What::Pattern {
                    matches,
                    depth: *depth,
                },
                parents: *parents,
                unpack: *unpack,
            },
        }
    }

    /// Whether a path matches the pattern.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Pattern { pattern, .. } => {
                std::str::from_utf8(path).is_ok_and(|path| pattern.matches(path))
            }
            Self::Path { .. } | Self::File { .. } => false,
        }
    }
}

fn named(source: &str, parents: bool, unpack: bool) -> Result<Wanted, BuildError> {
    let (base, path) = match parents {
        true => split_pivot(source),
        false => ("", source),
    };
    let base = base.trim_start_matches('/').as_bytes().to_vec();
    let wildcard = if parents {
        Wildcard::Deep
    } else {
        Wildcard::Shallow
    };
    let pattern =
        |path: &str| PathPattern::new(path, wildcard).map_err(|error| BuildError::Pattern(error.to_string()));
    if !has_wildcard(path) {
        // Backslashes may stand before what would be wildcards.
        let plain = pattern(path)?.literal().unwrap_or(path).as_bytes().to_vec();
        return Ok(Wanted::Path {
            base,
            path: plain,
            parents,
            unpack,
        });
    }
    let path = dockerfile::pattern::clean(path.trim_start_matches('/'));
    let pattern = pattern(&path)?;
    let is_deep = parents && path.contains("**");
    Ok(Wanted::Pattern {
        base,
        pattern,
        depth: (!is_deep).then(|| path.matches('/').count()),
        parents,
        unpack,
    })
}

fn inline(name: &str, content: &str, time: Timestamp, folder: &Path) -> Result<Wanted, BuildError> {
    let mut builder = ContextBuilder::new(folder, ContextLimits::default())?;
    let attributes = ContextAttributes {
        mode: 0o644,
        mtime: time,
        xattrs: Vec::new(),
    };
    builder.file(name.as_bytes(), attributes, &mut content.as_bytes())?;
    Ok(Wanted::File {
        tree: builder.finish()?,
        name: name.to_owned(),
        unpack: false,
    })
}
