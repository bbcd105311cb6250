//! A split virtqueue as a device holds it: chains out, used elements in, notifications where they are wanted.

use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::interrupt::Interrupt;
use crate::memory::GuestMemory;

/// One request of the driver: an iterator over its descriptors. It ends early at a descriptor that points outside the
/// table, that closes a loop or that makes the chain longer than 4 GiB.
pub type DescriptorChain = virtio_queue::DescriptorChain<Arc<GuestMemoryMmap>>;

/// The longest wait of a device for another request before it signals that it has served some.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// Bytes of an answer that is worth an interrupt of its own.
const LARGE_ANSWER: u32 = 64 << 10;

/// The driver broke the ring itself; the device cannot go on without a reset.
#[derive(Debug, Error)]
#[error("queue {queue}: cannot {action}: {source}")]
pub struct QueueError {
    /// The queue's index in its device.
    pub queue: u16,
    /// What was tried.
    pub action: &'static str,
    /// Why it failed.
    pub source: virtio_queue::Error,
}

/// A queue, the eventfd its driver kicks, and the line back.
pub struct Virtqueue {
    index: u16,
    queue: Queue,
    kick: Arc<EventFd>,
    memory: GuestMemory,
    interrupt: Arc<dyn Interrupt>,
    /// How many entries of the used ring the driver was told of, or did not want to be told of.
    signalled: u16,
    /// Whether several of the driver's tasks had requests in it lately.
    is_shared: bool,
}

impl Virtqueue {
    /// Joins a queue that the transport has set up and checked (`Queue::is_valid`) to its notifications.
    pub fn new(
        index: u16,
        queue: Queue,
        kick: impl Into<Arc<EventFd>>,
        memory: GuestMemory,
        interrupt: Arc<dyn Interrupt>,
    ) -> Self {
        Self {
            index,
            signalled: queue.next_used(),
            queue,
            kick: kick.into(),
            memory,
            interrupt,
            is_shared: false,
        }
    }

    /// Readable when the driver has made buffers available. Read it before popping.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// Its index in its device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The most requests that it can have.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The next request, or `None` when the driver has none.
    pub fn pop(&mut self) -> Result<Option<DescriptorChain>, QueueError> {
        if !self.queue.ready() {
            return Ok(None);
        }
        match self.queue.iter(Arc::clone(&self.memory)) {
            Ok(mut available) => Ok(available.next()),
            Err(source) => Err(self.error("read the available ring", source)),
        }
    }

    /// The requests that the driver has made available by now. It looks at the ring's index once, and takes those that are taken.
    pub fn available(
        &mut self,
    ) -> Result<impl Iterator<Item = virtio_queue::DescriptorChain<&GuestMemoryMmap>>, QueueError> {
        let queue = self.index;
        let failed = |source| QueueError {
            queue,
            action: "read the available ring",
            source,
        };
        let available = match self.queue.ready() {
            true => Some(self.queue.iter(self.memory.as_ref()).map_err(failed)?),
            false => None,
        };
        Ok(available.into_iter().flatten())
    }

    /// Puts back the chain that [`pop`](Self::pop) returned last, for a device that cannot serve it yet.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a request to the driver; `written` is the number of bytes written to it from its beginning.
    pub fn add_used(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        self.queue
            .add_used(self.memory.as_ref(), head, written)
            .map_err(|source| self.error("write the used ring", source))
    }

    /// Returns several requests at once: the driver sees all of them or none.
    pub fn add_used_together(&mut self, used: &[(u16, u32)]) -> Result<(), QueueError> {
        let Some((last, others)) = used.split_last() else {
            return Ok(());
        };
        let first = self.queue.next_used();
        for (offset, entry) in (0..).zip(others) {
            self.write_used(first.wrapping_add(offset), *entry)?;
        }
        // The queue moves the index that the driver reads when it adds an entry itself.
        self.queue.set_next_used(first.wrapping_add(others.len() as u16));
        self.add_used(last.0, last.1)
    }

    /// Writes entry `position` of the used ring (virtio 1.3, section 2.7.8).
    fn write_used(&self, position: u16, (head, written): (u16, u32)) -> Result<(), QueueError> {
        let slot = u64::from(position % self.queue.size());
        let entry = (u64::from(written) << 32 | u64::from(head)).to_le();
        let address = self.queue.used_ring().checked_add(4 + 8 * slot);
        let address =
            address.ok_or_else(|| self.error("write the used ring", virtio_queue::Error::AddressOverflow))?;
        self.memory
            .write_obj(entry, GuestAddress(address))
            .map_err(|source| self.error("write the used ring", virtio_queue::Error::GuestMemory(source)))
    }

