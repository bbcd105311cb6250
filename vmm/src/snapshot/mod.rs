//! VM snapshots: a microVM at rest, written to two files, one with its state and one with its memory.
//!
//! The state is a header (magic, version, checksum) and a `postcard` body. It says which parts of RAM the memory file
//! holds, at the offsets that they have in RAM; everything else of RAM is zero.
//!
//! The kernel's text is always mapped from the file: all microVMs share its pages. (An emulated processor keeps its
//! translation of them, too, which is most of what a start costs there.) What guests write to is mapped in the same way
//! where a page fault is cheap, and copied into huge pages where it is not: on a host that is a virtual machine itself, each
//! of the thousand faults of a start leaves through two hypervisors.
//!
//! Both files are the host's own, of its own guest kernel, made and used by the same build of `hull-vmm`. What is read is
//! checked for damage: a state that was cut off, changed or made by another build is refused, and so is a memory file that
//! is too short. Addresses in it go through the same checks as those that a guest writes.

mod ram;

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arch::state::{VcpuState, VmState};
use crate::devices::i8042::I8042State;
use crate::devices::serial::SerialState;
use crate::memory::RamPart;
use crate::virtio::transport::TransportState;

pub use ram::{RamError, read_ram, share_out, whole_huge_pages, write_ram};

/// The first bytes of a state.
const MAGIC: [u8; 8] = *b"hullsnap";

/// Changes with everything that changes the meaning of a state, and with each release.
const VERSION: &str = concat!("1 ", env!("CARGO_PKG_VERSION"));

/// The longest body, in bytes: 64 vCPUs take 700 KiB.
const MAX_BODY: u64 = 4 << 20;

/// A state could not be written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file could not be written.
    #[error("cannot write the state of the VM snapshot: {0}")]
    Write(io::Error),
    /// The file could not be read.
    #[error("cannot read the state of the VM snapshot: {0}")]
    Read(io::Error),
    /// A state that cannot be put into bytes, or bytes that are none.
    #[error("the state of the VM snapshot does not hold what it should: {0}")]
    Encoding(#[from] postcard::Error),
    /// Damage, or another build.
    #[error("the state of the VM snapshot is of no use: {0}")]
    Unusable(&'static str),
    /// Of a microVM of another shape.
    #[error("the VM snapshot has {saved} {what}, and the microVM {wanted}")]
    Shape {
        /// What is counted.
        what: &'static str,
        /// The snapshot's.
        saved: u64,
        /// The spec's.
        wanted: u64,
    },
}

/// Everything but memory.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Bytes of RAM.
    pub ram: u64,
    /// Where the kernel's instructions lie: whole huge pages.
    pub text: Vec<RamPart>,
    /// The other parts of RAM that hold anything, in their order.
    pub used: Vec<RamPart>,
    /// The vCPUs in their order.
    pub vcpus: Vec<VcpuState>,
    /// What they share.
    pub vm: VmState,
    /// The keyboard controller.
    pub controller: I8042State,
    /// The serial console, where there is one.
    pub serial: Option<SerialState>,
    /// The virtio devices in the order of their slots.
    #[serde(with = "json")]
    pub devices: Vec<TransportState>,
}

impl Snapshot {
    /// Replaces the content of `file`.
    pub fn write(&self, mut file: &File) -> Result<(), SnapshotError> {
        let body = postcard::to_allocvec(self)?;
        let mut bytes = Vec::with_capacity(body.len() + 64);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&postcard::to_allocvec(&(VERSION, body.len() as u64))?);
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        let mut write = || {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(&bytes)
        };
        write().map_err(SnapshotError::Write)
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(mut file: &File) -> Result<Self, SnapshotError> {
        let mut bytes = Vec::new();
        file.rewind()
            .and_then(|()| file.take(MAX_BODY).read_to_end(&mut bytes))
            .map_err(SnapshotError::Read)?;
        let rest = bytes
            .strip_prefix(&MAGIC)
            .ok_or(SnapshotError::Unusable("it does not begin as one"))?;
        let ((version, len), rest): ((&str, u64), _) = postcard::take_from_bytes(rest)?;
        if version != VERSION {
            return Err(SnapshotError::Unusable("another build of hull-vmm wrote it"));
        }
        let (checksum, body) = rest
            .split_first_chunk::<4>()
            .filter(|(_, body)| body.len() as u64 == len)
            .ok_or(SnapshotError::Unusable("it was cut off"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(SnapshotError::Unusable("its checksum is wrong"));
        }
        Ok(postcard::from_bytes(body)?)
    }

    /// Whether a microVM of this shape can go on from it.
    pub fn check_shape(&self, ram: u64, vcpus: u8, devices: usize) -> Result<(), SnapshotError> {
        let counts = [
            ("bytes of memory", self.ram, ram),
            ("vCPUs", self.vcpus.len() as u64, u64::from(vcpus)),
            ("devices", self.devices.len() as u64, devices as u64),
        ];
        match counts.into_iter().find(|(_, saved, wanted)| saved != wanted) {
            Some((what, saved, wanted)) => Err(SnapshotError::Shape { what, saved, wanted }),
            None => Ok(()),
        }
    }
}

/// Devices describe their states themselves, so they are JSON inside of the rest.
mod json {
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(value)
            .map_err(S::Error::custom)?
            .serialize(to)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        serde_json::from_str(<&str>::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn snapshot() -> Snapshot {
        Snapshot {
            ram: 64 << 20,
            text: vec![RamPart {
                offset: 2 << 20,
                len: 2 << 20,
            }],
            used: vec![RamPart { offset: 0, len: 4096 }],
            vcpus: vec![VcpuState {
                msrs: vec![(0x10, 7)],
                ..VcpuState::default()
            }],
            vm: VmState {
                clock: 5,
                ..VmState::default()
            },
            controller: I8042State::default(),
            serial: None,
            devices: Vec::new(),
        }
    }

    fn written() -> File {
        let file = tempfile::tempfile().unwrap();
        snapshot().write(&file).unwrap();
        file
    }

    #[test]
    fn a_state_reads_back() {
        let read = Snapshot::read(&written()).unwrap();
        assert_eq!((read.ram, read.vm.clock), (64 << 20, 5));
        assert_eq!((read.text, read.used), (snapshot().text, snapshot().used));
        assert_eq!(read.vcpus[0].msrs, [(0x10, 7)]);
    }

    #[test]
    fn a_changed_or_shortened_state_is_refused() {
        let len = written().metadata().unwrap().len();
        for at in 0..len {
            let file = written();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[!byte[0]], at).unwrap();
            assert!(Snapshot::read(&file).is_err(), "byte {at}");
            file.set_len(at).unwrap();
            assert!(Snapshot::read(&file).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn another_shape_is_named() {
        let error = |ram, vcpus, devices| {
            let checked = snapshot().check_shape(ram, vcpus, devices);
            checked.unwrap_err().to_string()
        };
        assert!(error(32 << 20, 1, 0).contains("bytes of memory"));
        assert!(error(64 << 20, 2, 0).contains("1 vCPUs, and the microVM 2"));
        assert!(error(64 << 20, 1, 3).contains("devices"));
        snapshot().check_shape(64 << 20, 1, 0).unwrap();
    }
}
