//! Files of the host in a microVM, and its own: against QEMU with virtiofsd and virtio-blk, and against the file system beneath.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::Places;
use crate::figures::Series;
use crate::peers::{self, ROOT, peer, run};
use crate::workload::{self, FILES, Times};

/// As many rounds there are, but no other begins after [`ENOUGH`]: one takes many minutes where the processor is emulated.
const MOST_ROUNDS: usize = 3;
const ENOUGH: Duration = Duration::from_secs(300);
/// hull is to be so much faster than QEMU with virtiofsd.
const GOAL: f64 = 1.5;
/// Where virtiofsd listens, in the root of the peers.
const SOCKET: &str = "/tmp/virtiofsd.sock";
/// The folder that is shared, in the root of the peers and in every guest.
const SHARED: &str = "/work";
/// The disk of QEMU's microVM, in the root of the peers.
const DISK: &str = "/work/disk.ext4";

/// The rows of the table: what is done, its name in a round's times, and the goal.
const ROWS: [(&str, &str, Option<f64>); 11] = [
    ("create files", "create", Some(GOAL)),
    ("stat them", "stat", Some(GOAL)),
    ("read them", "read", Some(GOAL)),
    ("remove them", "rm", Some(GOAL)),
    ("git status", "git", Some(GOAL)),
    ("write 1 GiB, bind mount", "stream-write", None),
    ("read 1 GiB, bind mount", "stream-read", None),
    ("write 1 GiB, volume", "volume-stream-write", None),
    ("read 1 GiB, volume", "volume-stream-read", None),
    ("write 1 GiB, root", "root-stream-write", None),
    ("read 1 GiB, root", "root-stream-read", None),
];

/// Prints the table.
pub(crate) fn measure(places: &Places) -> Result<()> {
    let site = Site::make(places)?;
    let (mut native, mut qemu, mut hull) = (Vec::new(), Vec::new(), Vec::new());
    let began = Instant::now();
    for round in 1..=MOST_ROUNDS {
        eprintln!("round {round}, natively");
        native.push(site.native()?);
        eprintln!("round {round}, QEMU");
        qemu.push(site.qemu()?);
        eprintln!("round {round}, hull");
        hull.push(site.hull(places)?);
        if began.elapsed() > ENOUGH {
            break;
        }
    }
    let rounds = hull.len();
    println!(
        "\nFiles: {FILES} small ones on a bind mount, a source tree of as many, and large ones; rounds in turn: {rounds}\n"
    );
    println!("| what | native ms | QEMU ms | hull ms | QEMU / hull | goal | hull / native |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (what, name, goal) in ROWS {
        let median = |rounds: &[Times]| {
            let mut series = Series::new();
            for times in rounds {
                // A volume and a bind mount are one thing to QEMU, and all are one to the host.
                let plain = name.trim_start_matches("volume-");
                let bare = plain.trim_start_matches("root-");
                let found = [name, plain, bare].iter().find_map(|name| times.get(*name));
                series.add_ms(*found.unwrap_or(&f64::NAN));
            }
            series.median()
        };
        let (native, qemu, hull) = (median(&native), median(&qemu), median(&hull));
        let goal = goal.map_or("–".to_owned(), |goal| format!("≥ {goal}"));
        println!(
            "| {what} | {native:.0} | {qemu:.0} | {hull:.0} | {:.2} | {goal} | {:.2} |",
            qemu / hull,
            hull / native
        );
    }
    println!("\n- native: the file system that all the others lie on.");
    println!(
        "- QEMU: its microvm with Debian's virtiofsd (as it comes: cache=auto), memory shared with it, the same kernel and 512 MiB; \
         its root is an ext4 on virtio-blk. hull: a bind mount, a volume, and the root of a container."
    );
    println!(
        "- 1 GiB is written in pieces of 1 MiB and synchronized; the guest's cache is dropped before it is read."
    );
    Ok(())
}

/// The folder on disk that all share, mounted in the root of the peers and where clients of hull can name it.
struct Site {
    folder: PathBuf,
    /// Its name for clients of hull, and where that is.
    bind: PathBuf,
    bound: PathBuf,
}

impl Site {
    fn make(places: &Places) -> Result<Site> {
        let folder = places.disk.join("storage");
        let tree = folder.join("tree");
        fs::create_dir_all(&folder)?;
        fs::copy(std::env::current_exe()?, folder.join("bench"))?;
        run(Command::new("cp")
            .arg("-a")
            .arg(Path::new(ROOT).join("tools"))
            .arg(&folder))?;
        workload::make_files(&tree)?;
        let script = r#"
            folder=$1; git() { "$folder/tools/loader" --library-path "$folder/tools" "$folder/tools/git" -C "$folder/tree" "$@"; }
            export GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' \
                GIT_CONFIG_KEY_1=user.name GIT_CONFIG_VALUE_1=bench GIT_CONFIG_KEY_2=user.email GIT_CONFIG_VALUE_2=bench@localhost
            git init -q . && git add -A && git -c gc.auto=0 commit -qm tree
        "#;
        run(Command::new("sh").args(["-euc", script, "tree"]).arg(&folder))?;
        let in_peers = Path::new(ROOT).join(SHARED.trim_start_matches('/'));
        mount_bind(&folder, &in_peers).context("show the peers the folder")?;
        run(peer("/busybox", &["truncate", "-s", "3G", DISK]).current_dir("/"))?;
        run(&mut peer("/mkfs.ext4", &["-q", DISK]))?;
        let bind = PathBuf::from(format!("/tmp/hull-bench-{}", std::process::id()));
        // What clients name lies there where hulld runs in the helper VM.
        let clients = if Path::new("/host/tmp").is_dir() {
            "/host"
        } else {
            "/"
        };
        let bound = Path::new(clients).join(bind.strip_prefix("/")?);
        fs::create_dir_all(&bound)?;
        mount_bind(&folder, &bound).context("show hull the folder")?;
        Ok(Site { folder, bind, bound })
    }

