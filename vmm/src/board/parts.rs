//! What a microVM is put together from, whether it boots or goes on from a VM snapshot.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::GuestRegionMmap;
use vm_spec::{DeviceSpec, VmSpec};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{BoardError, open};
use crate::arch::layout;
use crate::bus::Bus;
use crate::devices::i8042::{I8042, I8042State};
use crate::devices::power::PowerPort;
use crate::devices::serial::{Serial, SerialState};
use crate::ending::Ending;
use crate::hv::{Hypervisor, Vcpu, Vm};
use crate::memory::{self, GuestMemory, MemoryLayout, SharedRegion};
use crate::resource::Access;
use crate::vcpu::Buses;
use crate::virtio::device::VirtioDevice;
use crate::virtio::registry;
use crate::virtio::transport::{INTERRUPT_ACK, MmioTransport, QUEUE_NOTIFY, RegisterPage, USED};

/// Ports of the serial port, of the keyboard controller and of the power port.
const SERIAL_PORTS: u64 = 8;
const I8042_PORTS: u64 = 5;
const POWER_PORTS: u64 = 2;

pub(super) type Transport = Arc<Mutex<MmioTransport>>;

/// Locks a device. A thread that panicked with the lock held has ended the process already, or is a failed test.
pub(super) fn lock<T>(device: &Mutex<T>) -> MutexGuard<'_, T> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The devices of a PC that are not virtio.
pub(super) struct Legacy {
    controller: Arc<Mutex<I8042>>,
    serial: Option<Arc<Mutex<Serial<File>>>>,
}

/// Their state; by default that of new ones.
#[derive(Default)]
pub(super) struct LegacyState {
    pub(super) controller: I8042State,
    pub(super) serial: Option<SerialState>,
}

impl Legacy {
    pub(super) fn save(&self) -> LegacyState {
        LegacyState {
            controller: lock(&self.controller).save(),
            serial: self.serial.as_ref().map(|serial| lock(serial).save()),
        }
    }
}

/// What a spec asks for, before there is a virtual machine. RAM may still be filled.
pub(super) struct Plan {
    /// Bytes of RAM.
    pub(super) ram: u64,
    /// The number of vCPUs.
    pub(super) vcpus: u8,
    /// RAM, and the shared memory regions of devices.
    pub(super) layout: MemoryLayout,
    console: Option<File>,
    devices: Vec<Box<dyn VirtioDevice>>,
    windows: Vec<Option<SharedRegion>>,
}

impl Plan {
    /// Opens what the spec names, and lays out memory.
    pub(super) fn new(spec: VmSpec) -> Result<Self, BoardError> {
        let ram = spec.memory_mib << 20;
        let console = spec
            .console
            .as_ref()
            .map(|console| open("the console", console, Access::Append))
            .transpose()?;
        let devices = make_devices(spec.devices)?;
        let mut layout = MemoryLayout::with_ram(ram)?;
        let windows = devices.iter().map(|device| {
            let window = device.identity().shared_memory;
            window.map(|len| layout.add_shared(len)).transpose()
        });
        Ok(Self {
            ram,
            vcpus: spec.vcpus,
            windows: windows.collect::<Result<_, _>>()?,
            layout,
            console,
            devices,
        })
    }

    /// The number of virtio devices.
    pub(super) fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Memory is as it is to be.
    pub(super) fn finish(self) -> Result<Frame, BoardError> {
        Ok(Frame {
            regions: self.layout.regions().to_vec(),
            memory: self.layout.finish()?,
            vcpus: self.vcpus,
            console: self.console,
            devices: self.devices,
            windows: self.windows,
        })
    }
}

/// Memory and devices that wait for a virtual machine.
pub(super) struct Frame {
    /// Guest memory.
    pub(super) memory: GuestMemory,
    regions: Vec<Arc<GuestRegionMmap>>,
    vcpus: u8,
    console: Option<File>,
    devices: Vec<Box<dyn VirtioDevice>>,
    windows: Vec<Option<SharedRegion>>,
}

/// A virtual machine with memory and devices, and vCPUs that have no state yet.
pub(super) struct Built {
    pub(super) vm: Box<dyn Vm>,
    pub(super) vcpus: Vec<Box<dyn Vcpu>>,
    pub(super) buses: Buses,
    pub(super) transports: Vec<Transport>,
    pub(super) legacy: Legacy,
}

