//! What hull builds is file by file what `buildah` builds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use system_tests::{Hull, hull};

use super::api::{Image, Request, build, build_with_docker, listing};
use super::buildah::{Buildah, debian};
use super::context::{pack, prepare};
use super::entries::{Entry, Judge, wanted};
use super::listing::{ABSENT, Listing};
use super::workers::complaints;

/// The base images, and what they are.
type Bases = BTreeMap<String, Listing>;

/// The parts of the corpus, each a test, and the first words of the names of their entries.
macro_rules! parts {
    ($($test:ident: $($word:literal)*;)*) => {
        const WORDS: &[&str] = &[$($($word),*),*];
        $(
            #[test]
            fn $test() -> Result<()> {
                let hull = hull!();
                compare(&hull, &[$($word),*])
            }
        )*
    };
}

parts! {
    added_files_are_those_of_buildah: "add" "dockerignore";
    copied_files_are_those_of_buildah: "copy";
    what_commands_do_is_what_they_do_with_buildah: "run" "shell" "user" "workdir" "volume" "onbuild";
    stages_arguments_and_settings_are_those_of_buildah: "from" "stage" "arg" "env" "config" "expose" "syntax";
    what_is_built_on_debian_is_what_buildah_builds: "debian";
}

#[test]
fn each_entry_belongs_to_a_part() -> Result<()> {
    let entries = wanted()?;
    let alone: Vec<&str> = entries
        .iter()
        .filter(|entry| !is_of_part(entry, WORDS))
        .map(Entry::name)
        .collect();
    assert!(alone.is_empty(), "{alone:?}");
    Ok(())
}

fn is_of_part(entry: &Entry, words: &[&str]) -> bool {
    entry
        .name
        .split('-')
        .next()
        .is_some_and(|word| words.contains(&word))
}

fn compare(hull: &Hull, words: &[&str]) -> Result<()> {
    let mut entries = wanted()?;
    entries.retain(|entry| is_of_part(entry, words));
    if words.contains(&"debian") {
        bring_debian(hull);
    }
    let buildah = Buildah::new(hull.prefix())?;
    let bases = bases(&buildah, &entries)?;
    let found = complaints(&entries, Entry::name, |entry| {
        let theirs = built_by_buildah(&buildah, entry)?;
        let ours = built_by_hull(hull, entry)?;
        let mut found = differences(entry, &ours, theirs.as_ref(), &bases);
        found.extend(theirs.iter().flat_map(|theirs| agreements(entry, theirs)));
        Ok(found)
    });
    assert!(found.is_empty(), "\n{found}");
    Ok(())
}

/// What needs no microVM: the entries are what buildah takes, and what is said to differ does.
#[test]
#[ignore = "a part of what the comparison does, for who has no microVM"]
fn buildah_builds_what_the_corpus_says_it_builds() -> Result<()> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
    let buildah = Buildah::new(&build)?;
    let found = complaints(&wanted()?, Entry::name, |entry| {
        let theirs = built_by_buildah(&buildah, entry)?;
        Ok(theirs
            .iter()
            .flat_map(|theirs| agreements(entry, theirs))
            .collect())
    });
    assert!(found.is_empty(), "\n{found}");
    Ok(())
}

/// What buildah makes as the entry expects it, though it is said to differ.
fn agreements(entry: &Entry, theirs: &Listing) -> Vec<String> {
    let agreeing = entry.expected.items.iter().filter(|(item, is)| {
        let theirs = is_of(theirs, item);
        plain(item, theirs) == plain(item, is)
    });
    agreeing
        .map(|(item, is)| format!("{item} {is}: buildah has the same, so that the entry need not say it"))
        .collect()
}

/// The Debian image, in the store of the tests' instance.
pub(super) fn bring_debian(hull: &Hull) {
    let archive = debian(hull.prefix());
    if archive.exists() {
        hull.hull(["load", "--quiet", "--input", &archive.display().to_string()])
            .ok();
    }
}

