//! The progress of a transfer, from the stream of JSON messages that the API sends: bars in a
//! terminal, lines elsewhere.

mod bars;
mod message;

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use thiserror::Error;

use crate::api::{ApiError, Pending};
use bars::Bars;
use message::{Message, MessageReader};

/// Why a transfer did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum ProgressError {
    /// The daemon said so in the middle of it.
    #[error("{0}")]
    Failed(String),
    /// The stream broke.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What came is not what the API promises.
    #[error("the daemon's progress is not understood: {0}")]
    Message(#[from] serde_json::Error),
    /// It cannot be shown.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// How much of it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// All of it on standard output.
    Output,
    /// All of it on standard error, because standard output has something else to say.
    Error,
    /// Nothing but how it ends.
    Nothing,
}

impl Show {
    /// All of it on standard output, unless a command is to be quiet.
    pub(crate) fn unless(quiet: bool) -> Self {
        if quiet { Self::Nothing } else { Self::Output }
    }
}

/// Shows a transfer to its end; the values that the daemon sent beside it.
pub(crate) async fn follow(mut response: Pending, show: Show) -> Result<Vec<Value>, ProgressError> {
    let mut display = Display::new(show);
    let mut reader = MessageReader::default();
    let mut values = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        for message in reader.push(&chunk)? {
            if let Some(reason) = message.failure() {
                display.finish()?;
                return Err(ProgressError::Failed(reason.to_owned()));
            }
            display.show(&message)?;
            values.extend(message.aux);
        }
    }
    reader.finish()?;
    display.finish()?;
    Ok(values)
}

enum Display {
    Bars(Box<Bars>),
    Lines(Box<dyn Write>),
    Nothing,
}

impl Display {
    fn new(show: Show) -> Self {
        match show {
            Show::Nothing => Self::Nothing,
            Show::Output if io::stdout().is_terminal() => Self::Bars(Box::new(Bars::on_stdout())),
            Show::Output => Self::Lines(Box::new(io::stdout())),
            Show::Error if io::stderr().is_terminal() => Self::Bars(Box::new(Bars::on_stderr())),
            Show::Error => Self::Lines(Box::new(io::stderr())),
        }
    }

    fn show(&mut self, message: &Message) -> io::Result<()> {
        match self {
            Self::Bars(bars) => bars.show(message),
            Self::Lines(output) => match message.line() {
                Some(line) => output.write_all(line.as_bytes()).and_then(|()| output.flush()),
                None => Ok(()),
            },
            Self::Nothing => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Bars(bars) => bars.settle(),
            Self::Lines(_) | Self::Nothing => Ok(()),
        }
    }
}