    fn times(&self, file: &str) -> Result<Times> {
        let path = self.folder.join(file);
        let times = fs::read(&path).with_context(|| format!("{} was not written", path.display()))?;
        fs::remove_file(&path)?;
        Ok(serde_json::from_slice(&times)?)
    }

    fn native(&self) -> Result<Times> {
        settle();
        let folder = self.folder.display();
        let mut command = Command::new(self.folder.join("bench"));
        command
            .arg(workload::ARGUMENT)
            .arg(self.folder.join("native.json"));
        command.args([
            format!("files={folder}"),
            format!("git={folder}/tree"),
            format!("stream={folder}"),
        ]);
        run(command.stderr(Stdio::inherit()))?;
        self.times("native.json")
    }

    fn qemu(&self) -> Result<Times> {
        settle();
        let _server = Virtiofsd::start()?;
        let task = format!("{SHARED}/qemu.json,files={SHARED},git={SHARED}/tree,stream={SHARED}");
        let mut qemu = peers::qemu_with_storage(SOCKET, DISK, &task);
        run(qemu.stdout(Stdio::inherit()).stderr(Stdio::inherit()))?;
        let mut times = self.times("qemu.json")?;
        times.extend(prefixed("root-", self.times("qemu-root.json")?));
        Ok(times)
    }

    fn hull(&self, places: &Places) -> Result<Times> {
        settle();
        let share = format!("{}:{SHARED}", self.bind.display());
        let program = format!("{SHARED}/bench");
        let container = |options: &[&str], output: &str, parts: &[&str]| {
            let output = format!("{SHARED}/{output}");
            let mut command = Command::new(&places.hull);
            command.args(["run", "--rm", "-v", &share]).args(options);
            command
                .args(["busybox", &program, workload::ARGUMENT, &output])
                .args(parts);
            run(command.stderr(Stdio::inherit()))
        };
        let parts = [
            format!("files={SHARED}"),
            format!("git={SHARED}/tree"),
            format!("stream={SHARED}"),
        ];
        container(&[], "hull.json", &parts.each_ref().map(String::as_str))?;
        container(&["-v", "/volume"], "volume.json", &["stream=/volume"])?;
        container(&[], "root.json", &["stream=/"])?;
        let mut times = self.times("hull.json")?;
        times.extend(prefixed("volume-", self.times("volume.json")?));
        times.extend(prefixed("root-", self.times("root.json")?));
        Ok(times)
    }
}

/// What the one before has written must not be written out on the next one's time.
fn settle() {
    rustix::fs::sync();
}

fn prefixed(prefix: &str, times: Times) -> impl Iterator<Item = (String, f64)> {
    times
        .into_iter()
        .map(move |(name, time)| (format!("{prefix}{name}"), time))
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = unmount(&self.bound, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.bound);
    }
}

/// Debian's server of a folder, until it is dropped.
struct Virtiofsd(Child);

impl Virtiofsd {
    fn start() -> Result<Virtiofsd> {
        let listening = Path::new(ROOT).join(SOCKET.trim_start_matches('/'));
        let _ = fs::remove_file(&listening);
        let source = format!("source={SHARED}");
        let mut command = peer(
            "/virtiofsd",
            &[
                &format!("--socket-path={SOCKET}"),
                "-o",
                &source,
                "-o",
                "cache=auto",
                "-o",
                "sandbox=chroot",
            ],
        );
        let log = Path::new(ROOT).join("tmp/virtiofsd.log");
        let child = command
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let server = Virtiofsd(child);
        for _ in 0..1000 {
            if listening.exists() {
                return Ok(server);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        anyhow::bail!("virtiofsd does not listen: {}", fs::read_to_string(log)?)
    }
}

impl Drop for Virtiofsd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the init of QEMU's microVM does with a task: the folder's part of it, and what it says of streams on its disk, too.
pub(crate) fn be_init(task: &str) {
    let done = || -> Result<()> {
        for (source, target, kind) in [
            ("dev", "/dev", "devtmpfs"),
            ("work", SHARED, "virtiofs"),
            ("/dev/vda", "/disk", "ext4"),
        ] {
            fs::create_dir_all(target)?;
            mount(source, target, kind, MountFlags::empty(), None)
                .with_context(|| format!("mount {target}"))?;
        }
        workload::run(&task.split(',').map(str::to_owned).collect::<Vec<_>>())?;
        workload::run(&[format!("{SHARED}/qemu-root.json"), "stream=/disk".to_owned()])?;
        Ok(unmount("/disk", UnmountFlags::empty())?)
    };
    if let Err(error) = done() {
        eprintln!("{error:#}");
    }
}
