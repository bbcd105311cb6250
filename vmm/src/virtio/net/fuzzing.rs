//! The door for the fuzzer: a driver that writes to its rings and to guest memory whatever it likes, between frames that come and go.
//! There is neither a TAP device nor a thread; the frames go over a socket, and each turn of the device is taken when the input says.

use std::num::Wrapping;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vm_spec::RateLimit;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::limiter::Limiter;
use super::pairs::Pairs;
use super::rx::Receiver;
use super::service::{Limiters, Pair, ServiceError};
use super::tap::Tap;
use super::{CONTROL_QUEUE_SIZE, HEADER_LEN, MAX_FRAME, QUEUE_SIZE};
use crate::memory::GuestMemory;
use crate::virtio::interrupt::Interrupt;
use crate::virtio::queue::{QueueState, Virtqueue};

/// How much guest memory the door needs, from address 0 on. What it holds is up to the caller.
pub const MEMORY: u64 = 1 << 17;

/// How far the rings of a queue are from those of the one before, and the parts of a ring from each other.
const STRIDE: u64 = 0x4000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const QUEUES: u8 = 3;

/// The bits of the first byte.
const MERGEABLE: u8 = 1;
const EVENT_INDEX: u8 = 2;
/// Which bit of a descriptor's flags stands for a length in units of 64 KiB.
const HUGE: u8 = 0x80;

/// Plays an input; answers how many frames the driver sent and how many came to it.
pub fn play(memory: &GuestMemory, input: &[u8]) -> (usize, usize) {
    let mut input = Input(input);
    let (Some(flags), Some(size), Some(position)) = (input.byte(), input.byte(), input.number(2)) else {
        return (0, 0);
    };
    let mut played = Played::new(memory, flags, size, position as u16);
    // What breaks a ring ends the service until there is a reset.
    while let Some(Ok(())) = played.step(&mut input) {}
    (played.sent, played.received)
}

