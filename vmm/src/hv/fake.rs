//! A hypervisor for tests, whose guest is the test itself: it reads and writes ports and device memory through a
//! [`FakeGuest`], and each access goes the way of a real one, through a vCPU's thread and the bus, or through an
//! ioeventfd.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use vm_memory::{GuestMemoryMmap, GuestRegionMmap};
use vmm_sys_util::eventfd::EventFd;

use super::{HvError, Hypervisor, Kicker, Vcpu, VcpuExit, Vm};
use crate::arch::VcpuSetup;
use crate::arch::state::{VcpuState, VmState};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the clock of a fake machine shows when it is saved, and where its first vCPU stands; the others follow.
pub(crate) const CLOCK: u64 = 7_000_000;
pub(crate) const RIP: u64 = 0xffff_ffff_8100_0000;

/// What the guest's vCPU 0 does next.
enum Access {
    Read { mmio: bool, address: u64, data: Vec<u8> },
    Write { mmio: bool, address: u64, data: Vec<u8> },
    Fault(String),
    Kick,
}

/// A vCPU's end of the line: what its guest does, and what it gets for it.
type Line = (Receiver<Access>, Sender<Vec<u8>>);

/// What a test can see of the machine that was built.
#[derive(Default)]
struct Machine {
    memory: Vec<Arc<GuestRegionMmap>>,
    irqs: Vec<(u32, EventFd)>,
    doorbells: Vec<(u64, u32, EventFd)>,
    setups: Vec<VcpuSetup>,
    kicks: Vec<Sender<Access>>,
    resumed: usize,
    restored: Vec<Restored>,
}

/// What took over a saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    /// A vCPU that goes on at this instruction.
    Vcpu { rip: u64 },
    /// The machine, with this time.
    Vm { clock: u64 },
}

/// The hypervisor of a test.
pub(crate) struct FakeHypervisor {
    machine: Arc<Mutex<Machine>>,
    /// The ends of the line to vCPU 0, taken when it is made.
    line: Mutex<Option<Line>>,
    accesses: Sender<Access>,
}

/// The guest: accesses by vCPU 0, one at a time.
pub(crate) struct FakeGuest {
    machine: Arc<Mutex<Machine>>,
    accesses: Sender<Access>,
    answers: Receiver<Vec<u8>>,
}

/// A hypervisor for one machine, and its guest.
pub(crate) fn machine() -> (FakeHypervisor, FakeGuest) {
    let (accesses, received) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let machine = Arc::new(Mutex::new(Machine::default()));
    let line = Mutex::new(Some((received, answer)));
    let hypervisor = FakeHypervisor {
        machine: Arc::clone(&machine),
        line,
        accesses: accesses.clone(),
    };
    (
        hypervisor,
        FakeGuest {
            machine,
            accesses,
            answers,
        },
    )
}

impl FakeGuest {
    /// Reads device memory.
    pub(crate) fn read<const N: usize>(&self, gpa: u64) -> [u8; N] {
        self.read_from(true, gpa)
    }

    /// Reads an I/O port.
    pub(crate) fn read_port<const N: usize>(&self, port: u16) -> [u8; N] {
        self.read_from(false, u64::from(port))
    }

    fn answer(&self) -> Vec<u8> {
        self.answers.recv_timeout(PATIENCE).expect("vCPU 0 answers")
    }

    fn read_from<const N: usize>(&self, mmio: bool, address: u64) -> [u8; N] {
        self.accesses
            .send(Access::Read {
                mmio,
                address,
                data: vec![0; N],
            })
            .unwrap();
        self.answer().try_into().unwrap()
    }

    /// Writes device memory: rings the doorbell there, if there is one, and exits otherwise.
    pub(crate) fn write(&self, gpa: u64, data: &[u8]) {
        let value = data.try_into().map(u32::from_le_bytes).ok();
        let machine = self.machine.lock().unwrap();
        let doorbell = machine
            .doorbells
            .iter()
            .find(|(at, rings, _)| *at == gpa && Some(*rings) == value);
        match doorbell {
            Some((_, _, event)) => event.write(1).unwrap(),
            None => {
                drop(machine);
                self.write_to(true, gpa, data);
            }
        }
    }

    /// Writes to an I/O port.
    pub(crate) fn write_port(&self, port: u16, data: &[u8]) {
        self.write_to(false, u64::from(port), data);
    }

