//! Assembly: from a spec to a microVM, a list of steps that each return what they made.

mod parts;
mod restore;
mod save;

use std::fs::File;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::thread::{self, ScopedJoinHandle};

use thiserror::Error;
use vm_spec::control::State;
use vm_spec::{BootSpec, Resource, SnapshotSpec, Start, VmSpec};

use crate::arch::{VcpuSetup, layout};
use crate::bus::BusError;
use crate::devices::serial::SerialError;
use crate::ending::Ending;
use crate::hv::{HvError, Hypervisor, Vm};
use crate::loader::{self, Images, LoadError, Loaded};
use crate::memory::{GuestMemory, MemoryError, RamPart};
use crate::resource::{self, Access, ResourceError};
use crate::snapshot::{RamError, SnapshotError};
use crate::vcpu::{VcpuError, Vcpus};
use crate::virtio;
use crate::virtio::registry::RegistryError;
use crate::virtio::transport::{MmioTransport, TransportError};

use parts::{Built, Legacy, LegacyState, Plan, Transport, lock};

/// The microVM could not be built or saved.
#[derive(Debug, Error)]
pub enum BoardError {
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] HvError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kernel or its initramfs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The state of a VM snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The memory of a VM snapshot.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The serial port of a VM snapshot.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// A file or descriptor of the spec.
    #[error("{what}: {source}")]
    Resource {
        /// What it was to be.
        what: &'static str,
        /// Why it is not.
        source: ResourceError,
    },
    /// The spec does not say where to.
    #[error("the spec of this microVM has no place for a VM snapshot")]
    NoPlace,
    /// A device could not be made.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A device's transport could not be made.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Two devices at one place.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The vCPUs could not be started.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// No eventfd or thread could be had.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// The two files of a VM snapshot.
struct SnapshotFiles {
    state: File,
    memory: File,
}

/// A microVM that runs or is paused.
pub struct Microvm {
    vcpus: Vcpus,
    transports: Vec<Transport>,
    legacy: Legacy,
    state: State,
    vm: Box<dyn Vm>,
    memory: GuestMemory,
    /// Bytes of RAM.
    ram: u64,
    /// Where in it the kernel's instructions lie.
    text: Vec<RamPart>,
    /// Where a VM snapshot goes.
    save: Option<SnapshotFiles>,
}

impl Microvm {
    /// Running, or paused.
    pub fn state(&self) -> State {
        self.state
    }

    /// Holds the vCPUs, then the devices: nothing changes guest memory any more.
    pub fn pause(&mut self) {
        if self.state == State::Running {
            self.vcpus.pause();
            self.transports
                .iter()
                .for_each(|transport| lock(transport).pause());
            self.state = State::Paused;
        }
    }

    /// Lets the devices go on, then the vCPUs.
    pub fn resume(&mut self) {
        if self.state == State::Paused {
            self.transports
                .iter()
                .for_each(|transport| lock(transport).resume());
            self.vcpus.resume();
            self.state = State::Running;
        }
    }

    /// Plugs a network device into what the host has for it, or unplugs it. The vCPUs may go on meanwhile: whoever needs the
    /// device waits for it.
    pub fn plug(&mut self, device: &str, ends: Vec<File>) -> Result<(), DeviceRequestError> {
        let mut transport = self.device("network", device, &virtio::net::device_name(device))?;
        transport.pause();
        let plugged = transport.plug(ends);
        if self.state == State::Running {
            transport.resume();
        }
        Ok(plugged?)
    }

    /// Adds layer files to those that the guest sees.
    pub fn add_layers(&mut self, tag: &str, files: Vec<(String, File)>) -> Result<(), DeviceRequestError> {
        let mut transport = self.device("virtio-fs", tag, &virtio::fs::device_name(tag))?;
        Ok(transport.add_layers(files)?)
    }

    /// The device whose whole name this is; a client knows it as one of a kind.
    fn device(
        &self,
        kind: &'static str,
        id: &str,
        name: &str,
    ) -> Result<MutexGuard<'_, MmioTransport>, DeviceRequestError> {
        let mut found = self.transports.iter().map(|transport| lock(transport));
        let transport = found.find(|transport| transport.name() == name);
        transport.ok_or_else(|| DeviceRequestError::NoDevice {
            kind,
            id: id.to_owned(),
        })
    }
}

