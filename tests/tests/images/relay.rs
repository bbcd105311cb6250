//! A relay between hulld and a registry: it counts what goes through, and can stop it in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

/// A test that waits longer for what must come has failed.
const BOUND: Duration = Duration::from_secs(30);

/// Relays connections until the test ends.
pub(crate) struct Relay {
    /// `127.0.0.1:PORT`.
    pub(crate) host: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    served: u64,
    /// What is served before blobs stop.
    gate: Option<u64>,
    heads: Vec<String>,
}

impl Relay {
    /// To the server at `HOST:PORT`.
    pub(crate) fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let host = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let relaying = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = relaying.clone();
                // A server that is not there is a connection that ends.
                thread::spawn(move || shared.relay(&client));
            }
        });
        Ok(Self { host, shared })
    }

    /// Lets no more than about `bytes` of blobs from now on to the client, until it is opened.
    pub(crate) fn stop_after(&self, bytes: u64) {
        let mut state = self.shared.lock();
        state.gate = Some(state.served + bytes);
    }

    /// Waits until all that is let through went through.
    pub(crate) fn wait_until_stopped(&self) -> Result<()> {
        let full = |state: &mut State| state.gate.is_some_and(|gate| state.served < gate);
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, BOUND, full);
        let (state, _) = waited.unwrap_or_else(|_| panic!("the relay panicked"));
        ensure!(
            state.gate.is_some_and(|gate| state.served >= gate),
            "only {} bytes were asked for: {:?}",
            state.served,
            state.heads
        );
        Ok(())
    }

    /// Lets everything through.
    pub(crate) fn open(&self) {
        self.shared.lock().gate = None;
        self.shared.changed.notify_all();
    }

    /// Bytes that the server sent and the client was handed.
    pub(crate) fn served(&self) -> u64 {
        self.shared.lock().served
    }

    /// What the client asked for: the text of its requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.lock().heads.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|_| panic!("the relay panicked"))
    }

    fn relay(self: &Arc<Self>, client: &TcpStream) -> Result<()> {
        let server = TcpStream::connect(&self.target)?;
        let (asking, answering) = (client.try_clone()?, server.try_clone()?);
        let (shared, blob) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let asked = blob.clone();
        let upward = thread::spawn(move || shared.upward(asking, answering, &asked));
        let downward = self.downward(&server, client, &blob);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        let _ = upward.join();
        downward
    }

    /// From the client to the server; it tells whether the last request is for a blob.
    fn upward(&self, mut client: TcpStream, mut server: TcpStream, blob: &AtomicBool) -> Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = client.read(&mut buffer)?;
            if count == 0 {
                server.shutdown(Shutdown::Write)?;
                return Ok(());
            }
            let piece = &buffer[..count];
            if piece.starts_with(b"GET ") {
                let head = String::from_utf8_lossy(piece).into_owned();
                blob.store(head.contains("/blobs/"), Ordering::Release);
                self.lock().heads.push(head);
            }
            server.write_all(piece)?;
        }
    }

    /// From the server to the client, as far as the gate allows.
    fn downward(&self, mut server: &TcpStream, mut client: &TcpStream, blob: &AtomicBool) -> Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = server.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(self.take(rest.len(), blob));
                client.write_all(piece)?;
                rest = later;
            }
        }
    }

    /// Waits until something may pass; at most `wanted` bytes.
    fn take(&self, wanted: usize, blob: &AtomicBool) -> usize {
        let blob = blob.load(Ordering::Acquire);
        let closed = |state: &mut State| blob && state.gate.is_some_and(|gate| state.served >= gate);
        let state = self.changed.wait_while(self.lock(), closed);
        let mut state = state.unwrap_or_else(|_| panic!("the relay panicked"));
        let gate = state.gate.filter(|_| blob);
        let left = gate.map_or(u64::MAX, |gate| gate - state.served);
        let count = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        state.served += count as u64;
        self.changed.notify_all();
        count
    }
}
