//! virtio-rng (virtio 1.3, section 5.4): entropy from the host's getrandom(2).

use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use vm_memory::Bytes;

use super::device::{Activation, DeviceError, Identity, VirtioDevice, read_config_bytes};
use super::queue::{DescriptorChain, Virtqueue};
use super::worker::{Worker, serve_queues};

/// Size of the only queue.
const QUEUE_SIZE: u16 = 64;

/// The most bytes one request gets. The driver asks again if it wants more (section 5.4.6.1).
const MAX_BYTES: usize = 4096;

/// The entropy device.
pub struct Rng {
    identity: Identity,
    worker: Option<Worker<Vec<Virtqueue>>>,
}

impl Rng {
    /// A new entropy device.
    pub fn new() -> Self {
        let identity = Identity {
            device_id: VIRTIO_ID_RNG,
            name: "rng".to_owned(),
            features: 0,
            queue_sizes: vec![QUEUE_SIZE],
            shared_memory: None,
        };
        Self {
            identity,
            worker: None,
        }
    }
}

/// Fills the first writable buffers of `chain`; returns the number of bytes written.
fn serve(chain: DescriptorChain) -> u32 {
    let memory = chain.memory();
    let mut written = 0;
    for buffer in chain.clone().writable() {
        let mut bytes = [0; MAX_BYTES];
        let wanted = (buffer.len() as usize).min(MAX_BYTES - written);
        let got = getrandom(&mut bytes[..wanted], GetRandomFlags::empty()).unwrap_or(0);
        if memory.write_slice(&bytes[..got], buffer.addr()).is_err() {
            break;
        }
        written += got;
        if got < buffer.len() as usize {
            break;
        }
    }
    written as u32
}

impl VirtioDevice for Rng {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read_config(&self, offset: usize, data: &mut [u8]) {
        read_config_bytes(&[], offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            mut queues,
            interrupt,
            ..
        } = activation;
        let worker = Worker::spawn("rng", move |stop| {
            serve_queues(stop, &mut queues, Arc::as_ref(&interrupt), |queue| {
                queue.drain(serve)
            });
            queues
        })?;
        self.worker = Some(worker);
        Ok(())
    }

    fn quiesce(&mut self) -> Vec<Virtqueue> {
        self.worker.take().map(Worker::stop).unwrap_or_default()
    }

    fn reset(&mut self) {}

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        Ok(serde_json::Value::Null)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), DeviceError> {
        match state.is_null() {
            true => Ok(()),
            false => Err(format!("an entropy device has no state, and this is {state}").into()),
        }
    }
}