/// What is left of an input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A number of up to four bytes.
    fn number(&mut self, len: usize) -> Option<u32> {
        let bytes = self.take(len)?.iter().rev();
        Some(bytes.fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

struct Played {
    pair: Pair,
    /// The host's end.
    wire: UnixDatagram,
    memory: GuestMemory,
    mergeable: bool,
    sent: usize,
    received: usize,
}

impl Played {
    /// Queues with up to as many entries as the device's have, from any position on.
    fn new(memory: &GuestMemory, flags: u8, size: u8, position: u16) -> Self {
        let queue = |index: u16, most: u16| queue(memory, index, most.min(1 << (size % 9)), position, flags);
        let (wire, end) = UnixDatagram::pair().expect("sockets can be had");
        wire.set_nonblocking(true).expect("a socket can be set up");
        end.set_nonblocking(true).expect("a socket can be set up");
        let tap = Tap::of_fuzzer(OwnedFd::from(end).into());
        let no_limit = || Arc::new(Mutex::new(Limiter::new(&RateLimit::default(), Instant::now())));
        let mergeable = flags & MERGEABLE != 0;
        Self {
            pair: Pair {
                index: 0,
                receive: queue(0, QUEUE_SIZE),
                transmit: queue(1, QUEUE_SIZE),
                control: Some(queue(2, CONTROL_QUEUE_SIZE)),
                receiver: Receiver::new(mergeable),
                pairs: Arc::new(Pairs::new(vec![tap], 2, 1)),
                limiters: Limiters {
                    receive: no_limit(),
                    transmit: no_limit(),
                },
            },
            wire,
            memory: memory.clone(),
            mergeable,
            sent: 0,
            received: 0,
        }
    }

    /// Takes one step of the driver, of the host or of the device; nothing where the input ends.
    fn step(&mut self, input: &mut Input) -> Option<Result<(), ServiceError>> {
        let result = match input.byte()? % 8 {
            0 => {
                self.describe(input)?;
                Ok(())
            }
            1 => {
                self.offer(input)?;
                Ok(())
            }
            2 => {
                let address = GuestAddress(u64::from(input.number(3)?));
                let len = input.byte()?;
                // Where there is no memory, nothing is written.
                let _ = self.memory.write(input.take(usize::from(len))?, address);
                Ok(())
            }
            3 => self.transmit(),
            4 => {
                self.arrive(input.number(2)?);
                self.receive()
            }
            5 => self.receive(),
            6 => self.pair.serve_control().map_err(ServiceError::from),
            _ => {
                // A pause, and what goes on after it.
                self.pair.receiver.undo(&mut self.pair.receive);
                self.pair.receiver = Receiver::new(self.mergeable);
                Ok(())
            }
        };
        Some(result)
    }

    /// The driver writes a descriptor.
    fn describe(&mut self, input: &mut Input) -> Option<()> {
        let ring = ring(input.byte()?);
        let slot = u64::from(input.byte()?);
        let (address, len, flags, next) = (input.number(3)?, input.number(2)?, input.byte()?, input.byte()?);
        let len = if flags & HUGE == 0 { len } else { len << 16 };
        let descriptor = Descriptor::new(u64::from(address), len, u16::from(flags), u16::from(next));
        let place = GuestAddress(ring + 16 * slot);
        self.memory
            .write_obj(RawDescriptor::from(descriptor), place)
            .expect("rings lie in memory");
        Some(())
    }

    /// The driver makes a chain available.
    fn offer(&mut self, input: &mut Input) -> Option<()> {
        let (queue, head) = (input.byte()?, input.byte()?);
        let available = ring(queue) + AVAILABLE;
        let size = match queue % QUEUES {
            0 => self.pair.receive.size(),
            1 => self.pair.transmit.size(),
            _ => self.pair.control.as_ref().map_or(1, Virtqueue::size),
        };
        let index = GuestAddress(available + 2);
        let next: u16 = self.memory.read_obj(index).expect("rings lie in memory");
        let place = GuestAddress(available + 4 + 2 * u64::from(next % size));
        self.memory
            .write_obj(u16::from(head), place)
            .expect("rings lie in memory");
        self.memory
            .store((Wrapping(next) + Wrapping(1)).0, index, Ordering::Release)
            .expect("rings lie in memory");
        Some(())
    }

    /// A frame comes from the host, with its header, as the kernel would write them.
    fn arrive(&mut self, len: u32) {
        let len = (len as usize).clamp(HEADER_LEN + 1, MAX_FRAME);
        // One that finds no room is lost.
        self.received += usize::from(self.wire.send(&vec![0x5a; len]).is_ok());
    }

    fn receive(&mut self) -> Result<(), ServiceError> {
        let wait = self.pair.receive_frames()?;
        assert_eq!(wait, None, "nothing is limited");
        Ok(())
    }

    fn transmit(&mut self) -> Result<(), ServiceError> {
        let wait = self.pair.transmit_frames()?;
        assert_eq!(wait, None, "nothing is limited");
        let mut frame = vec![0; MAX_FRAME + 1];
        while let Ok(len) = self.wire.recv(&mut frame) {
            assert!((HEADER_LEN + 1..=MAX_FRAME).contains(&len), "{len}");
            self.sent += 1;
        }
        Ok(())
    }
}

/// Where the rings of a queue begin.
fn ring(queue: u8) -> u64 {
    u64::from(queue % QUEUES) * STRIDE
}

/// A queue as a driver sets it up, or as one goes on that was saved.
fn queue(memory: &GuestMemory, index: u16, size: u16, position: u16, flags: u8) -> Virtqueue {
    let base = ring(index as u8);
    let state = QueueState {
        max_size: size,
        size,
        ready: true,
        event_idx: flags & EVENT_INDEX != 0,
        desc_table: base,
        avail_ring: base + AVAILABLE,
        used_ring: base + USED,
        next_avail: position,
        next_used: position,
    };
    let queue = Queue::try_from(state).expect("the sizes are powers of two");
    assert!(queue.is_valid(memory.as_ref()), "{state:?}");
    memory
        .write_obj(position, GuestAddress(state.avail_ring + 2))
        .expect("rings lie in memory");
    let kick = EventFd::new(EFD_NONBLOCK).expect("descriptors can be had");
    Virtqueue::new(index, queue, kick, memory.clone(), Arc::new(Deaf))
}

/// A driver that does not listen.
struct Deaf;

impl Interrupt for Deaf {
    fn used(&self) {}

    fn config_changed(&self) {}

    fn failed(&self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::GuestMemoryMmap;

    use super::*;

    fn memory() -> GuestMemory {
        let ranges = [(GuestAddress(0), MEMORY as usize)];
        Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap())
    }

    /// A descriptor at address 0x10000, and that it is offered.
    fn offered(queue: u8, slot: u8, len: u16, flags: u8) -> Vec<u8> {
        let [low, high] = len.to_le_bytes();
        vec![0, queue, slot, 0, 0, 1, low, high, flags, 0, 1, queue, slot]
    }

    #[test]
    fn the_door_leads_to_all_queues() {
        let memory = memory();
        let begin = vec![MERGEABLE | EVENT_INDEX, 4, 0xff, 0xff];
        let frame = [offered(1, 3, 100, 0), vec![3]].concat();
        assert_eq!(play(&memory, &[begin.clone(), frame].concat()), (1, 0));

        // Two buffers of 40,000 bytes are enough for any frame.
        let buffers = [offered(0, 0, 40_000, 2), offered(0, 1, 40_000, 2)].concat();
        let arriving = [buffers, vec![4, 44, 1, 3]].concat();
        assert_eq!(play(&memory, &[begin.clone(), arriving].concat()), (0, 1));
        let written: [u8; 16] = memory.read_obj(GuestAddress(0x1_0000)).unwrap();
        // The driver is told that one buffer has the frame.
        assert_eq!(
            (written[9], written[10], written[11], written[12]),
            (0x5a, 1, 0, 0x5a)
        );
        let used: u16 = memory.read_obj(GuestAddress(USED + 2)).unwrap();
        assert_eq!(used, 0);

        // The command to use two pairs, and room for the answer behind it.
        let command = [2, 0, 0, 1, 5, 4, 0, 2, 0, 0xff];
        let request = [
            0, 2, 0, 0, 0, 1, 4, 0, 1, 1, 0, 2, 1, 4, 0, 1, 1, 0, 2, 0, 1, 2, 0, 6,
        ];
        play(&memory, &[&begin[..], &command, &request].concat());
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x1_0004)).unwrap(), 0);
    }

    proptest! {
        #[test]
        fn whatever_a_driver_does_the_device_takes_it(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            play(&memory(), &input);
        }

        #[test]
        fn chains_of_any_shape_are_taken(
            begin: [u8; 4],
            descriptors in prop::collection::vec((0..3u8, 0..16u8, any::<u32>(), any::<u16>(), any::<u8>()), 0..60),
            steps in prop::collection::vec((3..8u8, any::<u16>()), 0..20),
        ) {
            let mut input = begin.to_vec();
            for (queue, slot, address, len, flags) in descriptors {
                input.extend([0, queue, slot]);
                input.extend(&address.to_le_bytes()[..3]);
                input.extend(len.to_le_bytes());
                input.extend([flags, slot.wrapping_add(1), 1, queue, slot]);
            }
            for (step, len) in steps {
                input.push(step);
                if step == 4 {
                    input.extend(len.to_le_bytes());
                }
            }
            play(&memory(), &input);
        }
    }
}