    /// Tells the driver of used buffers unless it asked not to be told (event index or flag). Once after a batch.
    pub fn signal(&mut self) -> Result<(), QueueError> {
        let used = self.queue.next_used();
        let added = used.wrapping_sub(std::mem::replace(&mut self.signalled, used));
        if added > 0 && self.is_signal_wanted(used, added)? {
            self.interrupt.used();
        }
        Ok(())
    }

    /// Whether the driver wants to be told of the `added` entries before `used` (virtio 1.3, sections 2.7.7.2 and 2.7.10). The
    /// queue would know that as well, but it does not count entries that were added together, and knows nothing of the flag.
    fn is_signal_wanted(&self, used: u16, added: u16) -> Result<bool, QueueError> {
        // The driver must see the entries before its wish is read.
        fence(Ordering::SeqCst);
        let event = self.queue.event_idx_enabled();
        let offset = if event {
            4 + 2 * u64::from(self.queue.size())
        } else {
            0
        };
        let address = self.queue.avail_ring().checked_add(offset);
        let wish = address
            .ok_or(virtio_queue::Error::AddressOverflow)
            .and_then(|address| {
                let read = self.memory.load::<u16>(GuestAddress(address), Ordering::Acquire);
                read.map_err(virtio_queue::Error::GuestMemory)
            })
            .map_err(|source| self.error("read the driver's event index", source))?;
        let wish = u16::from_le(wish);
        Ok(match event {
            true => used.wrapping_sub(wish).wrapping_sub(1) < added,
            false => wish & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0,
        })
    }

    /// Serves every available request of those whose end no task waits for, and signals only when the driver could run out of
    /// room for others. It is for the caller to signal in a while, as long as [`owes_signal`](Self::owes_signal): the driver will
    /// most often have seen by then that they are done, as Linux looks at all queues of a device at each of its interrupts.
    pub fn drain_quietly(&mut self, mut serve: impl FnMut(DescriptorChain) -> u32) -> Result<(), QueueError> {
        // At most a ring of them, as in `drain`.
        for _ in 0..self.size() {
            let Some(chain) = self.pop()? else {
                if self.want_kicks(true)? {
                    continue;
                }
                return Ok(());
            };
            let head = chain.head_index();
            let written = serve(chain);
            self.add_used(head, written)?;
            let owed = self.queue.next_used().wrapping_sub(self.signalled);
            if owed >= self.size() / 2 {
                self.signal()?;
            }
        }
        self.kick_self();
        Ok(())
    }

    /// Whether there are used buffers that the driver was not told of.
    pub fn owes_signal(&self) -> bool {
        self.signalled != self.queue.next_used()
    }

    /// Serves every available request with `serve`, which returns the number of bytes it wrote, and signals. The
    /// driver need not kick while this goes on. At most one ring of requests is served at a time, so that a driver
    /// which refills the ring without end cannot keep the device from hearing its stop event; what is left is served
    /// after a kick that the queue gives itself.
    pub fn drain(&mut self, mut serve: impl FnMut(DescriptorChain) -> u32) -> Result<(), QueueError> {
        self.drain_with(|chain| Some(serve(chain)), |_, _| false)
    }

    /// The same with a device that may have to stop: a request for which `serve` returns `None` stays in the queue, and the device
    /// comes back by itself.
    pub fn drain_until(
        &mut self,
        serve: impl FnMut(DescriptorChain) -> Option<u32>,
    ) -> Result<(), QueueError> {
        self.drain_with(serve, |_, _| false)
    }

    /// The same for a driver whose tasks each wait for an answer of their own. Where several do, the device waits for the next
    /// one's request before it signals, about as long as they came after one another: a kick and an interrupt serve them all, and
    /// each costs a guest more than most requests do. A single task is answered at once.
    pub fn drain_together(
        &mut self,
        mut serve: impl FnMut(DescriptorChain) -> u32,
    ) -> Result<(), QueueError> {
        let began = Instant::now();
        let was_shared = self.is_shared;
        let serve = |chain| Some(serve(chain));
        self.drain_with(serve, |queue, served| {
            queue.is_shared = served > 1;
            let wait = 2 * began.elapsed() / u32::from(served.max(1));
            (was_shared || queue.is_shared) && queue.wait_for_request(wait.min(LONGEST_WAIT))
        })
    }

