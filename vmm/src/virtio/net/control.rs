//! The control queue (virtio 1.3, section 5.1.6.5), which a device with several pairs of queues has.

use std::io::{Read, Write};

use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};

use super::pairs::Pairs;
use crate::log::log;
use crate::virtio::queue::DescriptorChain;

/// Carries a command out, and returns the number of bytes written to its chain.
pub(super) fn serve(chain: DescriptorChain, pairs: &Pairs) -> u32 {
    let memory = chain.memory().clone();
    let (Ok(mut request), Ok(mut answer)) = (chain.clone().reader(&memory), chain.writer(&memory)) else {
        return 0;
    };
    let mut command = [0; 4];
    let status = match request.read_exact(&mut command) {
        Ok(()) if carry_out(command, pairs) => VIRTIO_NET_OK,
        _ => VIRTIO_NET_ERR,
    };
    match answer.write_all(&[status as u8]) {
        Ok(()) => 1,
        Err(_) => 0,
    }
}

/// The device knows one command: with how many pairs the driver works.
fn carry_out([class, command, low, high]: [u8; 4], pairs: &Pairs) -> bool {
    if (u32::from(class), u32::from(command)) != (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) {
        return false;
    }
    match pairs.set_active(u16::from_le_bytes([low, high])) {
        Ok(done) => done,
        Err(error) => {
            log!("{error}");
            false
        }
    }
}
