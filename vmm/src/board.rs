//! Assembly: from a spec to a microVM, a list of steps that each return what they made.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use thiserror::Error;
use vm_spec::control::State;
use vm_spec::{DeviceSpec, Resource, VmSpec};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::arch::{Entry, VcpuSetup, layout};
use crate::bus::{Bus, BusError};
use crate::devices::i8042::{I8042, I8042State};
use crate::devices::power::PowerPort;
use crate::devices::serial::Serial;
use crate::ending::Ending;
use crate::hv::{HvError, Hypervisor, Vcpu, Vm};
use crate::loader::{self, Images, LoadError};
use crate::memory::{GuestMemory, MemoryError, MemoryLayout, SharedRegion};
use crate::resource::{self, Access, ResourceError};
use crate::vcpu::{Buses, VcpuError, Vcpus};
use crate::virtio::device::VirtioDevice;
use crate::virtio::registry::{self, RegistryError};
use crate::virtio::transport::{MmioTransport, QUEUE_NOTIFY, TransportError};

/// Ports of the serial port and of the keyboard controller.
const SERIAL_PORTS: u64 = 8;
const I8042_PORTS: u64 = 5;
const POWER_PORTS: u64 = 2;

/// The microVM could not be built.
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
    /// A file or descriptor of the spec.
    #[error("{what}: {source}")]
    Resource {
        /// What it was to be.
        what: &'static str,
        /// Why it is not.
        source: ResourceError,
    },
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

type Transport = Arc<Mutex<MmioTransport>>;

/// A microVM that runs or is paused.
pub struct Microvm {
    vcpus: Vcpus,
    transports: Vec<Transport>,
    state: State,
    /// Keeps the virtual machine's descriptor open.
    _vm: Box<dyn Vm>,
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
}

/// Builds what `spec` describes and starts it.
pub fn start(hypervisor: &dyn Hypervisor, spec: VmSpec, ending: &Arc<Ending>) -> Result<Microvm, BoardError> {
    let ram = spec.memory_mib << 20;
    let images = open_images(&spec)?;
    let console = open_console(spec.console.as_ref())?;
    let devices = make_devices(spec.devices)?;
    let (layout, windows) = lay_out_memory(ram, &devices)?;
    let regions = layout.regions().to_vec();
    let memory = layout.finish()?;

    // Reading the kernel and setting up the virtual machine take about as long as each other, and do not meet.
    let (vm, vcpus, buses, transports) = thread::scope(|scope| {
        let loading = load_beside(scope, &memory, ram, spec.vcpus, images)?;
        let vm = hypervisor.create_vm()?;
        for (slot, region) in (0..).zip(&regions) {
            vm.map_memory(slot, region)?;
        }
        let transports = attach_devices(vm.as_ref(), devices, windows, &memory)?;
        let buses = wire_buses(vm.as_ref(), &transports, console, ending)?;
        let mut vcpus = (0..spec.vcpus)
            .map(|id| vm.create_vcpu(id))
            .collect::<Result<Vec<_>, _>>()?;
        let supported = hypervisor.supported_cpuid()?;
        let entry = join(loading)?;
        set_up_vcpus(&mut vcpus, |id| {
            let entry = (id == 0).then_some(entry);
            VcpuSetup::new(&supported, id, spec.vcpus, entry)
        })?;
        Ok::<_, BoardError>((vm, vcpus, buses, transports))
    })?;

    let vcpus = Vcpus::start(vcpus, Arc::new(buses), Arc::clone(ending))?;
    Ok(Microvm {
        vcpus,
        transports,
        state: State::Running,
        _vm: vm,
    })
}

fn open_images(spec: &VmSpec) -> Result<Images, BoardError> {
    let open = |what, resource| {
        resource::open(resource, Access::Read).map_err(|source| BoardError::Resource { what, source })
    };
    Ok(Images {
        kernel: open("the kernel", &spec.kernel)?,
        initramfs: open("the initramfs", &spec.initramfs)?,
        cmdline: loader::cmdline(&spec.cmdline, spec.console.is_some(), spec.devices.len())?,
        lines: interrupt_lines(spec.console.is_some(), spec.devices.len()),
    })
}

fn interrupt_lines(console: bool, devices: usize) -> Vec<u32> {
    console
        .then_some(layout::SERIAL_IRQ)
        .into_iter()
        .chain(layout::DEVICE_IRQS.into_iter().take(devices))
        .collect()
}