/// What the entries are compared with that tell themselves what is expected.
fn bases(buildah: &Buildah, entries: &[Entry]) -> Result<Bases> {
    let names: BTreeSet<&String> = entries
        .iter()
        .filter_map(|entry| entry.expected.base.as_ref())
        .collect();
    let told = names
        .into_iter()
        .map(|name| Ok((name.clone(), buildah.listing(name)?)));
    told.collect()
}

/// `None` where buildah is not asked.
fn built_by_buildah(buildah: &Buildah, entry: &Entry) -> Result<Option<Listing>> {
    if matches!(entry.judge, Judge::Entry) {
        return Ok(None);
    }
    let context = prepare(entry)?;
    let first = match entry.first() {
        Some(dockerfile) => Some(buildah.build(context.path(), dockerfile, &entry.options)?),
        None => None,
    };
    let options = match &first {
        Some(image) => entry.options.on(image),
        None => entry.options.clone(),
    };
    let image = buildah.build(context.path(), "Dockerfile", &options)?;
    let listing = buildah.listing(&image)?;
    for image in [Some(image), first].into_iter().flatten() {
        buildah.remove(&image)?;
    }
    Ok(Some(listing))
}

fn built_by_hull(hull: &Hull, entry: &Entry) -> Result<Listing> {
    let folder = prepare(entry)?;
    let context = pack(folder.path())?;
    let first = Image::new(hull, &format!("first-{}", entry.name));
    let mut options = entry.options.clone();
    if let Some(dockerfile) = entry.first() {
        let request = Request {
            dockerfile,
            name: &first.name,
            options: options.clone(),
        };
        build(hull, &request, &context)?.image()?;
        options = options.on(&first.name);
    }
    let image = Image::new(hull, &entry.name);
    let request = Request {
        dockerfile: "Dockerfile",
        name: &image.name,
        options,
    };
    // Leaving files out is the client's work.
    if folder.path().join(".dockerignore").exists() {
        return listing(hull, &build_with_docker(hull, &request, folder.path()));
    }
    listing(hull, build(hull, &request, &context)?.image()?)
}

/// What differs, in words.
fn differences(entry: &Entry, ours: &Listing, theirs: Option<&Listing>, bases: &Bases) -> Vec<String> {
    let nothing = Listing::new();
    let base = entry
        .expected
        .base
        .as_ref()
        .and_then(|name| bases.get(name))
        .unwrap_or(&nothing);
    let items: BTreeSet<&String> = ours
        .keys()
        .chain(theirs.into_iter().flat_map(Listing::keys))
        .chain(base.keys().filter(|_| theirs.is_none()))
        .chain(entry.expected.items.keys())
        .collect();
    let differing = items.into_iter().filter_map(|item| {
        let is = is_of(ours, item);
        let (who, expected) = match theirs {
            Some(theirs) if entry.judge.asks_buildah(item) => ("buildah", is_of(theirs, item)),
            Some(_) => ("the entry", entry.expected.of(item).unwrap_or(ABSENT)),
            None => (
                "the entry",
                entry.expected.of(item).unwrap_or_else(|| is_of(base, item)),
            ),
        };
        let same = plain(item, is) == plain(item, expected);
        (!same).then(|| format!("{item}\n    hull: {is}\n    {who}: {expected}"))
    });
    differing.collect()
}

fn is_of<'a>(listing: &'a Listing, item: &str) -> &'a str {
    listing.get(item).map_or(ABSENT, String::as_str)
}

/// What an item counts as. Buildah leaves empty files where it mounts its own for a command, and a folder that it needs for one; hull
/// leaves nothing, as Docker does. So it is with the folders that images without them get for it.
fn plain<'a>(item: &str, is: &'a str) -> &'a str {
    let is_mounted = [
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/run/.containerenv",
    ]
    .contains(&item);
    match is_mounted && is.ends_with("\"\"") || matches!(item, "/run" | "/dev") && is == "dir 755 0:0" {
        true => ABSENT,
        false => is,
    }
}
