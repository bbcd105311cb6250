//! Names of stages, and what `FROM` says.

use super::{Findings, Options, Rule};
use crate::diagnostic::{did_you_mean, quoted};
use crate::dockerfile::{Dockerfile, Stage};
use crate::position::Word;
use crate::scope::{BuildOptions, GlobalScope, Platform};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(dockerfile: &Dockerfile, options: &Options<'_>, findings: &mut Findings<'_>) {
    stage_names(dockerfile, findings);
    let Ok(global) = GlobalScope::new(dockerfile, &options.build) else {
        return;
    };
    let defaults = BuildOptions {
        build_args: BTreeMap::new(),
        ..options.build.clone()
    };
    let defaults = GlobalScope::new(dockerfile, &defaults).ok();
    for stage in &dockerfile.stages {
        undefined(stage, &global, findings);
        if let Some(defaults) = &defaults {
            default_base(&stage.from.instruction.image, defaults, findings);
        }
        platform(stage, &global, findings);
    }
}

fn stage_names(dockerfile: &Dockerfile, findings: &mut Findings<'_>) {
    let mut seen = BTreeSet::new();
    for name in dockerfile
        .stages
        .iter()
        .filter_map(|stage| stage.from.instruction.name.as_ref())
    {
        let lower = name.to_ascii_lowercase();
        if lower != name.value {
            let message = format!("Stage name '{}' should be lowercase", quoted(name));
            findings.add(Rule::StageNameCasing, name.span, message);
        }
        if matches!(lower.as_str(), "scratch" | "context") {
            let message = format!("Stage name should not use the same name as reserved stage \"{lower}\"");
            findings.add(Rule::ReservedStageName, name.span, message);
        }
        if !seen.insert(lower.clone()) {
            let message = format!(
                "Duplicate stage name \"{}\", stage names should be unique",
                quoted(&lower)
            );
            findings.add(Rule::DuplicateStageName, name.span, message);
        }
    }
}

fn undefined(stage: &Stage, global: &GlobalScope, findings: &mut Findings<'_>) {
    let from = &stage.from.instruction;
    for word in from.platform.iter().chain([&from.image]) {
        let Ok(expansion) = global.expand(word) else {
            continue;
        };
        for name in expansion.undefined.iter().filter(|name| !global.declares(name)) {
            if findings.is_full() {
                return;
            }
            let hint = did_you_mean(name, global.names());
            let message = format!("FROM argument '{}' is not declared{hint}", quoted(name));
            findings.add(Rule::UndefinedArgInFrom, word.span, message);
        }
    }
}

/// Whether the base image has a name when nobody gives build arguments.
fn default_base(image: &Word, defaults: &GlobalScope, findings: &mut Findings<'_>) {
    let Ok(expansion) = defaults.expand(image) else {
        return;
    };
    let has_variables = !expansion.used.is_empty() || !expansion.undefined.is_empty();
    if has_variables && !is_image_name(&expansion.text) {
        let message = format!(
            "Default value for ARG {} results in empty or invalid base image name",
            quoted(image)
        );
        findings.add(Rule::InvalidDefaultArgInFrom, image.span, message);
    }
}

/// Whether a text looks like a reference of an image: parts between slashes, then a tag or digest, none of them empty.
fn is_image_name(text: &str) -> bool {
    let (name, digest) = text
        .split_once('@')
        .map_or((text, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let is_part = |part: &str| {
        let ends = [part.chars().next(), part.chars().last()];
        let is_name = |next: char| next.is_ascii_alphanumeric() || "-_.:[]".contains(next);
        ends.into_iter()
            .all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric() || "[]".contains(end)))
            && part.chars().all(is_name)
    };
    let is_tag = |tag: &str| {
        tag.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && tag
                .chars()
                .all(|next| next.is_ascii_alphanumeric() || "-_.".contains(next))
    };
    path.split('/').all(is_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(|digest| {
            digest
                .split_once(':')
                .is_some_and(|(kind, hex)| !kind.is_empty() && hex.len() >= 32)
        })
}

fn platform(stage: &Stage, global: &GlobalScope, findings: &mut Findings<'_>) {
    let Some(word) = &stage.from.instruction.platform else {
        return;
    };
    let Ok(expansion) = global.expand(word) else {
        return;
    };
    if expansion.used.is_empty() && expansion.undefined.is_empty() {
        constant_platform(stage, word, &expansion.text, findings);
        return;
    }
    let is_target = global.get("TARGETPLATFORM") == Some(expansion.text.as_str());
    if is_target && expansion.undefined.is_empty() && expansion.used.iter().eq(["TARGETPLATFORM"]) {
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            quoted(word)
        );
        findings.add(Rule::RedundantTargetPlatform, word.span, message);
    }
}

/// A stage that is named after its platform is meant for that one.
fn constant_platform(stage: &Stage, word: &Word, text: &str, findings: &mut Findings<'_>) {
    let Ok(platform) = text.parse::<Platform>() else {
        return;
    };
    let name = stage.from.instruction.stage_name().unwrap_or_default();
    if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
        let message = format!(
            "FROM --platform flag should not use constant value \"{}\"",
            quoted(text)
        );
        findings.add(Rule::FromPlatformFlagConstDisallowed, word.span, message);
    }
}
