//! What containers were refused, for those who want to know.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

/// How many refusals of a container are told in a [window](WINDOW), with the one at its end that counts the others: who tries all
/// doors must not drown what others do.
const TOLD: u32 = 10;

/// The time in which they are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// A container was refused something by its egress policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The container's id.
    pub container: String,
    /// What it wanted.
    pub refused: Refused,
    /// How many more refusals there were just before, at least, that are not told.
    pub left_out: u64,
}

/// What a container wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// To know about a name.
    Name(String),
    /// To send something.
    Packet {
        /// The protocol's name, or its number.
        protocol: String,
        /// Where to.
        destination: IpAddr,
        /// To which port, where there are ports.
        port: Option<u16>,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => to.write_str(name),
            Self::Packet {
                protocol,
                destination,
                port,
            } => {
                write!(to, "{protocol} ")?;
                match (destination, port) {
                    (IpAddr::V6(address), Some(port)) => write!(to, "[{address}]:{port}"),
                    (address, Some(port)) => write!(to, "{address}:{port}"),
                    (address, None) => write!(to, "{address}"),
                }
            }
        }
    }
}

/// Tells refusals, not too many.
#[derive(Debug)]
pub(super) struct Refusals {
    listener: mpsc::Sender<Refusal>,
    /// Of containers that were refused something a moment ago.
    windows: Mutex<HashMap<String, Window>>,
}

#[derive(Debug, Default)]
struct Window {
    told: u32,
    left_out: u64,
    last: Option<Refused>,
}

impl Refusals {
    pub(super) fn new(listener: mpsc::Sender<Refusal>) -> Self {
        Self {
            listener,
            windows: Mutex::default(),
        }
    }

    /// Tells of a refusal, now or at the end of the window; within a tokio runtime.
    pub(super) fn add(self: &Arc<Self>, container: &str, refused: Refused) {
        let mut windows = self.windows();
        let is_first = !windows.contains_key(container);
        let window = windows.entry(container.to_owned()).or_default();
        // The last place is for the end.
        if window.told + 1 >= TOLD {
            window.left_out = window.left_out.saturating_add(1);
            window.last = Some(refused);
            return;
        }
        window.told += 1;
        drop(windows);
        self.tell(container, refused, 0);
        if is_first {
            let (refusals, container) = (Arc::clone(self), container.to_owned());
            tokio::spawn(async move {
                sleep(WINDOW).await;
                refusals.end(&container);
            });
        }
    }

    fn end(&self, container: &str) {
        let window = self.windows().remove(container);
        if let Some(window) = window
            && let Some(last) = window.last
        {
            self.tell(container, last, window.left_out.saturating_sub(1));
        }
    }

    fn tell(&self, container: &str, refused: Refused, left_out: u64) {
        tracing::info!(container, %refused, left_out, "a container was refused something by its egress policy");
        let refusal = Refusal {
            container: container.to_owned(),
            refused,
            left_out,
        };
        // Who does not listen, or not fast enough, finds it in the log.
        let _ = self.listener.try_send(refusal);
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<String, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> Refused {
        Refused::Name(format!("{number}.test"))
    }

    #[tokio::test(start_paused = true)]
    async fn ten_are_told_in_a_second_the_last_with_the_count_of_the_others() {
        let (sender, mut told) = mpsc::channel(100);
        let refusals = Arc::new(Refusals::new(sender));
        (0..50).for_each(|number| refusals.add("a", name(number)));
        refusals.add("b", name(0));
        let mut of_a = Vec::new();
        for _ in 0..11 {
            let refusal = told.recv().await.unwrap();
            match refusal.container.as_str() {
                "a" => of_a.push(refusal),
                _ => assert_eq!((refusal.refused, refusal.left_out), (name(0), 0)),
            }
        }
        assert_eq!(of_a.len(), 10);
        assert_eq!((of_a[8].refused.clone(), of_a[8].left_out), (name(8), 0));
        assert_eq!((of_a[9].refused.clone(), of_a[9].left_out), (name(49), 40));
        sleep(WINDOW * 2).await;
        assert!(told.try_recv().is_err() && refusals.windows().is_empty());
        refusals.add("a", name(1));
        assert_eq!(told.recv().await.unwrap().left_out, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_listen_holds_nobody_up() {
        let (sender, told) = mpsc::channel(1);
        let refusals = Arc::new(Refusals::new(sender));
        (0..5).for_each(|number| refusals.add("a", name(number)));
        drop(told);
        refusals.add("a", name(6));
    }

    #[test]
    fn refusals_have_short_texts() {
        let packet = |destination: &str, port| Refused::Packet {
            protocol: "tcp".into(),
            destination: destination.parse().unwrap(),
            port,
        };
        assert_eq!(packet("192.0.2.1", Some(443)).to_string(), "tcp 192.0.2.1:443");
        assert_eq!(
            packet("2001:db8::1", Some(443)).to_string(),
            "tcp [2001:db8::1]:443"
        );
        assert_eq!(packet("2001:db8::1", None).to_string(), "tcp 2001:db8::1");
        assert_eq!(name(1).to_string(), "1.test");
    }
}
