//! What the guest finds when it starts, and how it ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use vm_memory::{Bytes, GuestAddress};
use vm_spec::control::{MAX_REQUEST, Request, Response, State};
use vm_spec::{BootSpec, DeviceSpec, ExitReason, ExitReport, Resource, Start};

use super::{Bench, ENTRY, file, spec, start};
use crate::arch::layout;
use crate::control::{self, Controls};
use crate::ending::Ending;
use crate::hv::fake;

/// Waits for the microVM's ending without a control socket.
fn ended(bench: &Bench) -> ExitReport {
    loop {
        match bench.ending.report() {
            Some(report) => return report.clone(),
            None => thread::yield_now(),
        }
    }
}

#[test]
fn the_guest_finds_kernel_initramfs_command_line_and_its_first_state() {
    let bench = start(spec(vec![DeviceSpec::Rng]));
    let memory = bench.guest.memory();
    assert_eq!(
        memory.read_obj::<u8>(GuestAddress(ENTRY)).unwrap(),
        0xf4,
        "the kernel"
    );
    // Offsets in struct boot_params: e820 entries, header magic, initramfs.
    let params = |offset| {
        memory
            .read_obj::<u32>(GuestAddress(layout::ZERO_PAGE + offset))
            .unwrap()
    };
    assert_eq!(params(0x202), u32::from_le_bytes(*b"HdrS"));
    let (initramfs, len) = (params(0x218), params(0x21c));
    let mut content = vec![0; len as usize];
    memory
        .read_slice(&mut content, GuestAddress(u64::from(initramfs)))
        .unwrap();
    assert_eq!(content, b"an initramfs");
    let mut cmdline = [0; 256];
    memory
        .read_slice(&mut cmdline, GuestAddress(layout::CMDLINE))
        .unwrap();
    let end = cmdline.iter().position(|byte| *byte == 0).unwrap();
    let cmdline = std::str::from_utf8(&cmdline[..end]).unwrap();
    assert!(
        cmdline.ends_with("quiet virtio_mmio.device=4K@0xd0000000:5"),
        "{cmdline}"
    );
    bench.guest.with_setups(|setups| {
        let entry = setups[0].entry.unwrap();
        assert_eq!((entry.rip, entry.rsi), (ENTRY, layout::ZERO_PAGE));
    });
}

#[test]
fn only_the_first_of_several_vcpus_has_an_entry() {
    let mut spec = spec(Vec::new());
    spec.vcpus = 3;
    let mut bench = start(spec);
    let entries = bench.guest.with_setups(|setups| {
        setups
            .iter()
            .map(|setup| setup.entry.is_some())
            .collect::<Vec<_>>()
    });
    assert_eq!(entries, [true, false, false]);
    bench.microvm.pause();
    bench.microvm.pause();
    bench.microvm.resume();
    bench.microvm.resume();
    assert_eq!(bench.guest.read_port::<1>(0x1234), [0xff], "where no device is");
    bench.microvm.pause();
    bench.microvm.resume();
    assert_eq!(bench.guest.read_port::<1>(0x1234), [0xff], "it still runs");
    // All three were let go once, and the first one twice; the others get to it when they are scheduled.
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.guest.resumed_count() < 4 {
        assert!(Instant::now() < deadline, "a vCPU stays held");
        thread::yield_now();
    }
}

#[test]
fn reset_power_off_and_fault_end_the_microvm_with_their_reasons() {
    let reset = start(spec(Vec::new()));
    reset.guest.write_port_at_last(0x64, &[0xfe]);
    assert_eq!(ended(&reset).reason, ExitReason::Reset);
    let off = start(spec(Vec::new()));
    off.guest.write_port_at_last(0x604, &[0x00, 0x20]);
    assert_eq!(ended(&off).reason, ExitReason::Shutdown);
    let fault = start(spec(Vec::new()));
    fault.guest.fault("triple fault");
    let report = ended(&fault);
    assert_eq!(
        (report.reason, report.detail.as_str()),
        (ExitReason::GuestFault, "vCPU 0: triple fault")
    );
}

#[test]
fn the_console_goes_to_its_file() {
    let console = tempfile::NamedTempFile::new().unwrap();
    let mut spec = spec(Vec::new());
    spec.console = Some(Resource::Path(console.path().to_owned()));
    let bench = start(spec);
    bench.guest.write_port(0x3f8, b"h");
    bench.guest.write_port(0x3f8, b"i");
    assert_eq!(std::fs::read(console.path()).unwrap(), b"hi");
}

