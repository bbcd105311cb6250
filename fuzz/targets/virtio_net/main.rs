//! A driver of the network device that writes whatever it likes to its rings and to guest memory, while frames come and go: the
//! device takes it or gives up, and neither reads nor writes beyond guest memory, which the sanitizer watches.
//!
//! The VMM is a program that nobody links, so its modules are compiled here.
#![no_main]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use virtio::net::fuzzing;

#[allow(dead_code)]
#[path = "../../../vmm/src/log.rs"]
mod log;
#[allow(dead_code)]
#[path = "../../../vmm/src/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "../../../vmm/src/resource.rs"]
mod resource;
#[allow(dead_code)]
mod virtio;

const LAYOUT: Layout = match Layout::from_size_align(fuzzing::MEMORY as usize, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("the layout of guest memory"),
};

fuzz_target!(|input: &[u8]| {
    // SAFETY: the layout has a size.
    let host = unsafe { alloc_zeroed(LAYOUT) };
    assert!(!host.is_null());
    fuzzing::play(&guest_memory(host), input);
    // SAFETY: it is from above, and the device and its memory are gone.
    unsafe { dealloc(host, LAYOUT) };
});

/// Guest memory in an allocation, so that the sanitizer knows its borders.
fn guest_memory(host: *mut u8) -> memory::GuestMemory {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an allocation of this size, which outlives the region and which the region does not free.
    let region = unsafe { MmapRegion::build_raw(host, LAYOUT.size(), prot, flags) };
    let region = GuestRegionMmap::new(region.unwrap(), GuestAddress(0)).unwrap();
    Arc::new(GuestMemoryMmap::from_regions(vec![region]).unwrap())
}