    /// `more` is asked, with the number of requests served, whether there are others after all when none is left.
    fn drain_with(
        &mut self,
        mut serve: impl FnMut(DescriptorChain) -> Option<u32>,
        mut more: impl FnMut(&mut Self, u16) -> bool,
    ) -> Result<(), QueueError> {
        let size = self.queue.size();
        let mut served = 0;
        loop {
            self.want_kicks(false)?;
            loop {
                while let Some(chain) = self.pop()? {
                    let head = chain.head_index();
                    let Some(written) = serve(chain) else {
                        self.undo_pop();
                        return self.signal();
                    };
                    self.add_used(head, written)?;
                    if written >= LARGE_ANSWER {
                        // The driver has something to do with it while the next request is served.
                        self.signal()?;
                    }
                    served += 1;
                    if served == size {
                        self.signal()?;
                        self.want_kicks(true)?;
                        self.kick_self();
                        return Ok(());
                    }
                }
                if !more(self, served) {
                    break;
                }
            }
            self.signal()?;
            if !self.want_kicks(true)? {
                return Ok(());
            }
        }
    }

    /// Looks for a request for as long as `wait`.
    fn wait_for_request(&self, wait: Duration) -> bool {
        let began = Instant::now();
        let next = Wrapping(self.queue.next_avail());
        while began.elapsed() < wait {
            let available = self.queue.avail_idx(self.memory.as_ref(), Ordering::Acquire);
            if available.is_ok_and(|available| available != next) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Asks the driver for kicks, or not to bother. True when requests became available before it could know that
    /// kicks are wanted: look again.
    pub fn want_kicks(&mut self, wanted: bool) -> Result<bool, QueueError> {
        if !self.queue.ready() {
            return Ok(false);
        }
        let memory = self.memory.as_ref();
        let result = match wanted {
            true => self.queue.enable_notification(memory),
            false => self.queue.disable_notification(memory).map(|()| false),
        };
        result.map_err(|source| self.error("write the device's event index", source))
    }

    /// Makes [`kick`](Self::kick) readable, as if the driver had kicked.
    pub fn kick_self(&self) {
        // An eventfd write fails only when its counter is full, and then it is readable already.
        let _ = self.kick.write(1);
    }

    /// The rings, back from the device.
    pub fn into_queue(self) -> Queue {
        self.queue
    }

    fn error(&self, action: &'static str, source: virtio_queue::Error) -> QueueError {
        QueueError {
            queue: self.index,
            action,
            source,
        }
    }
}

/// A queue's saved state. Addresses are guest physical; they may be anything after a load, and are checked again
/// before the queue is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QueueState {
    /// The largest size the device offers.
    pub max_size: u16,
    /// The size the driver chose.
    pub size: u16,
    /// Whether the driver enabled the queue.
    pub ready: bool,
    /// Whether VIRTIO_F_RING_EVENT_IDX was agreed on.
    pub event_idx: bool,
    /// Address of the descriptor table.
    pub desc_table: u64,
    /// Address of the available ring.
    pub avail_ring: u64,
    /// Address of the used ring.
    pub used_ring: u64,
    /// The device's position in the available ring.
    pub next_avail: u16,
    /// The device's position in the used ring.
    pub next_used: u16,
}

impl From<virtio_queue::QueueState> for QueueState {
    fn from(state: virtio_queue::QueueState) -> Self {
        Self {
            max_size: state.max_size,
            size: state.size,
            ready: state.ready,
            event_idx: state.event_idx_enabled,
            desc_table: state.desc_table,
            avail_ring: state.avail_ring,
            used_ring: state.used_ring,
            next_avail: state.next_avail,
            next_used: state.next_used,
        }
    }
}

impl TryFrom<QueueState> for Queue {
    type Error = virtio_queue::Error;

    fn try_from(state: QueueState) -> Result<Self, Self::Error> {
        Queue::try_from(virtio_queue::QueueState {
            max_size: state.max_size,
            next_avail: state.next_avail,
            next_used: state.next_used,
            event_idx_enabled: state.event_idx,
            size: state.size,
            ready: state.ready,
            desc_table: state.desc_table,
            avail_ring: state.avail_ring,
            used_ring: state.used_ring,
        })
    }
}
