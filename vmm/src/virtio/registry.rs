//! Which device a spec asks for: one line a device.

use thiserror::Error;
use vm_spec::DeviceSpec;

use super::device::{DeviceError, VirtioDevice};

/// A device could not be made from its spec.
#[derive(Debug, Error)]
#[error("cannot make the {device} device: {source}")]
pub struct RegistryError {
    /// The kind of device.
    pub device: &'static str,
    /// Why.
    pub source: DeviceError,
}

/// Makes the device that `spec` asks for.
pub fn make(spec: DeviceSpec) -> Result<Box<dyn VirtioDevice>, RegistryError> {
    match spec {
        DeviceSpec::Layers(_) => made("layers", Err("this build has no virtio-fs")),
        DeviceSpec::Folders(_) => made("folders", Err("this build has no virtio-fs")),
        DeviceSpec::Blk(_) => made("blk", Err("this build has no virtio-blk")),
        DeviceSpec::Vsock(_) => made("vsock", Err("this build has no virtio-vsock")),
        DeviceSpec::Rng => made("rng", Err("this build has no virtio-rng")),
    }
}

fn made<E: Into<DeviceError>>(
    device: &'static str,
    result: Result<Box<dyn VirtioDevice>, E>,
) -> Result<Box<dyn VirtioDevice>, RegistryError> {
    result.map_err(|source| RegistryError {
        device,
        source: source.into(),
    })
}
