//! A microVM of a test's own, and the host's side of the protocol.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest_protocol::{
    CONTROL_PORT, Call, CallError, ContainerSpec, Event, ExitStatus, Message, ProcessId, ProcessSpec,
    READY_PORT, Reply, Request, Rootfs, STREAM_PORT, Seccomp, StreamHello, StreamKind, StreamReply,
    read_frame, write_frame,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use system_tests::{CAPABILITIES, Hull, Place};

/// Nothing in these tests takes longer, even in a nested VM.
const LIMIT: Duration = Duration::from_secs(60);

/// What the host boots its microVMs with, and a console.
const KERNEL_PARAMETERS: &str = "console=ttyS0 quiet dummy.numdummies=0 panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests \
    no_timer_check rcupdate.rcu_expedited=1";

/// Where `hull-vmm`, `vmlinux` and `initramfs.cpio` are, where a microVM can run here. `None` where none can, which is said and
/// counted, and where the test has been run in the helper VM instead.
pub(crate) fn library() -> Option<PathBuf> {
    if let Some(library) = std::env::var_os("HULL_LIB") {
        return Some(library.into());
    }
    let test = std::thread::current()
        .name()
        .expect("a test has a thread of its own")
        .to_owned();
    let hull = Hull::for_test(&test).expect("hull's programs are built")?;
    match hull.place() {
        Place::Host => Some(hull.lib()),
        Place::Machine => {
            hull.run_test_in_machine(&test);
            None
        }
    }
}

/// What a microVM is started with.
#[derive(Default)]
pub(crate) struct Setup {
    /// A writable disk with the serial number `disk`.
    pub(crate) disk: bool,
    /// Host folders, each by its name on the device `folders`.
    pub(crate) folders: Vec<(&'static str, PathBuf)>,
    /// Layers; none is just the base.
    pub(crate) layers: Vec<PathBuf>,
}

/// A microVM with its agent; killed when dropped.
pub(crate) struct Vm {
    child: Child,
    directory: PathBuf,
    control: UnixStream,
    next_request: u64,
    next_process: ProcessId,
    events: VecDeque<Event>,
    layers: usize,
    disk: bool,
}

/// How a process that was run to its end did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) oom_killed: bool,
}