    /// Writes to an I/O port, where that is the last thing a guest does.
    pub(crate) fn write_port_at_last(&self, port: u16, data: &[u8]) {
        self.accesses
            .send(Access::Write {
                mmio: false,
                address: u64::from(port),
                data: data.to_vec(),
            })
            .unwrap();
    }

    fn write_to(&self, mmio: bool, address: u64, data: &[u8]) {
        self.accesses
            .send(Access::Write {
                mmio,
                address,
                data: data.to_vec(),
            })
            .unwrap();
        self.answer();
    }

    /// Does something that no hypervisor can go on from.
    pub(crate) fn fault(&self, what: &str) {
        self.accesses.send(Access::Fault(what.to_owned())).unwrap();
    }

    /// Guest memory.
    pub(crate) fn memory(&self) -> GuestMemoryMmap {
        GuestMemoryMmap::from_arc_regions(self.machine.lock().unwrap().memory.clone()).unwrap()
    }

    /// Waits until the interrupt line `gsi` was pulsed.
    pub(crate) fn wait_for_irq(&self, gsi: u32) {
        let machine = self.machine.lock().unwrap();
        let irq = machine
            .irqs
            .iter()
            .find(|(line, _)| *line == gsi)
            .expect("an interrupt line")
            .1
            .try_clone()
            .unwrap();
        drop(machine);
        let deadline = Instant::now() + PATIENCE;
        // The eventfd is non-blocking for the VMM's sake.
        while irq.read().is_err() {
            assert!(Instant::now() < deadline, "interrupt line {gsi} stays silent");
            std::thread::yield_now();
        }
    }

    /// Whether the interrupt line `gsi` was pulsed since the last look.
    pub(crate) fn irq_is_pending(&self, gsi: u32) -> bool {
        let machine = self.machine.lock().unwrap();
        machine
            .irqs
            .iter()
            .any(|(line, irq)| *line == gsi && irq.read().is_ok())
    }

    /// The vCPUs' first states, in their order.
    pub(crate) fn with_setups<T>(&self, look: impl FnOnce(&[VcpuSetup]) -> T) -> T {
        look(&self.machine.lock().unwrap().setups)
    }

    /// What took over a saved state, in this order.
    pub(crate) fn restored(&self) -> Vec<Restored> {
        self.machine.lock().unwrap().restored.clone()
    }

    /// How often a vCPU was let go on after it was held.
    pub(crate) fn resumed_count(&self) -> usize {
        self.machine.lock().unwrap().resumed
    }
}

impl Hypervisor for FakeHypervisor {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HvError> {
        let line = Mutex::new(self.line.lock().unwrap().take());
        Ok(Box::new(FakeVm {
            machine: Arc::clone(&self.machine),
            line,
            accesses: self.accesses.clone(),
        }))
    }

    fn supported_cpuid(&self) -> Result<CpuId, HvError> {
        Ok(CpuId::from_entries(&[kvm_cpuid_entry2 {
            function: 1,
            ..Default::default()
        }])
        .unwrap())
    }
}

struct FakeVm {
    machine: Arc<Mutex<Machine>>,
    line: Mutex<Option<Line>>,
    accesses: Sender<Access>,
}

impl Vm for FakeVm {
    fn map_memory(&self, slot: u32, region: &Arc<GuestRegionMmap>) -> Result<(), HvError> {
        let mut machine = self.machine.lock().unwrap();
        assert_eq!(
            slot as usize,
            machine.memory.len(),
            "slots are handed out in order"
        );
        machine.memory.push(Arc::clone(region));
        Ok(())
    }

    /// The guest of a test reads through the bus, which must show it the same.
    fn map_read_only(&self, _: u32, _: &Arc<GuestRegionMmap>) -> Result<(), HvError> {
        Ok(())
    }

    fn create_vcpu(&self, id: u8) -> Result<Box<dyn Vcpu>, HvError> {
        let line = self.line.lock().unwrap().take();
        let (accesses, line) = match line {
            Some(line) => (self.accesses.clone(), line),
            // Not the first: it waits to be started, and for kicks.
            None => {
                let (accesses, received) = mpsc::channel();
                (accesses, (received, mpsc::channel().0))
            }
        };
        let mut machine = self.machine.lock().unwrap();
        assert_eq!(usize::from(id), machine.kicks.len(), "vCPUs are made in order");
        machine.kicks.push(accesses.clone());
        let (received, answers) = line;
        Ok(Box::new(FakeVcpu {
            machine: Arc::clone(&self.machine),
            accesses,
            received,
            answers,
            data: Answer::None,
            id,
            cpuid: Vec::new(),
        }))
    }

