//! `COPY` and `ADD`.

use super::flags::{Flags, Kind};
use super::heredoc::of_word;
use super::instructions::list;
use super::parse::{Context, Fault, Parts, fault};
use crate::diagnostic::{Diagnostic, quoted};
use crate::instruction::{Add, Copy, Files, Heredoc, Mode};
use crate::limits::MAX_PATTERNS;

const COPY: [(&str, Kind); 6] = [
    ("from", Kind::Text),
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Truth),
    ("parents", Kind::Truth),
    ("exclude", Kind::Texts),
];

const ADD: [(&str, Kind); 7] = [
    ("chown", Kind::Text),
    ("chmod", Kind::Text),
    ("link", Kind::Truth),
    ("exclude", Kind::Texts),
    ("checksum", Kind::Text),
    ("keep-git-dir", Kind::Truth),
    ("unpack", Kind::Truth),
];

pub(super) fn copy(
    context: &Context<'_>,
    mut parts: Parts<'_>,
    heredocs: Vec<Heredoc>,
) -> Result<Copy, Fault> {
    let flags = Flags::check(std::mem::take(&mut parts.flags), &COPY)?;
    let from = flags.text("from");
    if let Some(from) = from.as_ref().filter(|from| from.contains('$')) {
        let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global \
                       scope as a workaround";
        return Err(fault(from.span, message));
    }
    Ok(Copy {
        from,
        files: files(context, "COPY", &flags, parts, heredocs)?,
    })
}

pub(super) fn add(context: &Context<'_>, mut parts: Parts<'_>, heredocs: Vec<Heredoc>) -> Result<Add, Fault> {
    let flags = Flags::check(std::mem::take(&mut parts.flags), &ADD)?;
    let checksum = flags.text("checksum");
    let files = files(context, "ADD", &flags, parts, heredocs)?;
    if let Some(checksum) = checksum.as_ref().filter(|_| files.words.len() != 1) {
        return Err(fault(
            checksum.span,
            "checksum can't be specified for multiple sources",
        ));
    }
    Ok(Add {
        checksum,
        keep_git_dir: flags.truth("keep-git-dir"),
        unpack: flags.truth("unpack"),
        files,
    })
}

fn files(
    context: &Context<'_>,
    keyword: &str,
    flags: &Flags,
    parts: Parts<'_>,
    heredocs: Vec<Heredoc>,
) -> Result<Files, Fault> {
    let written = parts.keyword.span;
    let mut list = list(context, parts)?;
    let destination = list.words.pop();
    let Some(destination) = destination.filter(|_| !list.words.is_empty()) else {
        let message = format!(
            "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined."
        );
        let error = Diagnostic::error(written, message);
        let help = format!("write it as {keyword} <source> … <destination>");
        return Err(Box::new(error.with_help(help)));
    };
    if !list.json && of_word(&destination).is_some() {
        let message = format!("{keyword} cannot accept a heredoc as a destination");
        return Err(fault(destination.span, message));
    }
    let chmod = flags.text("chmod");
    if let Some(chmod) = chmod
        .as_ref()
        .filter(|chmod| !chmod.contains(['$', '\'', '"', '\\', '`']))
    {
        Mode::parse(chmod).map_err(|error| fault(chmod.span, error.to_string()))?;
    }
    let exclude = flags.texts("exclude");
    if let Some(one) = exclude.get(MAX_PATTERNS) {
        let message = format!("more than {MAX_PATTERNS} --exclude flags: {}", quoted(one));
        return Err(fault(one.span, message));
    }
    Ok(Files {
        words: list.words,
        destination,
        json: list.json,
        heredocs,
        chown: flags.text("chown"),
        chmod,
        link: flags.truth("link"),
        parents: flags.truth("parents"),
        exclude,
    })
}