impl Vm {
    /// Boots one and connects to its agent.
    pub(crate) fn boot(library: &Path, setup: &Setup) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = scratch().join(format!("vm{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let ready = UnixListener::bind(directory.join("ready.sock")).unwrap();
        let base = [base_layer().to_path_buf()];
        let layers = if setup.layers.is_empty() {
            &base[..]
        } else {
            &setup.layers
        };
        let spec = spec(library, &directory, setup, layers);
        fs::write(directory.join("exit"), "").unwrap();
        let started = Instant::now();
        let mut child = Command::new(library.join("hull-vmm"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(spec.to_string().as_bytes())
            .unwrap();
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut events = [ready.as_fd(), end.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let limit = Timespec::try_from(LIMIT).unwrap();
        let count = retry_on_intr(|| poll(&mut events, Some(&limit))).unwrap();
        let log = || fs::read_to_string(directory.join("console")).unwrap_or_default();
        assert!(count > 0, "the agent did not come up; console: {}", log());
        assert!(
            events[1].revents().is_empty(),
            "the VMM ended; console: {}",
            log()
        );
        ready.accept().unwrap();
        eprintln!("ready after {:?}", started.elapsed());
        let control = connect(&directory, CONTROL_PORT);
        Self {
            child,
            directory,
            control,
            next_request: 0,
            next_process: 1,
            events: VecDeque::new(),
            layers: layers.len(),
            disk: setup.disk,
        }
    }

    /// A container specification with nothing but a root.
    pub(crate) fn container(&self) -> ContainerSpec {
        ContainerSpec {
            hostname: "box".into(),
            rootfs: Rootfs {
                layers_tag: "layers".into(),
                layers: (0..self.layers).map(|index| format!("layer{index}")).collect(),
                disk: self.disk.then(|| "disk".into()),
                read_only: false,
            },
            shm_bytes: 64 << 20,
            ..ContainerSpec::default()
        }
    }

    /// Makes the container.
    pub(crate) fn create(&mut self, spec: ContainerSpec) {
        assert_eq!(self.call(Call::CreateContainer(Box::new(spec))), Ok(Reply::Done));
    }

    /// A specification of a process that runs a shell script.
    pub(crate) fn script(&mut self, script: &str) -> ProcessSpec {
        self.command(&["/bin/sh", "-c", script])
    }

    /// A specification of a process with Docker's defaults.
    pub(crate) fn command(&mut self, args: &[&str]) -> ProcessSpec {
        let id = self.next_process;
        self.next_process += 1;
        ProcessSpec {
            id,
            args: args.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cwd: "/".into(),
            capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
            seccomp: Seccomp::Standard,
            ..ProcessSpec::default()
        }
    }

    /// Asks the agent and waits for the answer.
    pub(crate) fn call(&mut self, call: Call) -> Result<Reply, CallError> {
        let id = self.send(call);
        loop {
            match self.receive() {
                Message::Response { id: answered, result } => {
                    assert_eq!(answered, id);
                    return result;
                }
                Message::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// Asks without waiting; the id of the request.
    pub(crate) fn send(&mut self, call: Call) -> u64 {
        self.next_request += 1;
        write_frame(
            &mut self.control,
            &Request {
                id: self.next_request,
                call,
            },
        )
        .unwrap();
        self.next_request
    }

    /// The next message of the agent.
    pub(crate) fn receive(&mut self) -> Message {
        read_frame(&mut self.control)
            .unwrap()
            .expect("the agent closed the control connection")
    }

    /// Makes a new control connection, and leaves the old one to its fate.
    pub(crate) fn reconnect(&mut self) -> UnixStream {
        std::mem::replace(&mut self.control, connect(&self.directory, CONTROL_PORT))
    }

    /// Starts a process that must start.
    pub(crate) fn start(&mut self, spec: &ProcessSpec) -> i32 {
        match self.call(Call::StartProcess(Box::new(spec.clone()))) {
            Ok(Reply::Started { pid }) => pid,
            other => panic!("{:?}: {other:?}", spec.args),
        }
    }

    /// Waits for the end of a process.
    pub(crate) fn wait(&mut self, process: ProcessId) -> ExitStatus {
        loop {
            let found = self
                .events
                .iter()
                .position(|Event::Exited { process: ended, .. }| *ended == process);
            if let Some(Event::Exited { status, .. }) = found.and_then(|index| self.events.remove(index)) {
                return status;
            }
            match self.receive() {
                Message::Event(event) => self.events.push_back(event),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Connects to a stream; the agent's answer and the connection.
    pub(crate) fn stream(
        &self,
        process: ProcessId,
        stream: StreamKind,
        offset: u64,
    ) -> (StreamReply, UnixStream) {
        let mut connection = connect(&self.directory, STREAM_PORT);
        write_frame(
            &mut connection,
            &StreamHello {
                process,
                stream,
                offset,
            },
        )
        .unwrap();
        let reply = read_frame(&mut connection)
            .unwrap()
            .expect("no answer to a hello");
        (reply, connection)
    }

    /// Reads a stream to its end in a thread of its own, acknowledging as it goes.
    pub(crate) fn drain(&self, process: ProcessId, stream: StreamKind) -> JoinHandle<Vec<u8>> {
        let (reply, mut connection) = self.stream(process, stream, 0);
        assert_eq!(reply, StreamReply::Ready);
        std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 128 << 10]);
            loop {
                match connection.read(&mut buffer).unwrap() {
                    0 => return all,
                    count => all.extend_from_slice(&buffer[..count]),
                }
                // The agent closes its side only after all was sent, so it still listens.
                let _ = connection.write_all(&(all.len() as u64).to_le_bytes());
            }
        })
    }

    /// Waits until a process has begun its standard output with this.
    pub(crate) fn expect(&self, process: ProcessId, text: &str) {
        let (reply, mut connection) = self.stream(process, StreamKind::Stdout, 0);
        assert_eq!(reply, StreamReply::Ready);
        let mut said = vec![0; text.len()];
        connection.read_exact(&mut said).unwrap();
        assert_eq!(String::from_utf8_lossy(&said), text);
    }

    /// Starts a process, reads all it writes, and waits for its end.
    pub(crate) fn run(&mut self, spec: &ProcessSpec) -> Outcome {
        self.start(spec);
        self.collect(spec)
    }

    /// Reads all that a started process writes, and waits for its end.
    pub(crate) fn collect(&mut self, spec: &ProcessSpec) -> Outcome {
        let stdout = self.drain(spec.id, StreamKind::Stdout);
        let stderr = spec
            .terminal
            .is_none()
            .then(|| self.drain(spec.id, StreamKind::Stderr));
        let status = self.wait(spec.id);
        let text =
            |reader: JoinHandle<Vec<u8>>| String::from_utf8_lossy(&reader.join().unwrap()).into_owned();
        Outcome {
            code: status.code,
            stdout: text(stdout),
            stderr: stderr.map(text).unwrap_or_default(),
            oom_killed: status.oom_killed,
        }
    }

    /// Sends everything to a process's stdin, and its end of file.
    pub(crate) fn feed(&self, process: ProcessId, bytes: &[u8]) {
        let (reply, mut connection) = self.stream(process, StreamKind::Stdin, 0);
        assert_eq!(reply, StreamReply::Ready);
        connection.write_all(bytes).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        // The connection is closed when the agent has passed everything on.
        let _ = connection.read(&mut [0]);
    }

    /// The file behind the writable disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Ends the microVM and leaves its files.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The file system on the disk of a microVM that has gone is whole.
    #[track_caller]
    pub(crate) fn check_disk(&self) {
        let checked = Command::new("e2fsck")
            .arg("-fn")
            .arg(self.disk())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{said}");
    }

    /// What the guest wrote on its console.
    pub(crate) fn console(&self) -> String {
        fs::read_to_string(self.directory.join("console")).unwrap_or_default()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("console:\n{}", self.console());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn connect(directory: &Path, port: u32) -> UnixStream {
    let mut stream = UnixStream::connect(directory.join("vsock.sock")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    writeln!(stream, "CONNECT {port}").unwrap();
    let mut answer = String::new();
    BufReader::with_capacity(1, &stream)
        .read_line(&mut answer)
        .unwrap();
    assert_eq!(answer, format!("OK {port}\n"));
    stream
}

fn spec(library: &Path, directory: &Path, setup: &Setup, layers: &[PathBuf]) -> serde_json::Value {
    let path = |name: &str| json!({ "path": directory.join(name) });
    let files: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(index, file)| json!({ "name": format!("layer{index}"), "file": { "path": file } }))
        .collect();
    let window = if std::env::var_os("HULL_NO_DAX").is_some() {
        0
    } else {
        64
    };
    let mut devices = vec![
        json!({ "vsock": { "guest-cid": 3, "listener": path("vsock.sock"),
            "guest-ports": [{ "port": READY_PORT, "socket": directory.join("ready.sock") }] } }),
        json!({ "layers": { "tag": "layers", "files": files, "dax-window-mib": window } }),
    ];
    if setup.disk {
        let disk = directory.join("disk");
        let made = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-J", "size=4", "-E", "lazy_itable_init=1"])
            .arg(&disk)
            .arg("64M")
            .status()
            .unwrap();
        assert!(made.success());
        devices.push(json!({ "blk": { "id": "disk", "file": path("disk"), "read-only": false } }));
    }
    if !setup.folders.is_empty() {
        let folders: Vec<_> = setup
            .folders
            .iter()
            .map(|(name, root)| json!({ "name": name, "root": { "path": root }, "read-only": false }))
            .collect();
        devices.push(json!({ "folders": { "tag": "folders", "folders": folders } }));
    }
    json!({
        "id": "agent-test",
        "vcpus": 1,
        "memory-mib": 256,
        "start": { "boot": {
            "kernel": { "path": library.join("vmlinux") },
            "initramfs": { "path": library.join("initramfs.cpio") },
            "cmdline": std::env::var("HULL_CMDLINE").unwrap_or_else(|_| KERNEL_PARAMETERS.into()),
        } },
        "console": path("console"),
        "control": path("control.sock"),
        "exit-report": path("exit"),
        "devices": devices,
    })
}

/// Where microVMs and layers of these tests lie: no unix socket works on a folder of another machine.
fn scratch() -> &'static Path {
    Path::new("/run/hull-agent-test")
}

/// A layer with busybox and little else.
pub(crate) fn base_layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        make_layer("base", |root| {
            for directory in ["bin", "etc", "tmp", "home/alice", "run", "evil"] {
                fs::create_dir_all(root.join(directory)).unwrap();
            }
            fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
            let applets = Command::new("/bin/busybox")
                .arg("--list")
                .output()
                .unwrap()
                .stdout;
            for applet in String::from_utf8(applets)
                .unwrap()
                .lines()
                .filter(|name| *name != "busybox")
            {
                std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
            }
            let files = [
                (
                    "etc/passwd",
                    "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n",
                ),
                (
                    "etc/group",
                    "root:x:0:\nwheel:x:10:root\nalice:x:1001:\naudio:x:29:alice\n",
                ),
                ("etc/hosts", "image\n"),
                ("etc/not-executable", "#!/bin/sh\n"),
                ("evil/lost-interpreter", "#!/no/such/shell\n"),
                ("evil/not-a-program", "\0\0\0\0"),
            ];
            for (name, content) in files {
                fs::write(root.join(name), content).unwrap();
            }
            for name in ["evil/lost-interpreter", "evil/not-a-program"] {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
            }
            std::os::unix::fs::symlink("../../../../run", root.join("evil/upward")).unwrap();
            std::os::unix::fs::symlink("/proc/self/root/tmp", root.join("evil/magic")).unwrap();
        })
    })
}

/// A layer as an EROFS file, filled by `fill`.
pub(crate) fn make_layer(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let unique = format!("{name}-{}", std::process::id());
    let (root, image) = (scratch().join(&unique), scratch().join(format!("{unique}.erofs")));
    fs::create_dir_all(&root).unwrap();
    fill(&root);
    let made = Command::new("mkfs.erofs")
        .arg("--quiet")
        .arg(&image)
        .arg(&root)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::remove_dir_all(&root).unwrap();
    image
}
