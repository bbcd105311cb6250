//! Which device a spec asks for: one line a device.

use thiserror::Error;
use vm_spec::DeviceSpec;

use super::blk::Blk;
use super::device::{DeviceError, VirtioDevice};
use super::fs::Fs;
use super::net::Net;
use super::rng::Rng;
use super::vsock::Vsock;

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
        DeviceSpec::Layers(spec) => made("layers", Fs::layers(spec).map(boxed)),
        DeviceSpec::Folders(spec) => made("folders", Fs::folders(spec).map(boxed)),
        DeviceSpec::Blk(spec) => made("blk", Blk::open(&spec).map(boxed)),
        DeviceSpec::Net(spec) => made("network", Net::new(spec).map(boxed)),
        DeviceSpec::Vsock(spec) => made("vsock", Vsock::new(spec).map(boxed)),
        DeviceSpec::Rng => Ok(boxed(Rng::new())),
    }
}

fn boxed(device: impl VirtioDevice + 'static) -> Box<dyn VirtioDevice> {
    Box::new(device)
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
