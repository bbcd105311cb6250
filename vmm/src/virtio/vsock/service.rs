//! The device's thread: one loop over the queues, the listening socket and all connections.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use thiserror::Error;
use vm_memory::Bytes;
use vmm_sys_util::epoll::{ControlOperation, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::chain::Packet;
use super::multiplexer::{LISTENER, Multiplexer};
use super::rx::Filled;
use crate::log::log;
use crate::virtio::interrupt::Interrupt;
use crate::virtio::queue::{QueueError, Virtqueue};

/// Tokens of the device's own events; the listener's is 0.
const STOP: u64 = 1;
const RX_KICK: u64 = 2;
const TX_KICK: u64 = 3;
const EVENT_KICK: u64 = 4;

/// Events that are taken from the kernel at a time.
const EVENTS: usize = 64;

/// Packets of the guest that are taken in one go, so that other events get their turn, too.
const BUDGET: usize = 256;

/// The event's id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, as it lies in memory.
const TRANSPORT_RESET: [u8; 4] = [0; 4];

/// What ends the service before it is told to stop.
#[derive(Debug, Error)]
enum ServiceError {
    #[error("cannot watch or wait for events: {0}")]
    Events(#[from] io::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The queues of the device, and the connections behind them.
pub struct Service {
    /// The connections.
    pub multiplexer: Multiplexer,
    /// Packets for the guest.
    pub rx: Virtqueue,
    /// Packets of the guest.
    pub tx: Virtqueue,
    /// Events for the guest.
    pub events: Virtqueue,
    /// Whether the guest has to be told that its connections are gone (TRANSPORT_RESET, section 5.10.6.6).
    pub transport_reset: bool,
    // The guest's packets had to wait for room in the receive queue.
    tx_waits: bool,
    // The driver kicks when it has posted receive buffers.
    rx_kicks: bool,
}

impl Service {
    /// A service that has not begun.
    pub fn new(multiplexer: Multiplexer, [rx, tx, events]: [Virtqueue; 3], transport_reset: bool) -> Service {
        Service {
            multiplexer,
            rx,
            tx,
            events,
            transport_reset,
            tx_waits: false,
            rx_kicks: true,
        }
    }

    /// Serves the queues until `stop` is readable. A broken ring is reported to the driver and ends the service until
    /// the device is reset.
    pub fn run(&mut self, stop: &EventFd, interrupt: &dyn Interrupt) {
        let own = [
            (stop.as_raw_fd(), STOP),
            (self.rx.kick().as_raw_fd(), RX_KICK),
            (self.tx.kick().as_raw_fd(), TX_KICK),
            (self.events.kick().as_raw_fd(), EVENT_KICK),
        ];
        let served = self.watch(&own).and_then(|()| self.serve());
        for (fd, _) in own {
            // One that was never added is not there to be removed.
            let _ = self
                .multiplexer
                .epoll()
                .ctl(ControlOperation::Delete, fd, EpollEvent::default());
        }
        if let Err(error) = served {
            log!("vsock: {error}; the device waits for a reset");
            interrupt.failed();
        }
    }

    fn watch(&self, own: &[(RawFd, u64)]) -> Result<(), ServiceError> {
        for &(fd, token) in own {
            let event = EpollEvent::new(EventSet::IN, token);
            self.multiplexer.epoll().ctl(ControlOperation::Add, fd, event)?;
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<(), ServiceError> {
        // Whatever happened while nobody looked.
        self.exchange()?;
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let timeout = self.timeout();
            let ready = match self.multiplexer.epoll().wait(timeout, &mut events) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..ready] {
                match event.data() {
                    STOP => return Ok(()),
                    RX_KICK => clear(self.rx.kick()),
                    TX_KICK => clear(self.tx.kick()),
                    EVENT_KICK => clear(self.events.kick()),
                    LISTENER => self.multiplexer.accept_clients(),
                    token => self.multiplexer.socket_event(token, event.event_set()),
                }
            }
            self.multiplexer.expire(Instant::now());
            self.exchange()?;
        }
    }

    /// Milliseconds until the next deadline, rounded up; -1 for none.
    fn timeout(&self) -> i32 {
        let Some(deadline) = self.multiplexer.next_deadline() else {
            return -1;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
    }

    /// Takes what the guest sends and sends what waits for it.
    fn exchange(&mut self) -> Result<(), QueueError> {
        if self.transport_reset {
            self.announce_reset()?;
        }
        self.take_packets()?;
        self.send_packets()?;
        if self.tx_waits && self.multiplexer.can_receive() {
            self.tx.kick_self();
        }
        Ok(())
    }

    fn announce_reset(&mut self) -> Result<(), QueueError> {
        let Some(chain) = self.events.pop()? else {
            return Ok(());
        };
        let head = chain.head_index();
        let buffer = chain
            .clone()
            .next()
            .filter(|descriptor| descriptor.is_write_only());
        let told =
            buffer.is_some_and(|buffer| chain.memory().write_obj(TRANSPORT_RESET, buffer.addr()).is_ok());
        self.events
            .add_used(head, if told { TRANSPORT_RESET.len() as u32 } else { 0 })?;
        self.events.signal()?;
        self.transport_reset = !told;
        Ok(())
    }

    fn take_packets(&mut self) -> Result<(), QueueError> {
        let memory = self.tx.memory().clone();
        let mut budget = BUDGET;
        self.tx_waits = false;
        self.tx.want_kicks(false)?;
        loop {
            if !self.multiplexer.can_receive() {
                self.tx_waits = true;
                break;
            }
            if budget == 0 {
                self.tx.kick_self();
                self.tx.want_kicks(true)?;
                break;
            }
            let Some(chain) = self.tx.pop()? else {
                if self.tx.want_kicks(true)? {
                    continue;
                }
                break;
            };
            budget -= 1;
            let head = chain.head_index();
            if let Some(packet) = Packet::readable(&memory, chain) {
                let header = packet.header();
                let mut parts = Vec::new();
                let len = packet.payload(header.len as usize, &mut parts);
                self.multiplexer.receive(header, &parts, len);
            }
            self.tx.add_used(head, 0)?;
        }
        self.tx.signal()
    }

    fn send_packets(&mut self) -> Result<(), QueueError> {
        if self.rx_kicks {
            self.rx.want_kicks(false)?;
            self.rx_kicks = false;
        }
        match self.multiplexer.fill(&mut self.rx)? {
            Filled::Done => {}
            Filled::More => self.rx.kick_self(),
            Filled::NoBuffers => {
                self.rx_kicks = true;
                if self.rx.want_kicks(true)? {
                    self.rx.kick_self();
                }
            }
        }
        self.rx.signal()
    }
}

fn clear(kick: &EventFd) {
    // The eventfd is non-blocking: without a kick there is nothing to read, and nothing to do about it.
    let _ = kick.read();
}
