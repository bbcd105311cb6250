//! hull's part of a host, on a thread of its own, with containers that have policies.

use std::future::Future;
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use network::{Bridge, HostEndpoint, HostNetwork, HostNetworks, HostSettings, Refusal};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::lab::{self, Machine};
use crate::outside::NameServer;

/// The bridge of its one network, 172.17.0.0/24 and fd00:17::/64.
pub(crate) const BRIDGE: &str = "hull0";

pub(crate) struct Host {
    handle: Handle,
    networks: Mutex<Option<Arc<HostNetworks>>>,
    refusals: Mutex<mpsc::Receiver<Refusal>>,
    sender: mpsc::Sender<Refusal>,
    _end: oneshot::Sender<()>,
}

impl Host {
    /// Makes the calling thread's namespace a host; nothing where that cannot be.
    pub(crate) fn begin() -> Option<Self> {
        if !lab::host() {
            return None;
        }
        let (end, ended) = oneshot::channel::<()>();
        let (ready, handle) = channel();
        // It has the namespace of this thread.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            ready.send(runtime.handle().clone()).unwrap();
            let _ = runtime.block_on(ended);
        });
        let (sender, refusals) = mpsc::channel(1000);
        let host = Self {
            handle: handle.recv().unwrap(),
            networks: Mutex::default(),
            refusals: Mutex::new(refusals),
            sender,
            _end: end,
        };
        host.restart();
        Some(host)
    }

    /// Begins anew, as a daemon does that is started again: nothing is known.
    pub(crate) fn restart(&self) {
        self.networks.lock().unwrap().take();
        let sender = self.sender.clone();
        // Forbidden to everybody.
        let settings = HostSettings {
            forbidden: vec!["192.0.2.66/32".parse().unwrap()],
            ..HostSettings::default()
        };
        let open = async move { Arc::new(HostNetworks::open(settings, sender).unwrap()) };
        let opened = self.does(open);
        *self.networks.lock().unwrap() = Some(opened);
    }

    fn networks(&self) -> Arc<HostNetworks> {
        self.networks.lock().unwrap().clone().unwrap()
    }

    fn does<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = channel();
        self.handle.spawn(async move { done.send(what.await).unwrap() });
        result.recv().unwrap()
    }

    /// Takes a container with this number in, whose policies these are.
    pub(crate) fn adopt(&self, number: u8, policies: &[&str]) {
        let endpoint = endpoint(number, policies);
        let networks = self.networks();
        self.does(async move {
            networks.adopt(endpoint).await.unwrap();
            networks.settle().await.unwrap();
        });
    }

    /// Makes a container with this number, and takes it in.
    pub(crate) fn container(&self, number: u8, policies: &[&str]) -> Machine {
        self.adopt(number, policies);
        lab::container(BRIDGE, 17, number)
    }

    /// The container with this number is gone.
    pub(crate) fn dismiss(&self, number: u8) {
        let networks = self.networks();
        self.does(async move { networks.disconnect(&tap(number)) });
    }

    /// Has time go by.
    pub(crate) fn pass(&self, time: Duration) {
        self.does(async move {
            tokio::time::pause();
            tokio::time::advance(time).await;
            tokio::time::resume();
        });
        // What ends together is closed together, and then the rules are changed.
        thread::sleep(Duration::from_millis(1500));
    }

    /// What containers are refused from now on, until a text is among it.
    pub(crate) fn hear(&self, wanted: &str) -> Vec<Refusal> {
        let mut refusals = self.refusals.lock().unwrap();
        let (mut heard, end) = (Vec::new(), Instant::now() + Duration::from_secs(5));
        while Instant::now() < end {
            while let Ok(refusal) = refusals.try_recv() {
                let found = refusal.refused.to_string() == wanted;
                heard.push(refusal);
                if found {
                    return heard;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{wanted} is not heard of, but {heard:?}");
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&self) {
        thread::sleep(Duration::from_millis(1500));
        let mut refusals = self.refusals.lock().unwrap();
        while refusals.try_recv().is_ok() {}
    }
}

fn tap(number: u8) -> String {
    format!("hullt{number}")
}

fn endpoint(number: u8, policies: &[&str]) -> HostEndpoint {
    let addresses = [format!("172.17.0.{number}"), format!("fd00:17::{number}")];
    HostEndpoint {
        container: format!("container{number}"),
        network: Arc::new(network()),
        tap: tap(number),
        queues: 1,
        mac: lab::mac(number),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        names: vec![format!("name{number}")],
        links: Vec::new(),
        servers: vec![NameServer::address()],
        egress: policies.iter().map(|policy| policy.parse().unwrap()).collect(),
    }
}

fn network() -> HostNetwork {
    HostNetwork {
        bridge: Bridge {
            name: BRIDGE.to_owned(),
            addresses: vec!["172.17.0.1/24".parse().unwrap(), "fd00:17::1/64".parse().unwrap()],
            mtu: 1500,
        },
        subnets: vec!["172.17.0.0/24".parse().unwrap(), "fd00:17::/64".parse().unwrap()],
        internal: false,
        inter_container: true,
        masquerade: true,
    }
}

/// The addresses that a container is told of a name, sorted; the status if there are none.
pub(crate) fn ask(container: &Machine, words: &str) -> Vec<String> {
    let text = container.run(&format!("dig -r @172.17.0.1 +tries=1 +timeout=8 {words} || true"));
    let records = text
        .lines()
        .filter(|line| !line.starts_with(';') && !line.is_empty());
    let last_words = records.filter_map(|line| line.split_whitespace().last());
    let mut addresses: Vec<_> = last_words
        .filter(|word| word.parse::<IpAddr>().is_ok())
        .map(str::to_owned)
        .collect();
    addresses.sort();
    if addresses.is_empty() {
        let status = text.split("status: ").nth(1).unwrap_or(&text);
        addresses.push(status.split(',').next().unwrap_or_default().to_owned());
    }
    addresses
}
