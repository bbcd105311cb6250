//! A terminal: a line for each layer that changes in its place.

use std::collections::HashMap;
use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::message::{Message, Progress};

/// How often the terminal is drawn at most, a second.
const DRAWS_PER_SECOND: u8 = 20;
/// Lines that change at most; further ones are printed. An API that names more is no registry's.
const LINES_MAX: usize = 256;

/// The lines of one transfer.
pub(super) struct Bars {
    all: MultiProgress,
    lines: HashMap<String, Line>,
    moving: ProgressStyle,
    standing: ProgressStyle,
}

struct Line {
    bar: ProgressBar,
    moves: bool,
}

impl Bars {
    pub(super) fn on_stdout() -> Self {
        Self::on(ProgressDrawTarget::stdout_with_hz(DRAWS_PER_SECOND))
    }

    pub(super) fn on_stderr() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let style = |template| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            lines: HashMap::new(),
            moving: style("{prefix}: {msg} [{bar:50}] {decimal_bytes}/{decimal_total_bytes}")
                .progress_chars("=> "),
            standing: style("{prefix}: {msg}"),
        }
    }

    pub(super) fn show(&mut self, message: &Message) -> io::Result<()> {
        // What moves, or has moved, is a layer; the rest is said once.
        if message.id.is_empty() || message.progress.is_none() {
            return match message.line() {
                Some(line) => self.all.println(line.trim_end()),
                None => Ok(()),
            };
        }
        let count = self.lines.len();
        let line = match self.lines.get_mut(&message.id) {
            Some(line) => line,
            None if count >= LINES_MAX => return Ok(()),
            None => {
                let bar = self
                    .all
                    .add(ProgressBar::new(0).with_style(self.standing.clone()));
                bar.set_prefix(message.id.clone());
                self.lines
                    .entry(message.id.clone())
                    .or_insert(Line { bar, moves: false })
            }
        };
        let progress = message.progress.filter(|progress| progress.is_known());
        line.set(&message.status, progress, &self.moving, &self.standing);
        Ok(())
    }

    /// Leaves the lines as they are.
    pub(super) fn finish(&mut self) {
        for line in self.lines.values() {
            line.bar.abandon();
        }
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
        if self.moves != progress.is_some() {
            self.moves = progress.is_some();
            let style = if self.moves { moving } else { standing };
            self.bar.set_style(style.clone());
        }
        self.bar.set_message(status.to_owned());
        if let Some(progress) = progress {
            self.bar.set_length(progress.total.max(progress.current));
            self.bar.set_position(progress.current);
        }
        self.bar.tick();
    }
}
