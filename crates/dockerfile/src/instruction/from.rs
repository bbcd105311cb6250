//! `FROM`

use crate::position::Word;

/// `FROM [--platform=<platform>] <image> [AS <name>]`
#[derive(Debug, Clone, PartialEq)]
pub struct From {
    /// `--platform`, unexpanded
    pub platform: Option<Word>,
    /// The image or stage below, unexpanded.
    pub image: Word,
    /// `AS` as written.
    pub keyword: Option<Word>,
    /// The stage's name as written. Names are compared in lower case: see [`From::stage_name`].
    pub name: Option<Word>,
}

impl From {
    /// The stage's name in lower case.
    pub fn stage_name(&self) -> Option<String> {
        self.name.as_ref().map(|name| name.to_ascii_lowercase())
    }
}

/// What BuildKit takes as a stage's name.
pub(crate) fn is_stage_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|next| next.is_ascii_lowercase() || next.is_ascii_digit() || "-_.".contains(next))
}
