//! The thread of a pair of queues: it waits for frames, kicks and the refill of token buckets.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use super::limiter::Limiter;
use super::pairs::Pairs;
use super::rx::{Received, Receiver};
use super::{control, tx};
use crate::virtio::queue::{QueueError, Virtqueue};

const STOP: u64 = 0;
const FRAMES: u64 = 1;
const RECEIVE_KICK: u64 = 2;
const TRANSMIT_KICK: u64 = 3;
const RECEIVE_REFILL: u64 = 4;
const TRANSMIT_REFILL: u64 = 5;
const CONTROL_KICK: u64 = 6;
/// The most events at once.
const EVENTS: usize = 7;

/// What ends the service of a pair before its time.
#[derive(Debug, Error)]
pub(super) enum ServiceError {
    /// The host would not let the thread wait.
    #[error("cannot wait for frames: {0}")]
    Wait(#[from] io::Error),
    /// The driver broke a ring.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The limits of both directions, which all pairs share.
#[derive(Clone)]
pub(super) struct Limiters {
    pub(super) receive: Arc<Mutex<Limiter>>,
    pub(super) transmit: Arc<Mutex<Limiter>>,
}

/// A pair of queues.
pub(super) struct Pair {
    pub(super) index: usize,
    pub(super) receive: Virtqueue,
    pub(super) transmit: Virtqueue,
    /// The control queue, with the first pair of several.
    pub(super) control: Option<Virtqueue>,
    pub(super) receiver: Receiver,
    pub(super) pairs: Arc<Pairs>,
    pub(super) limiters: Limiters,
}

impl Pair {
    /// Serves until `stop` is readable.
    pub(super) fn serve(&mut self, stop: &EventFd) -> Result<(), ServiceError> {
        let served = self.serve_events(stop);
        self.receiver.undo(&mut self.receive);
        served
    }

    fn serve_events(&mut self, stop: &EventFd) -> Result<(), ServiceError> {
        let (mut receive_refill, mut transmit_refill) = (timer()?, timer()?);
        let epoll = Epoll::new()?;
        let watch = |fd: RawFd, token: u64, how: EventSet| {
            epoll.ctl(
                ControlOperation::Add,
                fd,
                EpollEvent::new(EventSet::IN | how, token),
            )
        };
        let level = EventSet::empty();
        watch(stop.as_raw_fd(), STOP, level)?;
        if let Some(tap) = self.pairs.tap(self.index) {
            // Told once: the thread reads until there is nothing, or until something else wakes it up.
            watch(tap.as_raw_fd(), FRAMES, EventSet::EDGE_TRIGGERED)?;
        }
        watch(self.receive.kick().as_raw_fd(), RECEIVE_KICK, level)?;
        watch(self.transmit.kick().as_raw_fd(), TRANSMIT_KICK, level)?;
        watch(receive_refill.as_raw_fd(), RECEIVE_REFILL, level)?;
        watch(transmit_refill.as_raw_fd(), TRANSMIT_REFILL, level)?;
        if let Some(control) = &self.control {
            watch(control.kick().as_raw_fd(), CONTROL_KICK, level)?;
        }
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let ready = match epoll.wait(-1, &mut events) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let (mut receive, mut transmit) = (false, false);
            for event in &events[..ready] {
                match event.data() {
                    STOP => return Ok(()),
                    FRAMES => receive = true,
                    RECEIVE_KICK => receive |= taken(&self.receive),
                    TRANSMIT_KICK => transmit |= taken(&self.transmit),
                    RECEIVE_REFILL => receive |= rung(&mut receive_refill),
                    TRANSMIT_REFILL => transmit |= rung(&mut transmit_refill),
                    _ => self.serve_control()?,
                }
            }
            if receive {
                set(&mut receive_refill, self.receive_frames()?)?;
            }
            if transmit {
                set(&mut transmit_refill, self.transmit_frames()?)?;
            }
        }
    }

    /// Receives until there is nothing to receive or no room for it; returns how long to wait for the limit's sake. At most a
    /// ring of frames at once, as [`Virtqueue::drain`] does.
    pub(super) fn receive_frames(&mut self) -> Result<Option<Duration>, QueueError> {
        let Some(tap) = self.pairs.tap(self.index) else {
            return Ok(None);
        };
        for _ in 0..self.receive.size() {
            let wait = lock(&self.limiters.receive).wait(Instant::now());
            if wait.is_some() {
                self.receive.signal()?;
                return Ok(wait);
            }
            match self.receiver.receive(&mut self.receive, tap)? {
                Received::Frame(len) => lock(&self.limiters.receive).take(len),
                Received::Nothing => {
                    self.receive.signal()?;
                    return Ok(None);
                }
                Received::NoBuffers => {
                    self.receive.signal()?;
                    if !self.receive.want_kicks(true)? {
                        return Ok(None);
                    }
                }
            }
        }
        self.receive.signal()?;
        self.receive.kick_self();
        Ok(None)
    }

    /// Sends what the driver has; returns how long to wait for the limit's sake.
    pub(super) fn transmit_frames(&mut self) -> Result<Option<Duration>, QueueError> {
        let limiter = &self.limiters.transmit;
        let tap = self.pairs.tap(self.index);
        let mut wait = None;
        self.transmit.drain_until(|chain| {
            wait = lock(limiter).wait(Instant::now());
            if wait.is_some() {
                return None;
            }
            // Without an end on the host a frame goes nowhere.
            let sent = tap.map_or(0, |tap| tx::send(chain, tap));
            lock(limiter).take(sent);
            Some(0)
        })?;
        Ok(wait)
    }

    pub(super) fn serve_control(&mut self) -> Result<(), QueueError> {
        let Some(control) = &mut self.control else {
            return Ok(());
        };
        taken(control);
        control.drain(|chain| control::serve(chain, &self.pairs))
    }
}

/// Takes note of a kick.
fn taken(queue: &Virtqueue) -> bool {
    // The eventfd is non-blocking: without a kick there is nothing to read, and nothing to do about it.
    let _ = queue.kick().read();
    true
}

fn timer() -> io::Result<TimerFd> {
    TimerFd::new().map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// Takes note of a timer's ring.
fn rung(timer: &mut TimerFd) -> bool {
    let _ = timer.wait();
    true
}

/// Has a timer ring once.
fn set(timer: &mut TimerFd, wait: Option<Duration>) -> io::Result<()> {
    match wait {
        Some(wait) => timer
            .reset(wait.max(Duration::from_micros(1)), None)
            .map_err(|error| io::Error::from_raw_os_error(error.errno())),
        None => Ok(()),
    }
}

fn lock(limiter: &Mutex<Limiter>) -> MutexGuard<'_, Limiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}
