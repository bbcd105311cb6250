//! The device's thread: one loop over the queues, the listening socket and all connections.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use thiserror::Error;
use vmm_sys_util::epoll::{ControlOperation, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::chain::Packet;
use super::multiplexer::{FIRST_CONNECTION, LISTENER, Multiplexer};
use super::rx::Filled;
use crate::virtio::interrupt::Interrupt;
use crate::virtio::queue::{QueueError, Virtqueue};

/// Tokens of the device's own events; the listener's is 0.
const STOP: u64 = 1;
const RX_KICK: u64 = 2;
const TX_KICK: u64 = 3;

/// Events that are taken from the kernel at a time.
const EVENTS: usize = 64;

/// What ends the service before it is told to stop.
#[derive(Debug, Error)]
enum ServiceError {
    #[error("cannot watch or wait for events: {0}")]
    Events(#[from] io::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Serves the receive queue and the transmit queue until `stop` is readable. A broken ring is reported to the driver
/// and ends the service until the device is reset.
pub fn serve(
    stop: &EventFd,
    multiplexer: &mut Multiplexer,
    rx: &mut Virtqueue,
    tx: &mut Virtqueue,
    interrupt: &dyn Interrupt,
) {
    let own = [
        (stop.as_raw_fd(), STOP),
        (rx.kick().as_raw_fd(), RX_KICK),
        (tx.kick().as_raw_fd(), TX_KICK),
    ];
    let served = watch(multiplexer, &own).and_then(|()| Service { multiplexer, rx, tx }.run());
    for (fd, _) in own {
        // One that was never added is not there to be removed.
        let _ = multiplexer.epoll().ctl(ControlOperation::Delete, fd, EpollEvent::default());
    }
    if let Err(error) = served {
        eprintln!("hull-vmm: vsock: {error}; the device waits for a reset");
        interrupt.failed();
    }
}

fn watch(multiplexer: &Multiplexer, own: &[(RawFd, u64)]) -> Result<(), ServiceError> {
    for &(fd, token) in own {
        let event = EpollEvent::new(EventSet::IN, token);
        multiplexer.epoll().ctl(ControlOperation::Add, fd, event)?;
    }
    Ok(())
}

struct Service<'a> {
    multiplexer: &'a mut Multiplexer,
    rx: &'a mut Virtqueue,
    tx: &'a mut Virtqueue,
}

impl Service<'_> {
    fn run(&mut self) -> Result<(), ServiceError> {
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
                    // The eventfd is non-blocking: without a kick there is nothing to read, and nothing to do about it.
                    RX_KICK => drop(self.rx.kick().read()),
                    TX_KICK => drop(self.tx.kick().read()),
                    LISTENER => self.multiplexer.accept_clients(),
                    token if token >= FIRST_CONNECTION => {
                        self.multiplexer.socket_event(token, event.event_set());
                    }
                    _ => {}
                }
            }
            self.multiplexer.expire(Instant::now());
            self.exchange()?;
        }
    }

    /// Milliseconds until the next deadline, rounded up; -1 for none.
    fn timeout(&self) -> i32 {
        let Some(deadline) = self.multiplexer.next_deadline() else { return -1 };
        let left = deadline.saturating_duration_since(Instant::now());
        i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
    }

    /// Takes what the guest sends and sends what waits for it.
    fn exchange(&mut self) -> Result<(), QueueError> {
        self.take_packets()?;
        self.send_packets()?;
        if self.tx_waited() {
            self.tx.kick_self();
        }
        Ok(())
    }

    /// Whether the guest's packets had to wait for refusals that are out now.
    fn tx_waited(&self) -> bool {
        self.waiting && self.multiplexer.can_receive()
    }
}
