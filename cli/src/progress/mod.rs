//! The progress of a transfer, from the stream of JSON messages that the API sends: bars in a
//! terminal, lines elsewhere.

mod bars;
mod kept;
mod message;

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use thiserror::Error;

use crate::api::{ApiError, Pending};
use bars::Bars;
use kept::Kept;
use message::{Message, MessageReader};

/// Why a transfer did not come to its end.
#[derive(Debug, Error)]
pub(crate) enum ProgressError {
    /// The daemon said so in the middle of it.
    #[error("{message}")]
    Failed {
        /// In its words.
        message: String,
        /// An exit code, such as that of the command that failed; zero where there is none.
        code: i64,
    },
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

/// A standard stream to show something on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error, because standard output has something else to say.
    Error,
}

/// How much of a transfer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// All of it: bars in a terminal, lines elsewhere.
    All(Stream),
    /// What does not move, as lines, in a terminal too.
    Lines(Stream),
    /// The messages as they came.
    Json(Stream),
    /// Nothing but how it ends.
    Nothing,
    /// Nothing, and all that was said, on standard error, if it fails.
    OnFailure,
}

impl Show {
    /// All of it on standard output, unless a command is to be quiet.
    pub(crate) fn unless(quiet: bool) -> Self {
        if quiet {
            Self::Nothing
        } else {
            Self::All(Stream::Output)
        }
    }
}

/// Shows a transfer to its end; the values that the daemon sent beside it.
pub(crate) async fn follow(mut response: Pending, show: Show) -> Result<Vec<Value>, ProgressError> {
    let mut display = Display::new(show);
    let mut reader = MessageReader::default();
    let mut values = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        display.pass(&chunk)?;
        for message in reader.push(&chunk)? {
            if let Some(reason) = message.failure() {
                display.fail()?;
                return Err(ProgressError::Failed {
                    message: reason.to_owned(),
                    code: message.failure_code(),
                });
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
    Json(Box<dyn Write>),
    Kept(Kept),
    Nothing,
}

impl Display {
    fn new(show: Show) -> Self {
        match show {
            Show::Nothing => Self::Nothing,
            Show::OnFailure => Self::Kept(Kept::default()),
            Show::Json(stream) => Self::Json(stream.open()),
            Show::All(Stream::Output) if io::stdout().is_terminal() => {
                Self::Bars(Box::new(Bars::on_stdout()))
            }
            Show::All(Stream::Error) if io::stderr().is_terminal() => Self::Bars(Box::new(Bars::on_stderr())),
            Show::All(stream) | Show::Lines(stream) => Self::Lines(stream.open()),
        }
    }

    /// What came, before it is read.
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Json(output) => output.write_all(bytes).and_then(|()| output.flush()),
            _ => Ok(()),
        }
    }

    fn show(&mut self, message: &Message) -> io::Result<()> {
        match self {
            Self::Bars(bars) => bars.show(message),
            Self::Lines(output) => match message.line() {
                Some(line) => output.write_all(line.as_bytes()).and_then(|()| output.flush()),
                None => Ok(()),
            },
            Self::Kept(kept) => {
                kept.add(message.line());
                Ok(())
            }
            Self::Json(_) | Self::Nothing => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Bars(bars) => bars.settle(),
            _ => Ok(()),
        }
    }

    fn fail(&mut self) -> io::Result<()> {
        match self {
            Self::Kept(kept) => io::stderr().write_all(kept.text().as_bytes()),
            display => display.finish(),
        }
    }
}

impl Stream {
    fn open(self) -> Box<dyn Write> {
        match self {
            Self::Output => Box::new(io::stdout()),
            Self::Error => Box::new(io::stderr()),
        }
    }
}
