//! `RUN`

use super::{CommandLine, Heredoc, Mount, Script};
use crate::position::Word;
use crate::syntax::heredoc::of_word;

/// `RUN [--mount=…] [--network=…] [--security=…] <command>`
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// `--mount`, each
    pub mounts: Vec<Mount>,
    /// `--network`
    pub network: Option<Network>,
    /// `--security`
    pub security: Option<Security>,
    /// The command, `<<` of here-documents included.
    pub command: CommandLine,
    /// The here-documents, in their order.
    pub heredocs: Vec<Heredoc>,
}

/// The network of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The build's own.
    #[default]
    Default,
    /// Only a loopback device.
    None,
    /// The host's.
    Host,
}

/// The security mode of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Confined, as every container.
    #[default]
    Sandbox,
    /// Privileged.
    Insecure,
}

impl Network {
    /// Every value of the flag.
    pub(crate) const ALL: [Network; 3] = [Network::Default, Network::None, Network::Host];

    /// As the flag says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Network::Default => "default",
            Network::None => "none",
            Network::Host => "host",
        }
    }
}

impl Security {
    /// Every value of the flag.
    pub(crate) const ALL: [Security; 2] = [Security::Sandbox, Security::Insecure];

    /// As the flag says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Security::Sandbox => "sandbox",
            Security::Insecure => "insecure",
        }
    }
}

impl Run {
    /// What is run. A here-document alone is the text of the shell, or a script when it begins with `#!`; several, or one
    /// with words around it, go to the shell as they stand.
    pub fn script(&self) -> Script {
        let text = match &self.command {
            CommandLine::Exec(words) => {
                return Script::Exec(words.iter().map(|word: &Word| word.value.clone()).collect());
            }
            CommandLine::Shell(text) => text.as_str(),
        };
        let Some(first) = self.heredocs.first() else {
            return Script::Shell(text.to_owned());
        };
        if of_word(text).is_some() {
            let content = first.text();
            return match content.starts_with("#!") {
                true => Script::File {
                    name: first.name.clone(),
                    content,
                },
                false => Script::Shell(content),
            };
        }
        let mut whole = text.to_owned();
        for heredoc in &self.heredocs {
            whole.extend(["\n", &heredoc.content, &heredoc.name]);
        }
        Script::Shell(whole)
    }
}
