//! A terminal: a line for each layer that changes in its place.

use std::collections::HashMap;
use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::message::{Message, Progress};

/// How often the terminal is drawn at most, a second.
const DRAWS_PER_SECOND: u8 = 20;
/// Lines that change at most; further ones are printed. An API that names more is no registry's.
const LINES_MAX: usize = 256;

/// The lines of one transfer.
pub(super) struct Bars {
    all: MultiProgress,
    /// Where text goes that does not change any more, while no line is drawn.
    output: Box<dyn Write>,
    /// In the order in which they appeared.
    lines: Vec<Line>,
    /// Where each layer's line is.
    places: HashMap<String, usize>,
    moving: ProgressStyle,
    standing: ProgressStyle,
}

struct Line {
    bar: ProgressBar,
    moves: bool,
}

impl Bars {
    pub(super) fn on_stdout() -> Self {
        Self::on(
            ProgressDrawTarget::stdout_with_hz(DRAWS_PER_SECOND),
            Box::new(io::stdout()),
        )
    }

    pub(super) fn on_stderr() -> Self {
        Self::on(
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            Box::new(io::stderr()),
        )
    }

    fn on(target: ProgressDrawTarget, output: Box<dyn Write>) -> Self {
        let style = |template| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            output,
            lines: Vec::new(),
            places: HashMap::new(),
            moving: style("{prefix}: {msg} [{bar:50}] {decimal_bytes}/{decimal_total_bytes}")
                .progress_chars("=> "),
            standing: style("{prefix}: {msg}"),
        }
    }

    pub(super) fn show(&mut self, message: &Message) -> io::Result<()> {
        // What moves, or has moved, is a layer; the rest is said once, below the layers before it.
        if message.id.is_empty() || message.progress.is_none() {
            let Some(line) = message.line() else {
                return Ok(());
            };
            self.settle()?;
            return writeln!(self.output, "{}", line.trim_end());
        }
        let place = match self.places.get(&message.id) {
            Some(place) => *place,
            None if self.lines.len() >= LINES_MAX => return Ok(()),
            None => {
                let bar = self
                    .all
                    .add(ProgressBar::new(0).with_style(self.standing.clone()));
                bar.set_prefix(message.id.clone());
                self.lines.push(Line { bar, moves: false });
                self.places.insert(message.id.clone(), self.lines.len() - 1);
                self.lines.len() - 1
            }
        };
        let progress = message.progress.filter(|progress| progress.is_known());
        self.lines[place].set(&message.status, progress, &self.moving, &self.standing);
        Ok(())
    }

    /// Leaves what the lines say as text that does not change any more.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.all.clear()?;
        for Line { bar, .. } in self.lines.drain(..) {
            self.all.remove(&bar);
            writeln!(self.output, "{}: {}", bar.prefix(), bar.message())?;
        }
        self.places.clear();
        self.output.flush()
    }
}

impl Line {
    fn set(
        &mut self,
        status: &str,
        progress: Option<Progress>,
        moving: &ProgressStyle,
        standing: &ProgressStyle,
    ) {
        if let Some(progress) = progress {
            self.bar.set_length(progress.total.max(progress.current));
            self.bar.set_position(progress.current);
        }
        self.bar.set_message(status.to_owned());
        if self.moves != progress.is_some() {
            self.moves = progress.is_some();
            let style = if self.moves { moving } else { standing };
            self.bar.set_style(style.clone());
        }
        self.bar.tick();
    }
}
