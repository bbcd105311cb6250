//! The command of `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK`.

use crate::position::Word;

/// A command, in one of its two forms.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandLine {
    /// Text for the stage's shell.
    Shell(Word),
    /// A program and its arguments.
    Exec(Vec<Word>),
}

impl CommandLine {
    /// The arguments of the process: of the shell form, `shell` and the text behind it.
    pub fn arguments(&self, shell: &[String]) -> Vec<String> {
        match self {
            CommandLine::Shell(text) => shell.iter().chain([&text.value]).cloned().collect(),
            CommandLine::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
        }
    }

    /// Whether nothing is to be run.
    pub fn is_empty(&self) -> bool {
        match self {
            CommandLine::Shell(text) => text.is_empty(),
            CommandLine::Exec(words) => words.is_empty(),
        }
    }
}

/// What a `RUN` runs, here-documents put where they belong.
#[derive(Debug, Clone, PartialEq)]
pub enum Script {
    /// Text for the stage's shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A script that names its own interpreter (`#!`): a file of this name and content, mode 0755, is run.
    File {
        /// Its name.
        name: String,
        /// What it holds.
        content: String,
    },
}