#[test]
fn a_board_that_cannot_be_built_says_what_is_wrong() {
    let error = |change: fn(&mut vm_spec::VmSpec)| {
        let mut spec = spec(Vec::new());
        change(&mut spec);
        let (hypervisor, _guest) = fake::machine();
        let ending = std::sync::Arc::new(Ending::new().unwrap());
        super::super::start(&hypervisor, spec, &ending)
            .err()
            .unwrap()
            .to_string()
    };
    fn boot(spec: &mut vm_spec::VmSpec) -> &mut BootSpec {
        match &mut spec.start {
            Start::Boot(boot) => boot,
            Start::Restore(_) => unreachable!("the spec of these tests boots"),
        }
    }
    let no_file = error(|spec| boot(spec).kernel = Resource::Path("/nonexistent/vmlinux".into()));
    assert!(
        no_file.contains("the kernel") && no_file.contains("/nonexistent/vmlinux"),
        "{no_file}"
    );
    assert!(error(|spec| boot(spec).kernel = file(b"MZ, and no kernel")).contains("not an ELF file"));
    assert!(error(|spec| boot(spec).initramfs = Resource::Fd(987)).contains("descriptor 987"));
    assert!(error(|spec| boot(spec).initramfs = Resource::Fd(1)).contains("standard stream"));
    assert!(error(|spec| boot(spec).cmdline = "x".repeat(4096)).contains("command line"));
    let odd_disk = error(|spec| spec.devices = vec![super::disk(&tempfile::tempfile().unwrap(), false)]);
    assert!(odd_disk.contains("0 bytes"), "{odd_disk}");
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(path: &std::path::Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).unwrap()))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn answer(&mut self) -> Option<Response> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn ask(&mut self, request: Request) -> Option<Response> {
        let mut line = serde_json::to_vec(&request).unwrap();
        line.push(b'\n');
        self.send(&line);
        self.answer()
    }
}

#[test]
fn clients_of_the_control_socket_are_served_until_one_stops_the_microvm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let clients = thread::spawn(move || {
        let (mut first, mut second) = (Client::connect(&path), Client::connect(&path));
        assert_eq!(first.ask(Request::State), Some(Response::State(State::Running)));
        assert_eq!(second.ask(Request::Pause), Some(Response::State(State::Paused)));
        assert_eq!(second.ask(Request::Pause), Some(Response::State(State::Paused)));
        assert_eq!(first.ask(Request::State), Some(Response::State(State::Paused)));
        assert_eq!(first.ask(Request::Resume), Some(Response::State(State::Running)));
        first.send(b"\"sta");
        first.send(b"te\"\n\"state\"\nnonsense\n");
        assert_eq!(first.answer(), Some(Response::State(State::Running)));
        assert_eq!(first.answer(), Some(Response::State(State::Running)));
        assert!(matches!(first.answer(), Some(Response::Error(_))));
        second.send(&[b'x'; MAX_REQUEST]);
        assert!(matches!(second.answer(), Some(Response::Error(_))));
        assert_eq!(second.answer(), None, "a client that sends no lines is dropped");
        assert_eq!(first.ask(Request::Stop), Some(Response::State(State::Stopped)));
        first
    });
    let mut bench = start(spec(vec![DeviceSpec::Rng]));
    let mut controls = Controls::new(listener, control::hold_signals().unwrap()).unwrap();
    let report = controls.serve(&mut bench.microvm, &bench.ending).unwrap();
    assert_eq!(report.reason, ExitReason::Stopped);
    let mut client = clients.join().unwrap();
    drop(controls);
    assert_eq!(client.answer(), None, "the end is seen as end of file");
}

#[test]
fn a_signal_ends_the_microvm() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("control")).unwrap();
    let signals = control::hold_signals().unwrap();
    let mut bench = start(spec(Vec::new()));
    let mut controls = Controls::new(listener, signals).unwrap();
    raise(Signal::SIGTERM).unwrap();
    let report = controls.serve(&mut bench.microvm, &bench.ending).unwrap();
    assert_eq!(
        (report.reason, report.detail.as_str()),
        (ExitReason::Signal, "SIGTERM")
    );
}
