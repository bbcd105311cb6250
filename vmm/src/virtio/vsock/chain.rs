//! A descriptor chain as a vsock packet: a header and, behind it, the payload, however the guest cut them up.

use vm_memory::{Bytes, GuestMemory, GuestMemoryMmap, VolatileSlice};

use super::packet::{HEADER_LEN, Header};
use crate::virtio::queue::DescriptorChain;

/// The most descriptors of a packet; Linux uses at most 19.
const MAX_DESCRIPTORS: usize = 64;

/// The guest memory of one packet.
pub struct Packet<'m> {
    /// The chain's head, to give it back.
    pub head: u16,
    slices: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Packet<'m> {
    /// What the guest sends. `None` when the chain is no packet: its buffers lie outside guest memory, are too many,
    /// too few for a header, or go the wrong way.
    pub fn readable(memory: &'m GuestMemoryMmap, chain: DescriptorChain) -> Option<Packet<'m>> {
        Packet::new(memory, chain, false)
    }

    /// Where the guest receives, under the same conditions.
    pub fn writable(memory: &'m GuestMemoryMmap, chain: DescriptorChain) -> Option<Packet<'m>> {
        Packet::new(memory, chain, true)
    }

    fn new(memory: &'m GuestMemoryMmap, chain: DescriptorChain, writable: bool) -> Option<Packet<'m>> {
        let head = chain.head_index();
        let mut slices = Vec::new();
        let mut len = 0usize;
        for descriptor in chain {
            if slices.len() == MAX_DESCRIPTORS || descriptor.is_write_only() != writable {
                return None;
            }
            let slice = memory
                .get_slice(descriptor.addr(), descriptor.len() as usize)
                .ok()?;
            len = len.checked_add(slice.len())?;
            slices.push(slice);
        }
        (len >= HEADER_LEN).then_some(Packet { head, slices, len })
    }

    /// Bytes behind the header.
    pub fn capacity(&self) -> usize {
        self.len - HEADER_LEN
    }

    /// Reads the header. The guest may change it meanwhile; what was read is what counts.
    pub fn header(&self) -> Header {
        let mut bytes = [0; HEADER_LEN];
        let mut rest = &mut bytes[..];
        for slice in &self.slices {
            let read = slice.read(rest, 0).unwrap_or_default();
            rest = &mut rest[read..];
            if rest.is_empty() {
                break;
            }
        }
        Header::from_bytes(&bytes)
    }

    /// Writes the header.
    pub fn set_header(&self, header: Header) {
        let bytes = header.to_bytes();
        let mut rest = &bytes[..];
        for slice in &self.slices {
            let written = slice.write(rest, 0).unwrap_or_default();
            rest = &rest[written..];
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Appends the first `limit` bytes behind the header to `parts`; returns how many there are.
    pub fn payload(&self, limit: usize, parts: &mut Vec<VolatileSlice<'m>>) -> usize {
        let mut skip = HEADER_LEN;
        let mut left = limit.min(self.capacity());
        let total = left;
        for slice in &self.slices {
            let begin = skip.min(slice.len());
            skip -= begin;
            let take = left.min(slice.len() - begin);
            if take == 0 {
                continue;
            }
            // Both are within the slice, so this does not fail.
            let Ok(part) = slice.subslice(begin, take) else {
                break;
            };
            parts.push(part);
            left -= take;
        }
        total - left
    }
}

/// Copies what follows the first `skip` bytes of `parts` to the end of `buffer`.
pub fn copy_rest(parts: &[VolatileSlice], mut skip: usize, buffer: &mut std::collections::VecDeque<u8>) {
    for part in parts {
        let begin = skip.min(part.len());
        skip -= begin;
        let Ok(rest) = part.offset(begin) else { continue };
        let mut bytes = vec![0; rest.len()];
        let copied = rest.copy_to(&mut bytes[..]);
        buffer.extend(&bytes[..copied]);
    }
}
