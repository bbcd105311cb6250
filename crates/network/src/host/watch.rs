//! Hearing of the packets that containers are refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::nflog::{Logged, Nflog};
use super::packet;
use super::refusals::Refusals;
use super::rules::Rules;

/// How long to wait after an error, which may be there again at once.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Tells what the firewall logs, from when there is somebody to refuse something.
pub(super) struct Watch {
    rules: Arc<Rules>,
    refusals: Arc<Refusals>,
    begun: OnceCell<()>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Watch {
    pub(super) fn new(rules: Arc<Rules>, refusals: Arc<Refusals>) -> Self {
        Self {
            rules,
            refusals,
            begun: OnceCell::new(),
            task: Mutex::default(),
        }
    }

    /// Begins, if that was not done. A host that does not tell of packets refuses them all the same.
    pub(super) async fn begin(&self) {
        self.begun.get_or_init(|| self.open()).await;
    }

    async fn open(&self) {
        match Nflog::open().await {
            Ok(log) => {
                let told = tell(log, Arc::clone(&self.rules), Arc::clone(&self.refusals));
                let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
                *task = Some(tokio::spawn(told));
            }
            Err(error) => {
                self.rules.be_silent();
                tracing::warn!(%error, "packets that egress policies refuse are not told");
            }
        }
    }
}

async fn tell(mut log: Nflog, rules: Arc<Rules>, refusals: Arc<Refusals>) {
    loop {
        match log.next().await {
            Ok(packets) => packets
                .iter()
                .for_each(|packet| tell_one(packet, &rules, &refusals)),
            Err(error) => {
                tracing::warn!(%error, "packets that egress policies refused are not known");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

fn tell_one(packet: &Logged, rules: &Rules, refusals: &Arc<Refusals>) {
    // The prefix is the name of the interface, and a blank.
    let endpoint = rules.state().endpoint(packet.prefix.trim_end());
    if let (Some(endpoint), Some(refused)) = (endpoint, packet::read(&packet.head)) {
        refusals.add(&endpoint.container, refused);
    }
}
