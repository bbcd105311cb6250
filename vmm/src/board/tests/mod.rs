//! The whole board on a fake hypervisor: every access of these tests goes through a vCPU's thread, the bus and the
//! transport to a device that works on its own thread, as a guest's would.

mod blk;
mod driver;
mod machine;
mod rng;
mod snapshot;
mod transport;

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use vm_spec::{BlkSpec, BootSpec, DeviceSpec, Resource, Start, VmSpec};

use super::Microvm;
use crate::ending::Ending;
use crate::hv::fake::{self, FakeGuest};

/// The first instruction of the test kernel.
const ENTRY: u64 = 16 << 20;

/// An ELF kernel of one page: a header, a program header, a halt.
fn kernel() -> Vec<u8> {
    let mut elf = vec![0; 0x1001];
    let mut set = |offset: usize, bytes: &[u8]| elf[offset..offset + bytes.len()].copy_from_slice(bytes);
    // 64 bits, little endian, version 1; executable for x86-64.
    set(0, b"\x7fELF\x02\x01\x01");
    set(16, &[2, 0, 62, 0, 1]);
    set(24, &ENTRY.to_le_bytes());
    set(32, &64u64.to_le_bytes());
    // Sizes of the header and of a program header, and the number of those.
    set(52, &[64, 0, 56, 0, 1, 0]);
    // PT_LOAD, readable and executable: offset, virtual and physical address, size in file and memory.
    set(64, &[1, 0, 0, 0, 5, 0, 0, 0]);
    for (index, value) in [0x1000, ENTRY, ENTRY, 1, 1, 0x1000].into_iter().enumerate() {
        set(72 + index * 8, &value.to_le_bytes());
    }
    set(0x1000, &[0xf4]);
    elf
}

/// Hands a file over as a descriptor, as the process that starts a VMM does.
fn hand_over(file: File) -> Resource {
    Resource::Fd(file.into_raw_fd())
}

fn file(content: &[u8]) -> Resource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    hand_over(file)
}

fn disk(file: &File, read_only: bool) -> DeviceSpec {
    DeviceSpec::Blk(BlkSpec {
        id: "disk".to_owned(),
        file: hand_over(file.try_clone().unwrap()),
        read_only,
    })
}

pub(crate) fn spec(devices: Vec<DeviceSpec>) -> VmSpec {
    VmSpec {
        id: "test".to_owned(),
        cgroup: None,
        vcpus: 1,
        memory_mib: 64,
        start: Start::Boot(BootSpec {
            kernel: file(&kernel()),
            initramfs: file(b"an initramfs"),
            cmdline: "quiet".to_owned(),
        }),
        save: None,
        console: None,
        control: Resource::Path("unused".into()),
        exit_report: Resource::Path("unused".into()),
        devices,
    }
}

/// A microVM that runs, and its guest.
pub(crate) struct Bench {
    guest: FakeGuest,
    pub(crate) microvm: Microvm,
    pub(crate) ending: Arc<Ending>,
}

pub(crate) fn start(spec: VmSpec) -> Bench {
    let (hypervisor, guest) = fake::machine();
    let ending = Arc::new(Ending::new().unwrap());
    let microvm = super::start(&hypervisor, spec, &ending).unwrap();
    Bench {
        guest,
        microvm,
        ending,
    }
}
