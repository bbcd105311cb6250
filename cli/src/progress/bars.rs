//! A terminal: a line for each layer that changes in its place.

use std::collections::HashMap;
use std::io::{self, Write};

use indicatif::{DecimalBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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
            moving: style("{prefix}{msg} [{bar:50}] {decimal_bytes}/{decimal_total_bytes}")
                .progress_chars("=> "),
            standing: style("{prefix}{msg}"),
        }
    }

    pub(super) fn show(&mut self, message: &Message) -> io::Result<()> {
        // What moves, or has moved, is a layer or a file; the rest is said once, below the layers before it.
        let moves = match message.id.as_str() {
            "" => message.progress.is_some_and(Progress::is_known),
            _ => message.progress.is_some(),
        };
        if !moves {
            let Some(line) = message.line() else {
                return Ok(());
            };
            self.settle()?;
            // As it is: what a build prints may be a part of a line.
            self.output.write_all(line.as_bytes())?;
            return self.output.flush();
        }
        let place = match self.places.get(&message.id) {
            Some(place) => *place,
            None if self.lines.len() >= LINES_MAX => return Ok(()),
            None => {
                let bar = self
                    .all
                    .add(ProgressBar::new(0).with_style(self.standing.clone()));
                if !message.id.is_empty() {
                    bar.set_prefix(format!("{}: ", message.id));
                }
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
        for Line { bar, moves } in self.lines.drain(..) {
            self.all.remove(&bar);
            write!(self.output, "{}{}", bar.prefix(), bar.message())?;
            if moves {
                let (done, all) = (
                    DecimalBytes(bar.position()),
                    DecimalBytes(bar.length().unwrap_or(0)),
                );
                write!(self.output, " {done}/{all}")?;
            }
            writeln!(self.output)?;
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::progress::message::MessageReader;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is left of these messages when all has been said.
    fn left(messages: &str) -> String {
        let written = Written::default();
        let mut bars = Bars::on(ProgressDrawTarget::hidden(), Box::new(written.clone()));
        for message in MessageReader::default().push(messages.as_bytes()).unwrap() {
            bars.show(&message).unwrap();
        }
        bars.settle().unwrap();
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_layer_and_a_file_leave_how_far_they_came_above_what_follows() {
        let layer = |status: &str, detail: &str| {
            format!(r#"{{"status":"{status}","progressDetail":{detail},"id":"0123456789ab"}}"#)
        };
        let pulled = [
            layer("Downloading", r#"{"current":5,"total":10}"#),
            layer("Pull complete", "{}"),
        ];
        assert_eq!(left(&pulled.concat()), "0123456789ab: Pull complete\n");
        let loaded = [
            layer("Loading layer", r#"{"current":5000,"total":10000}"#),
            layer("Loading layer", r#"{"current":10000,"total":10000}"#),
            r#"{"stream":"Loaded image: a:1\n"}"#.to_owned(),
        ];
        assert_eq!(
            left(&loaded.concat()),
            "0123456789ab: Loading layer 10.00 kB/10.00 kB\nLoaded image: a:1\n"
        );
        let imported = r#"{"status":"Downloading from http://h/a.tar"}
            {"status":"Importing","progressDetail":{"current":7000,"total":7000}}
            {"status":"sha256:00"}"#;
        assert_eq!(
            left(imported),
            "Downloading from http://h/a.tar\nImporting 7.00 kB/7.00 kB\nsha256:00\n"
        );
    }

    #[test]
    fn what_is_for_programs_makes_no_line() {
        let aux = r#"{"progressDetail":{},"aux":{"Tag":"1","Digest":"sha256:00","Size":7}}"#;
        assert_eq!(left(aux), "");
    }
}
