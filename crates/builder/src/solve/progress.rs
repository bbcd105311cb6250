//! What a build tells while it goes on: that of one stage at a time, in the order in which they are built, so that what stages say
//! that are built at the same time is not mixed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Output of a build that waits to be told, in bytes: of stages whose turn has not come, or because nobody listens. Nobody waits for
/// it, who could have what others wait for: what is more is left out.
const MOST_WAITING: usize = 32 << 20;
/// Output of a build that is told at all, in bytes: what commands print, and what is said of images that are pulled.
const MOST_OUTPUT: u64 = 64 << 20;

/// Something that a build tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins.
    Step {
        /// Which one, from 1.
        number: usize,
        /// Of how many.
        total: usize,
        /// The instruction.
        text: String,
    },
    /// The step's result was there already.
    Cached,
    /// The step has its result: the digits of an image's or layer's digest.
    Made(String),
    /// What a command prints.
    Output {
        /// The bytes.
        bytes: Bytes,
        /// Whether it is its standard error.
        is_error: bool,
    },
    /// Something that is not as it might be.
    Warning(String),
    /// The image is complete: its identifier, and the names that it got.
    Built {
        /// `sha256:HEX`
        id: String,
        /// Full names.
        names: Vec<String>,
    },
}

/// Where a part of a build tells what it does.
#[derive(Debug, Clone)]
pub struct Reporter {
    to: mpsc::UnboundedSender<Event>,
    /// Bytes of output that wait, of all parts together.
    waiting: Arc<AtomicUsize>,
    budget: OutputBudget,
}

/// The output of a build in all its parts, in bytes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct OutputBudget(Arc<AtomicU64>);

/// What becomes of a piece of output.
enum Fate {
    Told,
    /// It is the first that is too much.
    Clipped,
    LeftOut,
}

impl OutputBudget {
    /// Counts a piece. Behind one that was too much all are.
    fn take(&self, bytes: usize) -> Fate {
        let bytes = bytes as u64;
        let spent = self.0.fetch_add(bytes, Ordering::Relaxed);
        match spent.saturating_add(bytes) {
            sum if sum <= MOST_OUTPUT => Fate::Told,
            _ if spent <= MOST_OUTPUT => Fate::Clipped,
            _ => Fate::LeftOut,
        }
    }
}

impl Reporter {
    /// Tells something. A build goes on when nobody listens any more: whoever started it ends it.
    pub fn tell(&self, event: Event) {
        let fate = match event.output() {
            0 => Fate::Told,
            bytes => self.budget.take(bytes),
        };
        match fate {
            Fate::Told => self.send(event),
            Fate::Clipped => self.send(Event::Warning(format!(
                "the build has printed more than {} MiB: the rest of its output is not told",
                MOST_OUTPUT >> 20
            ))),
            Fate::LeftOut => {}
        }
    }

    fn send(&self, event: Event) {
        let waits = self.waiting.fetch_add(event.output(), Ordering::Relaxed);
        if event.output() > 0 && waits > MOST_WAITING {
            self.waiting.fetch_sub(event.output(), Ordering::Relaxed);
            return;
        }
        let _ = self.to.send(event);
    }

    /// Tells a line of text that no command has printed.
    pub fn tell_line(&self, text: String) {
        let (bytes, is_error) = (text.into(), false);
        self.tell(Event::Output { bytes, is_error });
    }
}

impl Event {
    /// Bytes of output in it.
    fn output(&self) -> usize {
        match self {
            Event::Output { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// The stages' reporters, and what hands on what they say: one after the other.
pub(super) fn reporters(
    count: usize,
    budget: &OutputBudget,
    to: mpsc::Sender<Event>,
) -> (Vec<Reporter>, impl Future<Output = ()> + Send + use<>) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let reporters = senders.into_iter().map(|to| Reporter {
        to,
        waiting: waiting.clone(),
        budget: budget.clone(),
    });
    let reporters = reporters.collect();
    let forward = async move {
        for mut receiver in receivers {
            while let Some(event) = receiver.recv().await {
                let output = event.output();
                if to.send(event).await.is_err() {
                    return;
                }
                waiting.fetch_sub(output, Ordering::Relaxed);
            }
        }
    };
    (reporters, forward)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_output_of_a_build_has_an_end_which_is_told_once() {
        let (sender, mut events) = mpsc::channel(1);
        let (reporters, forward) = reporters(7, &OutputBudget::default(), sender);
        let forward = tokio::spawn(forward);
        let (mut bytes, mut warnings) = (0, 0);
        for reporter in reporters {
            for _ in 0..10 {
                let bytes = vec![b'x'; 1 << 20].into();
                let is_error = false;
                reporter.tell(Event::Output { bytes, is_error });
            }
            reporter.tell(Event::Cached);
            // Only so much may wait.
            loop {
                match events.recv().await.expect("what is no output is always told") {
                    Event::Cached => break,
                    Event::Warning(_) => warnings += 1,
                    event => bytes += event.output() as u64,
                }
            }
        }
        forward.await.unwrap();
        assert_eq!((bytes, warnings), (MOST_OUTPUT, 1));
    }
}