    fn register_irqfd(&self, event: &EventFd, gsi: u32) -> Result<(), HvError> {
        self.machine
            .lock()
            .unwrap()
            .irqs
            .push((gsi, event.try_clone().unwrap()));
        Ok(())
    }

    fn register_ioeventfd(&self, event: &EventFd, gpa: u64, value: u32) -> Result<(), HvError> {
        self.machine
            .lock()
            .unwrap()
            .doorbells
            .push((gpa, value, event.try_clone().unwrap()));
        Ok(())
    }

    fn save(&self) -> Result<VmState, HvError> {
        Ok(VmState {
            clock: CLOCK,
            ..VmState::default()
        })
    }

    fn restore(&self, state: &VmState) -> Result<(), HvError> {
        let clock = state.clock;
        self.machine.lock().unwrap().restored.push(Restored::Vm { clock });
        Ok(())
    }
}

/// What the guest waits for when the vCPU runs again.
enum Answer {
    None,
    Data(Vec<u8>),
}

struct FakeVcpu {
    machine: Arc<Mutex<Machine>>,
    accesses: Sender<Access>,
    received: Receiver<Access>,
    answers: Sender<Vec<u8>>,
    data: Answer,
    id: u8,
    cpuid: Vec<kvm_cpuid_entry2>,
}

impl Vcpu for FakeVcpu {
    fn set_up(&mut self, setup: &VcpuSetup) -> Result<(), HvError> {
        let setup = VcpuSetup {
            cpuid: setup.cpuid.clone(),
            msrs: setup.msrs.clone(),
            entry: setup.entry,
        };
        self.cpuid = setup.cpuid.as_slice().to_vec();
        self.machine.lock().unwrap().setups.push(setup);
        Ok(())
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        let mut state = VcpuState {
            cpuid: self.cpuid.clone(),
            ..VcpuState::default()
        };
        state.regs.rip = RIP + u64::from(self.id);
        Ok(state)
    }

    fn restore(&mut self, setup: &VcpuSetup, state: &VcpuState) -> Result<(), HvError> {
        if !state.fits(&setup.cpuid) {
            return Err(HvError::OtherProcessor { id: self.id });
        }
        let rip = state.regs.rip;
        self.machine.lock().unwrap().restored.push(Restored::Vcpu { rip });
        Ok(())
    }

    fn kicker(&self) -> Result<Box<dyn Kicker>, HvError> {
        Ok(Box::new(FakeKicker(self.accesses.clone())))
    }

    fn run(&mut self) -> Result<VcpuExit<'_>, HvError> {
        if let Answer::Data(data) = std::mem::replace(&mut self.data, Answer::None) {
            // A test that has seen enough does not wait for answers.
            let _ = self.answers.send(data);
        }
        match self.received.recv() {
            Ok(Access::Read { mmio, address, data }) => {
                self.data = Answer::Data(data);
                let Answer::Data(data) = &mut self.data else {
                    unreachable!()
                };
                match mmio {
                    true => Ok(VcpuExit::MmioRead(address, data)),
                    false => Ok(VcpuExit::IoIn(address as u16, data)),
                }
            }
            Ok(Access::Write { mmio, address, data }) => {
                self.data = Answer::Data(data);
                let Answer::Data(data) = &self.data else {
                    unreachable!()
                };
                match mmio {
                    true => Ok(VcpuExit::MmioWrite(address, data)),
                    false => Ok(VcpuExit::IoOut(address as u16, data)),
                }
            }
            Ok(Access::Fault(what)) => Ok(VcpuExit::Fault(what)),
            Ok(Access::Kick) | Err(_) => Ok(VcpuExit::Interrupted),
        }
    }

    fn resumed(&mut self) {
        self.machine.lock().unwrap().resumed += 1;
    }
}

struct FakeKicker(Sender<Access>);

impl Kicker for FakeKicker {
    fn kick(&self, _thread: &JoinHandle<()>) {
        let _ = self.0.send(Access::Kick);
    }
}
