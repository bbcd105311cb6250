//! Sources that the build context leaves out.

use super::{Findings, Rule};
use crate::diagnostic::quoted;
use crate::dockerfile::Dockerfile;
use crate::instruction::{Files, Instruction, Source};
use crate::pattern::{Ignore, clean, has_wildcard};

pub(super) fn check(dockerfile: &Dockerfile, ignore: &Ignore, findings: &mut Findings<'_>) {
    for statement in dockerfile.stages.iter().flat_map(|stage| &stage.body) {
        match &statement.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => sources("Copy", &copy.files, ignore, findings),
            Instruction::Add(add) => sources("Add", &add.files, ignore, findings),
            _ => {}
        }
    }
}

fn sources(what: &str, files: &Files, ignore: &Ignore, findings: &mut Findings<'_>) {
    for source in files.sources() {
        let Source::Path(word) = source else { continue };
        if word.contains(['$', '"', '\'']) || word.contains("://") || has_wildcard(word) {
            continue;
        }
        let path = clean(&format!("/{}", word.value));
        let path = path.trim_start_matches('/');
        if !path.is_empty() && ignore.matches(path) {
            let message = format!(
                "Attempting to {what} file \"{}\" that is excluded by .dockerignore",
                quoted(word)
            );
            findings.add(Rule::CopyIgnoredFile, word.span, message);
        }
    }
}
