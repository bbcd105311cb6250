//! The entries of the corpus.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::listing::Listing;

/// The base image that entries have unless they say otherwise.
const BUSYBOX: &str = "localhost/busybox";
/// Not of the context.
pub(super) const RESERVED: [&str; 4] = ["context.sh", "options", "buildah", "expected"];

/// A Dockerfile, and what comes of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) options: Options,
    pub(super) judge: Judge,
    /// What buildah cannot tell.
    pub(super) expected: Expected,
}

/// How it is built.
#[derive(Debug, Default, Clone)]
pub(super) struct Options {
    pub(super) arguments: Vec<(String, String)>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) secrets: Vec<(String, String)>,
    pub(super) target: Option<String>,
}

/// What says whether the result is right.
#[derive(Debug)]
pub(super) enum Judge {
    /// `buildah`, but for these items.
    Buildah(Vec<String>),
    /// What the entry expects: buildah does not know the feature.
    Entry,
}

/// Items that an entry expects.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// What they differ from; `None` is nothing.
    pub(super) base: Option<String>,
    pub(super) items: Listing,
}

/// All entries that the environment asks for, by name.
pub(super) fn wanted() -> Result<Vec<Entry>> {
    let prefix = std::env::var("HULL_CORPUS").unwrap_or_default();
    let mut entries = all()?;
    entries.retain(|entry| entry.name.starts_with(&prefix));
    ensure!(
        !entries.is_empty(),
        "no entry of the corpus begins with {prefix:?}"
    );
    Ok(entries)
}

fn all() -> Result<Vec<Entry>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/microvm/build/corpus");
    let mut folders = fs::read_dir(&corpus)?
        .map(|found| Ok(found?.path()))
        .collect::<Result<Vec<_>>>()?;
    folders.sort();
    folders.into_iter().map(Entry::read).collect()
}

impl Entry {
    fn read(folder: PathBuf) -> Result<Self> {
        let name = folder.file_name().context("an entry has no name")?;
        let name = name.to_str().context("an entry's name is no text")?.to_owned();
        let read = || -> Result<Self> {
            let judge = Judge::parse(&text(&folder.join("buildah"))?)?;
            let expected = Expected::parse(&text(&folder.join("expected"))?)?;
            let is_judge = match &judge {
                Judge::Entry => true,
                Judge::Buildah(differing) => !differing.is_empty(),
            };
            ensure!(
                is_judge != expected.items.is_empty(),
                "an entry has expected items where, and only where, buildah is no judge"
            );
            Ok(Self {
                options: Options::parse(&text(&folder.join("options"))?)?,
                judge,
                expected,
                name: name.clone(),
                folder: folder.clone(),
            })
        };
        read().with_context(|| format!("corpus/{name}"))
    }

    /// Its folder's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The Dockerfile that is built before this one, if one is.
    pub(super) fn first(&self) -> Option<&'static str> {
        const FIRST: &str = "Dockerfile.first";
        self.folder.join(FIRST).exists().then_some(FIRST)
    }
}

/// Of a file that may be missing.
fn text(path: &Path) -> Result<String> {
    match path.exists() {
        true => fs::read_to_string(path).with_context(|| path.display().to_string()),
        false => Ok(String::new()),
    }
}

impl Options {
    fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for line in text.lines() {
            let (kind, value) = line.split_once(' ').context("an option has no value")?;
            let pair = || {
                let (name, value) = value.split_once('=').context("an option has no =")?;
                Ok::<_, anyhow::Error>((name.to_owned(), value.to_owned()))
            };
            match kind {
                "build-arg" => options.arguments.push(pair()?),
                "label" => options.labels.push(pair()?),
                "secret" => options.secrets.push(pair()?),
                "target" => options.target = Some(value.to_owned()),
                _ => bail!("there is no option {kind}"),
            }
        }
        Ok(options)
    }

    /// The same for a build on the image of this name.
    pub(super) fn on(&self, first: &str) -> Self {
        let mut options = self.clone();
        options.arguments.push(("FIRST".into(), first.into()));
        options
    }
}

impl Judge {
    fn parse(text: &str) -> Result<Self> {
        if text.starts_with("unsupported: ") {
            return Ok(Judge::Entry);
        }
        let item = |line: &str| {
            let rest = line
                .strip_prefix("differs: ")
                .context("neither unsupported nor differs")?;
            let (item, why) = rest.split_once(' ').context("a difference without a reason")?;
            ensure!(!why.trim().is_empty(), "a difference without a reason");
            Ok(item.to_owned())
        };
        let items: Result<_> = text.lines().map(item).collect();
        items.map(Judge::Buildah)
    }

    /// Whether buildah's result says what this item has to be.
    pub(super) fn asks_buildah(&self, item: &str) -> bool {
        let is_of = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => item.starts_with(start),
            None => item == pattern,
        };
        match self {
            Judge::Entry => false,
            Judge::Buildah(differing) => !differing.iter().any(is_of),
        }
    }
}

impl Expected {
    fn parse(text: &str) -> Result<Self> {
        let (base, rest) = match text.strip_prefix("base: ") {
            Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
            None => (BUSYBOX, text),
        };
        let item = |line: &str| {
            let (item, is) = line
                .split_once(' ')
                .with_context(|| format!("{line:?} is no item"))?;
            Ok::<_, anyhow::Error>((item.to_owned(), is.to_owned()))
        };
        Ok(Self {
            base: (base != "scratch").then(|| base.to_owned()),
            items: rest.lines().map(item).collect::<Result<_>>()?,
        })
    }

    /// What is expected of an item; `None`: what the base image has.
    pub(super) fn of(&self, item: &str) -> Option<&str> {
        self.items.get(item).map(String::as_str)
    }
}

#[test]
fn the_corpus_is_large_and_its_commands_are_few() -> Result<()> {
    let entries = all()?;
    assert!(entries.len() >= 60, "{} entries", entries.len());
    let mut commands = 0;
    for entry in &entries {
        let text = fs::read_to_string(entry.folder.join("Dockerfile")).context(entry.name.clone())?;
        let is_command = |line: &&str| line.trim_start().to_ascii_uppercase().starts_with("RUN ");
        commands += text.lines().filter(is_command).count();
    }
    // Each costs the start of a microVM.
    assert!(commands <= 120, "{commands} commands");
    Ok(())
}