/// Why a device is not as a client wants it.
#[derive(Debug, Error)]
pub enum DeviceRequestError {
    /// There is none of this kind and name.
    #[error("this microVM has no {kind} device '{id}'")]
    NoDevice {
        /// What the client asked for.
        kind: &'static str,
        /// The name.
        id: String,
    },
    /// It refused.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Builds what `spec` describes and starts it.
pub fn start(hypervisor: &dyn Hypervisor, spec: VmSpec, ending: &Arc<Ending>) -> Result<Microvm, BoardError> {
    let save = spec
        .save
        .as_ref()
        .map(|files| open_snapshot(files, Access::ReadWrite))
        .transpose()?;
    let ram = spec.memory_mib << 20;
    let start = spec.start.clone();
    let Ready { built, memory, text } = match start {
        Start::Boot(kernel) => {
            let images = open_images(&kernel, &spec)?;
            boot(hypervisor, Plan::new(spec)?, images, ending)?
        }
        Start::Restore(from) => {
            let files = open_snapshot(&from.snapshot, Access::Read)?;
            restore::restore(hypervisor, Plan::new(spec)?, &files, from.copy, ending)?
        }
    };
    let vcpus = Vcpus::start(built.vcpus, Arc::new(built.buses), Arc::clone(ending))?;
    Ok(Microvm {
        vcpus,
        transports: built.transports,
        legacy: built.legacy,
        state: State::Running,
        vm: built.vm,
        memory,
        ram,
        text,
        save,
    })
}

/// A microVM whose vCPUs have all that they need to run.
struct Ready {
    built: Built,
    memory: GuestMemory,
    text: Vec<RamPart>,
}

/// Builds a microVM whose boot processor begins with a kernel.
fn boot(
    hypervisor: &dyn Hypervisor,
    plan: Plan,
    images: Images,
    ending: &Arc<Ending>,
) -> Result<Ready, BoardError> {
    let (ram, count) = (plan.ram, plan.vcpus);
    let frame = plan.finish()?;
    let memory = frame.memory.clone();
    // Reading the kernel and setting up the virtual machine take about as long as each other, and do not meet.
    let (built, text) = thread::scope(|scope| {
        let loading = beside(scope, || Ok(loader::load(&memory, ram, count, images)?))?;
        let mut built = frame.build(hypervisor, LegacyState::default(), ending)?;
        let supported = hypervisor.supported_cpuid()?;
        let Loaded { entry, text } = join(loading)?;
        for (id, vcpu) in (0..).zip(&mut built.vcpus) {
            let entry = (id == 0).then_some(entry);
            vcpu.set_up(&VcpuSetup::new(&supported, id, count, entry))?;
        }
        Ok::<_, BoardError>((built, text))
    })?;
    Ok(Ready { built, memory, text })
}

fn open_snapshot(spec: &SnapshotSpec, access: Access) -> Result<SnapshotFiles, BoardError> {
    Ok(SnapshotFiles {
        state: open("the state of a VM snapshot", &spec.state, access)?,
        memory: open("the memory of a VM snapshot", &spec.memory, access)?,
    })
}

fn open_images(kernel: &BootSpec, spec: &VmSpec) -> Result<Images, BoardError> {
    Ok(Images {
        kernel: open("the kernel", &kernel.kernel, Access::Read)?,
        initramfs: open("the initramfs", &kernel.initramfs, Access::Read)?,
        cmdline: loader::cmdline(&kernel.cmdline, spec.console.is_some(), spec.devices.len())?,
        lines: interrupt_lines(spec.console.is_some(), spec.devices.len()),
    })
}

fn open(what: &'static str, resource: &Resource, access: Access) -> Result<File, BoardError> {
    resource::open(resource, access).map_err(|source| BoardError::Resource { what, source })
}

fn interrupt_lines(console: bool, devices: usize) -> Vec<u32> {
    console
        .then_some(layout::SERIAL_IRQ)
        .into_iter()
        .chain(layout::DEVICE_IRQS.into_iter().take(devices))
        .collect()
}

type Loading<'scope, T> = ScopedJoinHandle<'scope, Result<T, BoardError>>;

/// Starts to fill memory.
fn beside<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    fill: impl FnOnce() -> Result<T, BoardError> + Send + 'scope,
) -> Result<Loading<'scope, T>, BoardError> {
    thread::Builder::new()
        .name("loader".to_owned())
        .spawn_scoped(scope, fill)
        .map_err(|source| BoardError::System {
            action: "start the loader's thread",
            source,
        })
}

fn join<T>(loading: Loading<'_, T>) -> Result<T, BoardError> {
    match loading.join() {
        Ok(loaded) => loaded,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[cfg(test)]
pub(crate) mod tests;
