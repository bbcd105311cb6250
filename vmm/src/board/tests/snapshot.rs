//! A microVM is saved, and another one goes on from that.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};
use vm_spec::control::State;
use vm_spec::{DeviceSpec, Resource, RestoreSpec, SnapshotSpec, Start, VmSpec};

use super::driver::{DATA, Driver, WRITE};
use super::{Bench, ENTRY, disk, hand_over, spec, start};
use crate::ending::Ending;
use crate::hv::fake::{self, CLOCK, RIP, Restored};

/// The two files of a VM snapshot.
struct Files {
    state: File,
    memory: File,
}

impl Files {
    fn new() -> Self {
        Self {
            state: tempfile::tempfile().unwrap(),
            memory: tempfile::tempfile().unwrap(),
        }
    }

    fn spec(&self) -> SnapshotSpec {
        let hand = |file: &File| hand_over(file.try_clone().unwrap());
        SnapshotSpec {
            state: hand(&self.state),
            memory: hand(&self.memory),
        }
    }

    fn restore(&self, copy: bool, spec: VmSpec) -> VmSpec {
        VmSpec {
            start: Start::Restore(RestoreSpec {
                snapshot: self.spec(),
                copy,
            }),
            ..spec
        }
    }
}

/// What a saved microVM looks like: one vCPU and an entropy device.
fn shape() -> VmSpec {
    spec(vec![DeviceSpec::Rng])
}

fn saved(spec: VmSpec) -> (Files, Bench) {
    let files = Files::new();
    let mut bench = start(VmSpec {
        save: Some(files.spec()),
        ..spec
    });
    // What a guest does before it is saved: it starts a device, and uses memory.
    Driver::started(&bench.guest, 0);
    let memory = bench.guest.memory();
    memory.write_obj(77u8, GuestAddress(DATA + 4096)).unwrap();
    bench.microvm.save().unwrap();
    (files, bench)
}

fn error(spec: VmSpec) -> String {
    let (hypervisor, _guest) = fake::machine();
    let ending = Arc::new(Ending::new().unwrap());
    let started = super::super::start(&hypervisor, spec, &ending);
    started.err().expect("it is refused").to_string()
}

#[test]
fn two_microvms_go_on_from_one_snapshot_each_for_itself() {
    let (files, original) = saved(shape());
    for copy in [false, true] {
        let bench = start(files.restore(copy, shape()));
        let memory = bench.guest.memory();
        let byte = |at| memory.read_obj::<u8>(GuestAddress(at)).unwrap();
        assert_eq!((byte(ENTRY), byte(DATA + 4096)), (0xf4, 77), "copy: {copy}");
        // The queue that was set up before serves here.
        let mut driver = Driver::new(&bench.guest, 0);
        assert_eq!(driver.submit(&[(DATA, 32, WRITE, 0)]), 32);
        memory.write_obj(78u8, GuestAddress(DATA + 4096)).unwrap();
    }
    let seen = original.guest.memory().read_obj::<u8>(GuestAddress(DATA + 4096));
    assert_eq!(seen.unwrap(), 77);
    assert_eq!(original.microvm.state(), State::Paused);
}

#[test]
fn the_saved_microvm_goes_on_when_it_is_let() {
    let (_files, mut bench) = saved(shape());
    bench.microvm.resume();
    let mut driver = Driver::new(&bench.guest, 0);
    assert_eq!(driver.submit(&[(DATA, 32, WRITE, 0)]), 32);
}

#[test]
fn vcpus_take_over_their_states_before_the_machine_does() {
    let three = || VmSpec { vcpus: 3, ..shape() };
    let (files, _original) = saved(three());
    let bench = start(files.restore(false, three()));
    assert_eq!(
        bench.guest.restored(),
        [
            Restored::Vcpu { rip: RIP },
            Restored::Vcpu { rip: RIP + 1 },
            Restored::Vcpu { rip: RIP + 2 },
            Restored::Vm { clock: CLOCK },
        ]
    );
    bench
        .guest
        .with_setups(|setups| assert!(setups.is_empty(), "none is set up to boot"));
}

#[test]
fn the_keyboard_controller_goes_on() {
    const DATA_PORT: u16 = 0x60;
    const COMMAND_PORT: u16 = 0x64;
    let files = Files::new();
    let mut bench = start(VmSpec {
        save: Some(files.spec()),
        ..shape()
    });
    bench.guest.write_port(COMMAND_PORT, &[0xaa]);
    bench.microvm.save().unwrap();
    let restored = start(files.restore(false, shape()));
    assert_eq!(
        restored.guest.read_port::<1>(DATA_PORT),
        [0x55],
        "the self-test's result"
    );
}

#[test]
fn a_disk_of_another_length_is_refused() {
    let file = |len| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        disk(&file, false)
    };
    let (files, _original) = saved(spec(vec![DeviceSpec::Rng, file(4096)]));
    start(files.restore(false, spec(vec![DeviceSpec::Rng, file(4096)])));
    let error = error(files.restore(false, spec(vec![DeviceSpec::Rng, file(8192)])));
    assert!(error.contains("a disk of 8 sectors"), "{error}");
}

#[test]
fn a_microvm_of_another_shape_is_refused() {
    let (files, _original) = saved(shape());
    let refused = |change: fn(&mut VmSpec)| {
        let mut spec = shape();
        change(&mut spec);
        error(files.restore(false, spec))
    };
    assert!(refused(|spec| spec.vcpus = 2).contains("vCPUs"));
    assert!(refused(|spec| spec.memory_mib = 128).contains("bytes of memory"));
    assert!(refused(|spec| spec.devices.clear()).contains("devices"));
    let other = refused(|spec| spec.devices = vec![disk(&full_sector(), false)]);
    assert!(other.contains("the state is that of rng"), "{other}");
}

fn full_sector() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 512]).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn damaged_and_missing_files_are_refused_and_nothing_runs() {
    let (files, _original) = saved(shape());
    let whole = files.memory.metadata().unwrap().len();
    for copy in [false, true] {
        files.memory.set_len(0).unwrap();
        let short = error(files.restore(copy, shape()));
        assert!(
            short.contains("guest memory") || short.contains("read the memory"),
            "{short}"
        );
        files.memory.set_len(whole).unwrap();
    }
    files.state.write_all_at(b"x", 200).unwrap();
    let changed = error(files.restore(false, shape()));
    assert!(changed.contains("checksum"), "{changed}");
    let missing = error(VmSpec {
        start: Start::Restore(RestoreSpec {
            snapshot: SnapshotSpec {
                state: Resource::Path("/nonexistent/state".into()),
                memory: hand_over(files.memory.try_clone().unwrap()),
            },
            copy: false,
        }),
        ..shape()
    });
    assert!(missing.contains("/nonexistent/state"), "{missing}");
}

#[test]
fn a_microvm_without_a_place_for_a_snapshot_says_so() {
    let mut bench = start(shape());
    let error = bench.microvm.save().unwrap_err().to_string();
    assert!(error.contains("no place"), "{error}");
}
