//! What a Dockerfile reads of its context, so that no more is sent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dockerfile::{BuildOptions, ContextFiles, ContextNeed, Graph, Origin, Platform};
use serde::Deserialize;

use super::selection::is_wild;
use crate::api::{Client, Target};

/// What is asked of the build, as far as it decides what is needed.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) build_args: &'a BTreeMap<String, Option<String>>,
    pub(super) target: Option<&'a str>,
    pub(super) platform: Option<&'a str>,
    /// Whether base images may become others.
    pub(super) pull: bool,
}

/// What a Dockerfile reads, and the images it begins with.
#[derive(Debug)]
struct Needs {
    files: ContextFiles,
    bases: Vec<String>,
}

/// `GET /images/{name}/json`, as far as triggers are concerned.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: Option<Config>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    on_build: Option<Vec<String>>,
}

/// The files that are needed; none where it may be all of them. A Dockerfile with errors needs none: the daemon tells what
/// is wrong.
pub(super) async fn needed(
    client: &Client,
    folder: &Path,
    text: Option<&str>,
    question: &Question<'_>,
) -> Option<ContextFiles> {
    let needs = match text.map(|text| needs_of(text, question)) {
        Some(Ok(needs)) => needs?,
        Some(Err(Broken)) | None => return Some(ContextFiles::default()),
    };
    let Needs { files, bases } = needs;
    if question.pull || leads_over_links(folder, &files) {
        return None;
    }
    for base in bases {
        if may_have_triggers(client, &base).await {
            return None;
        }
    }
    Some(files)
}

/// What is wrong with the Dockerfile, the daemon tells better.
struct Broken;

fn needs_of(text: &str, question: &Question<'_>) -> Result<Option<Needs>, Broken> {
    let dockerfile = dockerfile::parse(text).map_err(|_| Broken)?;
    let here = Platform::linux(std::env::consts::ARCH);
    let mut options = BuildOptions::new(here);
    if let Some(platform) = question.platform.and_then(|platform| platform.parse().ok()) {
        options.target_platform = platform;
    }
    options.target = question.target.map(str::to_owned);
    let given = question.build_args.iter();
    options.build_args = given
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    let graph = Graph::of(&dockerfile, &options).map_err(|_| Broken)?;
    let ContextNeed::Files(files) = graph.context_need() else {
        return Ok(None);
    };
    let bases = graph.order().into_iter().filter_map(|stage| match &stage.base {
        Origin::Image(name) => Some(name.clone()),
        _ => None,
    });
    Ok(Some(Needs {
        files,
        bases: bases.collect(),
    }))
}

/// Whether an image may bring instructions (`ONBUILD`) that read the context. Of one that is not there yet nobody knows.
async fn may_have_triggers(client: &Client, name: &str) -> bool {
    let image: Result<Image, _> = client.get(Target::new(&["images", name, "json"])).await;
    match image {
        Ok(Image { config }) => config
            .and_then(|config| config.on_build)
            .is_some_and(|triggers| !triggers.is_empty()),
        Err(_) => true,
    }
}

/// Whether there may be a symbolic link on the way to something that is needed: what it leads to would be needed, too.
fn leads_over_links(folder: &Path, files: &ContextFiles) -> bool {
    files.names().any(|name| {
        let parts: Vec<&str> = name.split('/').collect();
        has_link(folder, "", &parts, files)
    })
}

fn has_link(directory: &Path, above: &str, parts: &[&str], files: &ContextFiles) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return false;
    };
    let join = |name: &str| match above {
        "" => name.to_owned(),
        above => format!("{above}/{name}"),
    };
    let is_link =
        |name: &str| fs::symlink_metadata(directory.join(name)).is_ok_and(|metadata| metadata.is_symlink());
    if !is_wild(part) {
        return is_link(part) || has_link(&directory.join(part), &join(part), rest, files);
    }
    if part.contains("**") {
        return true;
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = join(&name);
        match entry.file_type() {
            // In the middle of a pattern any link may match.
            Ok(kind) if kind.is_symlink() => !rest.is_empty() || files.contains(&path),
            Ok(kind) if kind.is_dir() => has_link(&entry.path(), &path, rest, files),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(text: &str) -> Option<Vec<String>> {
        let build_args = [("A".to_owned(), Some("x".to_owned()))].into();
        let question = Question {
            build_args: &build_args,
            target: Some("t"),
            platform: None,
            pull: false,
        };
        match needs_of(text, &question) {
            Ok(Some(needs)) => Some(needs.files.names().map(str::to_owned).collect()),
            Ok(None) => None,
            Err(Broken) => Some(vec!["broken".to_owned()]),
        }
    }

    #[test]
    fn only_the_targets_stages_count() {
        let stages = "FROM a AS o\nCOPY other /\nFROM b AS t\nCOPY one two/ /\nADD https://h/x /\n";
        assert_eq!(names(stages).unwrap(), ["one", "two"]);
        assert_eq!(names("FROM a AS t\nCOPY . /\n"), None);
        assert_eq!(names("FROM a AS t\nRUN x\n").unwrap(), [""; 0]);
        assert_eq!(names("FROM a AS t\nNOPE\n").unwrap(), ["broken"]);
        assert_eq!(names("FROM a\n").unwrap(), ["broken"]);
    }

    #[test]
    fn bases_are_those_of_the_targets_stages() {
        let build_args = [("V".to_owned(), Some("9".to_owned()))].into();
        let question = Question {
            build_args: &build_args,
            target: None,
            platform: Some("linux/arm64"),
            pull: false,
        };
        let text = "ARG V=1\nFROM unused AS u\nFROM base:$V AS b\nFROM b\nCOPY --from=image f /\n";
        let Ok(Some(needs)) = needs_of(text, &question) else {
            panic!("the Dockerfile is whole");
        };
        assert_eq!(needs.bases, ["base:9"]);
    }

    #[test]
    fn links_on_the_way_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("real/deep")).unwrap();
        fs::write(at("real/deep/file"), "").unwrap();
        symlink("real", at("link")).unwrap();
        symlink("real/deep/file", at("real/a.link")).unwrap();
        for (sources, expected) in [
            ("real", false),
            ("real/deep/file", false),
            ("link", true),
            ("link/deep/file", true),
            ("missing/file", false),
            ("rea*", false),
            ("l*", true),
            ("real/*.txt", false),
            ("real/*.link", true),
            ("real/*/file", true),
        ] {
            let text = format!("FROM a\nCOPY {sources} /x/\n");
            let question = Question {
                build_args: &BTreeMap::new(),
                target: None,
                platform: None,
                pull: false,
            };
            let Ok(Some(needs)) = needs_of(&text, &question) else {
                panic!("{sources}");
            };
            assert_eq!(
                leads_over_links(folder.path(), &needs.files),
                expected,
                "{sources}"
            );
        }
    }
}
