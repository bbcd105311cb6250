//! What of the build context a target reads: a client need not send more.

use super::Graph;
use crate::expansion::Expander;
use crate::instruction::{Files, Instruction, Mount, Source, Statement};
use crate::pattern::{PathPattern, Wildcard, clean};
use std::collections::BTreeSet;

/// Files of the build context.
#[derive(Debug, Clone)]
pub enum ContextNeed {
    /// All of them, or nobody knows: the words hold variables whose values an image may set.
    Everything,
    /// These.
    Files(ContextFiles),
}

/// Paths and patterns in the build context. Triggers of base images may ask for more: nobody knows them before the image is
/// there.
#[derive(Debug, Clone, Default)]
pub struct ContextFiles {
    paths: BTreeSet<String>,
    patterns: Vec<(String, PathPattern)>,
}

impl ContextFiles {
    /// The paths and patterns, without slashes in front.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.paths
            .iter()
            .chain(self.patterns.iter().map(|(text, _)| text))
            .map(String::as_str)
    }

    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && self.patterns.is_empty()
    }

    /// Whether a file or folder is needed: it, or a folder above it, is named. Its path has no slash in front.
    pub fn contains(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.chain([path]).any(|path| {
            self.paths.contains(path) || self.patterns.iter().any(|(_, pattern)| pattern.matches(path))
        })
    }
}

impl Graph {
    /// What the target, as far as it is known, reads of the build context.
    pub fn context_need(&self) -> ContextNeed {
        let mut files = ContextFiles::default();
        let mut seen = BTreeSet::new();
        for stage in self.order() {
            for statement in stage.instructions() {
                if self.collect(statement, &mut files, &mut seen).is_none() {
                    return ContextNeed::Everything;
                }
            }
        }
        ContextNeed::Files(files)
    }

    /// Adds what an instruction reads; none when that is everything.
    fn collect(
        &self,
        statement: &Statement,
        files: &mut ContextFiles,
        seen: &mut BTreeSet<String>,
    ) -> Option<()> {
        match &statement.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => self.add_sources(&copy.files, files, seen),
            Instruction::Add(add) => self.add_sources(&add.files, files, seen),
            Instruction::Run(run) => run
                .mounts
                .iter()
                .try_for_each(|mount| self.add_mount(mount, files)),
            _ => Some(()),
        }
    }

    fn add_sources(&self, of: &Files, files: &mut ContextFiles, seen: &mut BTreeSet<String>) -> Option<()> {
        let wildcard = match of.parents {
            Some(true) => Wildcard::Deep,
            _ => Wildcard::Shallow,
        };
        of.sources().try_for_each(|source| match source {
            Source::Inline(_) => Some(()),
            Source::Path(word) => files.add(&self.plain(word)?, wildcard, seen),
        })
    }

    fn add_mount(&self, mount: &Mount, files: &mut ContextFiles) -> Option<()> {
        let kind = self.plain(mount.value(&["type"]).unwrap_or("bind"))?;
        if !kind.eq_ignore_ascii_case("bind") || mount.from().is_some() {
            return Some(());
        }
        let source = self.plain(mount.value(&["source", "src"]).unwrap_or_default())?;
        files.add_path(&source)
    }

    /// A word without quotes and escapes; none if it holds variables.
    fn plain(&self, word: &str) -> Option<String> {
        let nothing = |_: &str| None;
        let expansion = Expander::new(self.global().escape(), &nothing)
            .expand(word)
            .ok()?;
        (expansion.undefined.is_empty() && expansion.used.is_empty()).then_some(expansion.text)
    }
}

impl ContextFiles {
    fn add(&mut self, source: &str, wildcard: Wildcard, seen: &mut BTreeSet<String>) -> Option<()> {
        if is_remote(source) {
            return Some(());
        }
        let Ok(pattern) = PathPattern::new(&inside(source)?, wildcard) else {
            // The builder tells what is wrong with it.
            return Some(());
        };
        match pattern.literal() {
            Some(path) => self.add_path(path),
            None => {
                let text = inside(source)?;
                if seen.insert(format!("{wildcard:?} {text}")) {
                    self.patterns.push((text, pattern));
                }
                Some(())
            }
        }
    }

    fn add_path(&mut self, path: &str) -> Option<()> {
        self.paths.insert(inside(path)?);
        Some(())
    }
}

/// A path in the context, without a slash in front; none for its root.
fn inside(path: &str) -> Option<String> {
    let path = clean(&format!("/{path}"));
    let path = path.trim_start_matches('/');
    (!path.is_empty()).then(|| path.to_owned())
}

/// Whether a source of `ADD` is fetched from the network: a URL, or a Git repository.
fn is_remote(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}
