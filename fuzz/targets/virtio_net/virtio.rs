//! What of the VMM's devices the network device needs.

#[path = "../../../vmm/src/virtio/device.rs"]
pub mod device;
#[path = "../../../vmm/src/virtio/interrupt.rs"]
pub mod interrupt;
#[path = "../../../vmm/src/virtio/net/mod.rs"]
pub mod net;
#[path = "../../../vmm/src/virtio/queue.rs"]
pub mod queue;
#[path = "../../../vmm/src/virtio/vectors.rs"]
pub mod vectors;
#[path = "../../../vmm/src/virtio/worker.rs"]
pub mod worker;
