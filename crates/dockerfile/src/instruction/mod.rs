//! The instructions, each a type of its own; their words are as they were written, nothing is expanded.

mod command;
mod files;
mod from;
mod healthcheck;
mod mode;
mod mount;
mod mount_parts;
mod port;
mod run;
mod simple;

pub use command::{CommandLine, Script};
pub use files::{Add, Copy, Files, Source};
pub use from::From;
pub use healthcheck::{Healthcheck, HealthcheckCommand};
pub use mode::{Mode, ModeError};
pub use mount::{Mount, MountError, MountOption, MountSpec, Owner, Sharing};
pub use port::{Port, PortError, Protocol};
pub use run::{Network, Run, Security};
pub use simple::{Arg, Argument, Env, KeyValue, Label, Onbuild};

pub(crate) use from::is_stage_name;
pub(crate) use mount::check_mount;

use crate::position::{Located, Span, Word};

/// An instruction and how it was written.
///
/// Two are equal when they say the same, wherever and on however many lines they stand.
#[derive(Debug, Clone)]
pub struct Statement<T = Instruction> {
    /// The keyword as written, e.g. `run`.
    pub keyword: Word,
    /// What it says.
    pub instruction: T,
    /// The comments right above it, without `#`.
    pub comments: Vec<String>,
    /// Where: from the keyword to the end of its last line, here-documents included.
    pub span: Span,
    /// An empty line between its lines, which Docker will refuse one day.
    pub empty_continuation: Option<Span>,
}

impl<T: PartialEq> PartialEq for Statement<T> {
    fn eq(&self, other: &Self) -> bool {
        self.keyword == other.keyword
            && self.instruction == other.instruction
            && self.comments == other.comments
    }
}

/// An instruction of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Arg),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Env),
    /// `EXPOSE`: ports, unexpanded
    Expose(Vec<Word>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Label),
    /// `MAINTAINER`
    Maintainer(Word),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<Word>),
    /// `STOPSIGNAL`
    StopSignal(Word),
    /// `USER`
    User(Word),
    /// `VOLUME`
    Volume(Words),
    /// `WORKDIR`
    Workdir(Word),
}

/// Words, and how they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// The words.
    pub words: Vec<Word>,
    /// Whether they were written as a JSON array.
    pub json: bool,
}

/// A here-document: a file that stands in the Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Heredoc {
    /// The word that ends it, which is also its file name.
    pub name: String,
    /// Its lines as written, tabs at their beginnings included.
    pub content: String,
    /// Whether variables are expanded in it: its name has no quotes.
    pub expand: bool,
    /// Whether tabs at the beginnings of lines are dropped (`<<-`).
    pub chomp: bool,
    /// The file descriptor in front of `<<`; 0 without one.
    pub descriptor: u32,
    /// Where its lines stand.
    pub body: Located<()>,
}

impl Heredoc {
    /// What the file holds.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        let lines = self.content.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

impl Instruction {
    /// Its keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Instruction::Add(_) => "ADD",
            Instruction::Arg(_) => "ARG",
            Instruction::Cmd(_) => "CMD",
            Instruction::Copy(_) => "COPY",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Env(_) => "ENV",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Label(_) => "LABEL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Run(_) => "RUN",
            Instruction::Shell(_) => "SHELL",
            Instruction::StopSignal(_) => "STOPSIGNAL",
            Instruction::User(_) => "USER",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Workdir(_) => "WORKDIR",
        }
    }
}

/// Every keyword, for a suggestion.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