impl Frame {
    /// Makes a virtual machine around memory and devices.
    pub(super) fn build(
        self,
        hypervisor: &dyn Hypervisor,
        legacy: LegacyState,
        ending: &Arc<Ending>,
    ) -> Result<Built, BoardError> {
        let vm = hypervisor.create_vm()?;
        for (slot, region) in (0..).zip(&self.regions) {
            vm.map_memory(slot, region)?;
        }
        let registers = memory::device_pages(
            layout::mmio_address(0),
            // A microVM may have no device, but no region may be empty.
            self.devices.len().max(1) as u64 * layout::MMIO_SIZE,
        )?;
        // The slots of RAM and windows are counted from 0.
        vm.map_read_only(self.regions.len() as u32, &registers)?;
        let transports = attach_devices(vm.as_ref(), self.devices, self.windows, &self.memory, &registers)?;
        let (buses, legacy) = wire_buses(vm.as_ref(), &transports, self.console, legacy, ending)?;
        let vcpus = (0..self.vcpus)
            .map(|id| vm.create_vcpu(id))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Built {
            vm,
            vcpus,
            buses,
            transports,
            legacy,
        })
    }
}

fn make_devices(specs: Vec<DeviceSpec>) -> Result<Vec<Box<dyn VirtioDevice>>, BoardError> {
    Ok(specs.into_iter().map(registry::make).collect::<Result<_, _>>()?)
}

/// Gives each device its registers, its interrupt line and its doorbells.
fn attach_devices(
    vm: &dyn Vm,
    devices: Vec<Box<dyn VirtioDevice>>,
    windows: Vec<Option<SharedRegion>>,
    memory: &GuestMemory,
    registers: &Arc<GuestRegionMmap>,
) -> Result<Vec<Transport>, BoardError> {
    // Nobody waits for it: what is written there has done its work when it did not exit.
    let sink = event_fd()?;
    let slots = devices.into_iter().zip(windows).enumerate();
    slots
        .map(|(index, (device, window))| {
            let page = RegisterPage::new(Arc::clone(registers), index);
            let transport = MmioTransport::new(device, page, memory.clone(), window)?;
            vm.register_irqfd(transport.irq(), layout::DEVICE_IRQS[index])?;
            // An interrupt is a pulse, so nothing depends on when the driver acknowledges that buffers were used: the cause stays
            // readable, and a driver that is interrupted for another one looks at its queues, too.
            vm.register_ioeventfd(&sink, layout::mmio_address(index) + INTERRUPT_ACK, USED)?;
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
    state: LegacyState,
    ending: &Arc<Ending>,
) -> Result<(Buses, Legacy), BoardError> {
    let (mut ports, mut mmio) = (Bus::default(), Bus::default());
    for (index, transport) in transports.iter().enumerate() {
        mmio.insert(layout::mmio_address(index), layout::MMIO_SIZE, transport.clone())?;
    }
    let controller = I8042::new(Arc::clone(ending), state.controller);
    let controller = Arc::new(Mutex::new(controller));
    ports.insert(layout::I8042_PORT, I8042_PORTS, controller.clone())?;
    let power = PowerPort::new(Arc::clone(ending));
    ports.insert(layout::POWER_PORT, POWER_PORTS, Arc::new(Mutex::new(power)))?;
    let serial = console
        .map(|console| make_serial(vm, console, state.serial))
        .transpose()?;
    if let Some(serial) = &serial {
        ports.insert(layout::SERIAL_PORT, SERIAL_PORTS, serial.clone())?;
    }
    Ok((Buses { ports, mmio }, Legacy { controller, serial }))
}

fn make_serial(
    vm: &dyn Vm,
    console: File,
    state: Option<SerialState>,
) -> Result<Arc<Mutex<Serial<File>>>, BoardError> {
    let irq = event_fd()?;
    vm.register_irqfd(&irq, layout::SERIAL_IRQ)?;
    let serial = match state {
        Some(state) => Serial::restore(irq, console, state)?,
        None => Serial::new(irq, console),
    };
    Ok(Arc::new(Mutex::new(serial)))
}

fn event_fd() -> Result<EventFd, BoardError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| BoardError::System {
        action: "make an eventfd",
        source,
    })
}
