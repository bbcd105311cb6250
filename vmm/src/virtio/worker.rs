//! The thread of a device: it waits for kicks, and for the event that ends it.

use std::io;
use std::os::fd::AsRawFd;
use std::thread::{Builder, JoinHandle};

use thiserror::Error;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::interrupt::Interrupt;
use super::queue::{QueueError, Virtqueue};
use crate::log::log;

/// Bytes of stack a device's thread has.
const STACK_SIZE: usize = 256 << 10;

/// A thread that works until it is told to stop and then returns what it was given.
pub struct Worker<T> {
    stop: EventFd,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts `run` on a thread of its own, called `name` (at most 15 bytes are visible). `run` returns soon after the
    /// eventfd it is given becomes readable.
    pub fn spawn(name: &str, run: impl FnOnce(&EventFd) -> T + Send + 'static) -> io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let thread = Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || run(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Tells the thread to stop, waits for it and returns what it returned.
    pub fn stop(self) -> T {
        // The counter is 0 or 1, so the write cannot fail.
        let _ = self.stop.write(1);
        match self.thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// How long a signal that a queue owes may wait for others that save it, in milliseconds.
const QUIET_MS: i32 = 20;

/// Calls `serve` for each queue with a kick until `stop` is readable: all that a device without sockets or timers
/// needs. A broken ring is reported to the driver and ends the service until the device is reset.
pub fn serve_queues(
    stop: &EventFd,
    queues: &mut [Virtqueue],
    interrupt: &dyn Interrupt,
    mut serve: impl FnMut(&mut Virtqueue) -> Result<(), QueueError>,
) {
    if let Err(error) = serve_until(stop, queues, &mut serve) {
        log!("{error}; the device waits for a reset");
        interrupt.failed();
    }
}

/// What ends the service of queues before its time.
#[derive(Debug, Error)]
enum ServeError {
    #[error("cannot wait for a queue: {0}")]
    Wait(#[from] io::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

fn serve_until(
    stop: &EventFd,
    queues: &mut [Virtqueue],
    serve: &mut impl FnMut(&mut Virtqueue) -> Result<(), QueueError>,
) -> Result<(), ServeError> {
    let epoll = Epoll::new()?;
    let fds = queues.iter().map(Virtqueue::kick).chain([stop]);
    for (token, event) in fds.enumerate() {
        let interest = EpollEvent::new(EventSet::IN, token as u64);
        epoll.ctl(ControlOperation::Add, event.as_raw_fd(), interest)?;
    }
    let mut events = vec![EpollEvent::default(); queues.len() + 1];
    loop {
        let timeout = if queues.iter().any(Virtqueue::owes_signal) {
            QUIET_MS
        } else {
            -1
        };
        let ready = match epoll.wait(timeout, &mut events) {
            // It has been quiet for a while.
            Ok(0) => {
                queues.iter_mut().try_for_each(Virtqueue::signal)?;
                continue;
            }
            Ok(ready) => ready,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..ready] {
            let Some(queue) = queues.get_mut(event.data() as usize) else {
                return queues.iter_mut().try_for_each(|queue| Ok(queue.signal()?));
            };
            // The eventfd is non-blocking: without a kick there is nothing to read, and nothing to do about it.
            let _ = queue.kick().read();
            serve(queue)?;
        }
    }
}
