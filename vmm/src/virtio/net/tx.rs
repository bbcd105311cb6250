//! Frames from the driver to the host (virtio 1.3, section 5.1.6.2).

use std::io;

use vm_memory::GuestMemory as _;

use super::tap::Tap;
use super::{HEADER_LEN, MAX_FRAME};
use crate::virtio::queue::DescriptorChain;
use crate::virtio::vectors::MAX_VECTORS;

/// Sends the frame in a chain, and returns its length. One that the host does not take is lost, as on any wire: its buffers may
/// lie where there is no memory, it may be too long, its header may promise what is not in it, its interface may be down.
pub(super) fn send(chain: DescriptorChain, tap: &Tap) -> usize {
    let memory = chain.memory();
    let mut slices = Vec::new();
    let mut len = 0;
    for descriptor in chain.clone().readable() {
        let Ok(slice) = memory.get_slice(descriptor.addr(), descriptor.len() as usize) else {
            return 0;
        };
        len += slice.len();
        if len > MAX_FRAME || slices.len() == MAX_VECTORS {
            return 0;
        }
        slices.push(slice);
    }
    if len <= HEADER_LEN {
        return 0;
    }
    loop {
        match tap.send(&slices) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent.unwrap_or_default(),
        }
    }
}
