//! `COPY` and `ADD`

use super::Heredoc;
use crate::position::Word;
use crate::syntax::heredoc::of_word;

/// `COPY [--from=…] <sources> <destination>`
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// `--from`: a stage, an image or a named context instead of the build context
    pub from: Option<Word>,
    /// What is copied, and how.
    pub files: Files,
}

/// `ADD [--checksum=…] <sources> <destination>`
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    /// `--checksum`: the digest of the one source
    pub checksum: Option<Word>,
    /// `--keep-git-dir`: whether `.git` of a repository is kept
    pub keep_git_dir: Option<bool>,
    /// `--unpack`: whether archives are unpacked; without it, local ones are and those from the network are not
    pub unpack: Option<bool>,
    /// What is added, and how.
    pub files: Files,
}

/// What `COPY` and `ADD` have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// The sources as written, here-documents among them: see [`Files::sources`].
    pub words: Vec<Word>,
    /// Where they go, unexpanded.
    pub destination: Word,
    /// Whether the paths were written as a JSON array.
    pub json: bool,
    /// The here-documents.
    pub heredocs: Vec<Heredoc>,
    /// `--chown`: `user[:group]`, unexpanded
    pub chown: Option<Word>,
    /// `--chmod`, unexpanded
    pub chmod: Option<Word>,
    /// `--link`: whether the files are a layer that does not depend on those below
    pub link: Option<bool>,
    /// `--parents`: whether the folders above a source are kept
    pub parents: Option<bool>,
    /// `--exclude`, each, unexpanded
    pub exclude: Vec<Word>,
}

/// One source of a `COPY` or `ADD`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source<'a> {
    /// A path, pattern or, with `ADD`, URL; unexpanded.
    Path(&'a Word),
    /// A here-document.
    Inline(&'a Heredoc),
}

impl Files {
    /// The sources in their order.
    pub fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        self.words.iter().map(|word| match self.heredoc(word) {
            Some(heredoc) => Source::Inline(heredoc),
            None => Source::Path(word),
        })
    }

    fn heredoc(&self, word: &Word) -> Option<&Heredoc> {
        // Looked for only where there are some: reading the word costs more than this question.
        if self.heredocs.is_empty() {
            return None;
        }
        let written = of_word(word)?;
        self.heredocs.iter().rfind(|heredoc| heredoc.name == written.name)
    }
}