fn open_console(console: Option<&Resource>) -> Result<Option<File>, BoardError> {
    let open = |resource| resource::open(resource, Access::Append);
    console
        .map(open)
        .transpose()
        .map_err(|source| BoardError::Resource {
            what: "the console",
            source,
        })
}

fn make_devices(specs: Vec<DeviceSpec>) -> Result<Vec<Box<dyn VirtioDevice>>, BoardError> {
    Ok(specs.into_iter().map(registry::make).collect::<Result<_, _>>()?)
}

/// RAM, and the shared memory regions of the devices that have one.
fn lay_out_memory(
    ram: u64,
    devices: &[Box<dyn VirtioDevice>],
) -> Result<(MemoryLayout, Vec<Option<SharedRegion>>), BoardError> {
    let mut layout = MemoryLayout::with_ram(ram)?;
    let windows = devices.iter().map(|device| {
        device
            .identity()
            .shared_memory
            .map(|len| layout.add_shared(len))
            .transpose()
    });
    let windows = windows.collect::<Result<_, _>>()?;
    Ok((layout, windows))
}

type Loading<'scope> = ScopedJoinHandle<'scope, Result<Entry, LoadError>>;

/// Starts to load the guest's first programs.
fn load_beside<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    memory: &'env GuestMemory,
    ram: u64,
    vcpus: u8,
    images: Images,
) -> Result<Loading<'scope>, BoardError> {
    thread::Builder::new()
        .name("loader".to_owned())
        .spawn_scoped(scope, move || loader::load(memory, ram, vcpus, images))
        .map_err(|source| BoardError::System {
            action: "start the loader's thread",
            source,
        })
}

fn join(loading: Loading<'_>) -> Result<Entry, BoardError> {
    match loading.join() {
        Ok(entry) => Ok(entry?),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Gives each device its registers, its interrupt line and its doorbells.
fn attach_devices(
    vm: &dyn Vm,
    devices: Vec<Box<dyn VirtioDevice>>,
    windows: Vec<Option<SharedRegion>>,
    memory: &GuestMemory,
) -> Result<Vec<Transport>, BoardError> {
    let slots = devices.into_iter().zip(windows).enumerate();
    slots
        .map(|(index, (device, window))| {
            let transport = MmioTransport::new(device, memory.clone(), window)?;
            vm.register_irqfd(transport.irq(), layout::DEVICE_IRQS[index])?;
            for (queue, kick) in (0..).zip(transport.kicks()) {
                vm.register_ioeventfd(kick, layout::mmio_address(index) + QUEUE_NOTIFY, queue)?;
            }
            Ok(Arc::new(Mutex::new(transport)))
        })
        .collect()
}

/// Puts all devices behind their addresses.
fn wire_buses(
    vm: &dyn Vm,
    transports: &[Transport],
    console: Option<File>,
    ending: &Arc<Ending>,
) -> Result<Buses, BoardError> {
    let (mut ports, mut mmio) = (Bus::default(), Bus::default());
    for (index, transport) in transports.iter().enumerate() {
        mmio.insert(layout::mmio_address(index), layout::MMIO_SIZE, transport.clone())?;
    }
    let controller = I8042::new(Arc::clone(ending), I8042State::default());
    ports.insert(layout::I8042_PORT, I8042_PORTS, Arc::new(Mutex::new(controller)))?;
    let power = PowerPort::new(Arc::clone(ending));
    ports.insert(layout::POWER_PORT, POWER_PORTS, Arc::new(Mutex::new(power)))?;
    if let Some(console) = console {
        let irq = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| BoardError::System {
            action: "make an eventfd",
            source,
        })?;
        vm.register_irqfd(&irq, layout::SERIAL_IRQ)?;
        ports.insert(
            layout::SERIAL_PORT,
            SERIAL_PORTS,
            Arc::new(Mutex::new(Serial::new(irq, console))),
        )?;
    }
    Ok(Buses { ports, mmio })
}

fn set_up_vcpus(vcpus: &mut [Box<dyn Vcpu>], setup: impl Fn(u8) -> VcpuSetup) -> Result<(), BoardError> {
    for (id, vcpu) in (0..).zip(vcpus) {
        vcpu.set_up(&setup(id))?;
    }
    Ok(())
}

fn lock(transport: &Transport) -> MutexGuard<'_, MmioTransport> {
    transport.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
