//! The vCPUs: a thread each, held and let go together.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use thiserror::Error;
use vm_spec::ExitReason;

use crate::arch::state::VcpuState;
use crate::bus::Bus;
use crate::ending::Ending;
use crate::hv::{HvError, Kicker, Vcpu, VcpuExit};

/// Bytes of stack a vCPU's thread has.
const STACK_SIZE: usize = 256 << 10;

/// The vCPUs could not be started.
#[derive(Debug, Error)]
pub enum VcpuError {
    /// A thread could not be had.
    #[error("cannot start the thread of vCPU {id}: {source}")]
    Thread {
        /// The vCPU.
        id: usize,
        /// Why.
        source: io::Error,
    },
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] HvError),
}

/// What vCPUs exit to.
pub struct Buses {
    /// I/O ports.
    pub ports: Bus,
    /// Device memory.
    pub mmio: Bus,
}

/// All vCPUs of a microVM, running or held.
pub struct Vcpus {
    threads: Vec<(JoinHandle<()>, Box<dyn Kicker>)>,
    vcpus: Vec<SharedVcpu>,
    gate: Arc<Gate>,
}

/// A vCPU, locked by its thread while it runs.
type SharedVcpu = Arc<Mutex<Box<dyn Vcpu>>>;

impl Vcpus {
    /// Starts every vCPU on a thread of its own.
    pub fn start(
        vcpus: Vec<Box<dyn Vcpu>>,
        buses: Arc<Buses>,
        ending: Arc<Ending>,
    ) -> Result<Self, VcpuError> {
        let gate = Arc::new(Gate::default());
        let mut threads = Vec::with_capacity(vcpus.len());
        let kickers = vcpus
            .iter()
            .map(|vcpu| vcpu.kicker())
            .collect::<Result<Vec<_>, _>>()?;
        let vcpus: Vec<SharedVcpu> = vcpus.into_iter().map(|vcpu| Arc::new(Mutex::new(vcpu))).collect();
        for ((id, vcpu), kicker) in vcpus.iter().enumerate().zip(kickers) {
            let runner = Runner {
                id,
                vcpu: Arc::clone(vcpu),
                buses: Arc::clone(&buses),
                ending: Arc::clone(&ending),
                gate: Arc::clone(&gate),
            };
            let thread = Builder::new()
                .name(format!("vcpu{id}"))
                .stack_size(STACK_SIZE)
                .spawn(move || runner.run())
                .map_err(|source| VcpuError::Thread { id, source })?;
            threads.push((thread, kicker));
        }
        Ok(Self { threads, vcpus, gate })
    }

    /// Returns once no vCPU runs.
    pub fn pause(&self) {
        self.gate.hold.store(true, Ordering::SeqCst);
        for (thread, kicker) in &self.threads {
            kicker.kick(thread);
        }
        let mut held = self.gate.lock();
        while *held < self.threads.len() {
            held = self
                .gate
                .changed
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The states of vCPUs that are paused, in their order.
    pub fn save(&self) -> Result<Vec<VcpuState>, HvError> {
        self.vcpus.iter().map(|vcpu| lock(vcpu).save()).collect()
    }

    /// Lets the vCPUs go on.
    pub fn resume(&self) {
        let _held = self.gate.lock();
        self.gate.hold.store(false, Ordering::SeqCst);
        self.gate.changed.notify_all();
    }
}

/// Where vCPUs wait while they are held.
#[derive(Default)]
struct Gate {
    hold: AtomicBool,
    /// How many vCPUs wait here, or have ended.
    held: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let mut held = self.lock();
        *held += 1;
        self.changed.notify_all();
        while self.hold.load(Ordering::SeqCst) {
            held = self.changed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held -= 1;
    }

    /// A vCPU that has ended is held for good.
    fn leave(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }
}

/// A thread that panicked with the lock held has ended the microVM.
fn lock(vcpu: &SharedVcpu) -> MutexGuard<'_, Box<dyn Vcpu>> {
    vcpu.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Runner {
    id: usize,
    vcpu: SharedVcpu,
    buses: Arc<Buses>,
    ending: Arc<Ending>,
    gate: Arc<Gate>,
}

impl Runner {
    fn run(self) {
        while self.ending.report().is_none() {
            if self.gate.hold.load(Ordering::SeqCst) {
                self.gate.wait();
                lock(&self.vcpu).resumed();
                continue;
            }
            self.step();
        }
        self.gate.leave();
    }

    /// Runs the guest up to its next exit, and answers it.
    fn step(&self) {
        let mut vcpu = lock(&self.vcpu);
        let fault = match vcpu.run() {
            Ok(VcpuExit::MmioWrite(gpa, data)) => return self.buses.mmio.write(gpa, data),
            Ok(VcpuExit::MmioRead(gpa, data)) => return self.buses.mmio.read(gpa, data),
            Ok(VcpuExit::IoOut(port, data)) => return self.buses.ports.write(u64::from(port), data),
            Ok(VcpuExit::IoIn(port, data)) => return self.buses.ports.read(u64::from(port), data),
            Ok(VcpuExit::Interrupted) => return,
            Ok(VcpuExit::Fault(fault)) => fault,
            Err(error) => error.to_string(),
        };
        self.ending
            .end(ExitReason::GuestFault, format!("vCPU {}: {fault}", self.id));
    }
}
