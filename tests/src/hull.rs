//! An instance of hull that belongs to the tests of this checkout.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{Outcome, Place};

/// Names the file in which each microVM test leaves a line, so that `make test` can count them.
const TALLY: &str = "HULL_TEST_TALLY";

/// How long something that must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// hull's programs with a state root and a runtime folder of the tests' own, so that a developer's containers are not
/// touched.
#[derive(Clone, Debug)]
pub struct Hull {
    prefix: PathBuf,
    root: PathBuf,
    runtime: PathBuf,
    place: Place,
}

impl Hull {
    /// The instance, its daemon started where none runs yet. `None` where no microVM can run, which is said and counted.
    pub fn for_test(test: &str) -> Result<Option<Hull>> {
        let hull = Self::instance()?;
        let doctor = hull.hull(["doctor"]);
        let found = doctor.code == 0;
        if !found {
            println!("SKIPPED {test}: no microVM can run here; `hull doctor` says why:\n{doctor}");
        }
        if let Some(tally) = std::env::var_os(TALLY) {
            let mut tally = OpenOptions::new().create(true).append(true).open(tally)?;
            writeln!(tally, "{} {test}", if found { "ran" } else { "skipped" })?;
        }
        if found {
            hull.hull(["info"]).ok();
        }
        Ok(found.then_some(hull))
    }

    /// The instance of this checkout, whether or not it can run anything.
    pub fn instance() -> Result<Hull> {
        let prefix = prefix()?;
        // Socket paths are at most 107 bytes long, so the runtime folder cannot lie in a checkout of any depth.
        let mut hasher = DefaultHasher::new();
        prefix.hash(&mut hasher);
        let base = std::env::temp_dir().join(format!("hull-test-{:016x}", hasher.finish()));
        let (root, runtime) = (base.join("root"), base.join("run"));
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&runtime)?;
        let mut hull = Hull {
            prefix,
            root,
            runtime,
            place: Place::Host,
        };
        hull.place = Place::of(&hull)?;
        Ok(hull)
    }

    /// Where the microVMs run.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The API socket's path on this host.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("hull.sock")
    }

    /// The state root of the daemon, in the place where it runs.
    pub fn state_root(&self) -> PathBuf {
        match self.place {
            Place::Host => self.root.clone(),
            Place::Machine => "/var/lib/hull".into(),
        }
    }

    /// The runtime folder of the daemon, in the place where it runs.
    pub fn runtime(&self) -> PathBuf {
        match self.place {
            Place::Host => self.runtime.clone(),
            Place::Machine => "/run/hull".into(),
        }
    }

    /// The folder with hull's other programs and images.
    pub fn lib(&self) -> PathBuf {
        self.prefix.join("lib/hull")
    }

    /// `hull ARGS...`, to be run.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.prefix.join("bin/hull"));
        command.args(args).stdin(Stdio::null());
        self.environment(&mut command);
        command
    }

    /// Tells a command that it is to use this instance.
    pub fn environment(&self, command: &mut Command) {
        command
            .env("HULL_ROOT", &self.root)
            .env("HULL_RUNTIME", &self.runtime)
            .env_remove("HULL_HOST");
    }

    /// The folder that hull was built into.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// What `hull ARGS...` did.
    pub fn hull<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.command(args).output().expect("hull can be executed").into()
    }

    /// What `hull ARGS...` did with this as its standard input.
    pub fn hull_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Outcome {
        feed(self.command(args), input)
    }

    /// `docker ARGS...` with the real docker CLI against this instance, to be run.
    pub fn docker_command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// What `docker ARGS...` did.
    pub fn docker<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Outcome {
        self.docker_command(args)
            .output()
            .expect("the docker CLI is installed")
            .into()
    }

    /// What `docker ARGS...` did with this as its standard input.
    pub fn docker_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Outcome {
        feed(self.docker_command(args), input)
    }

    /// What a shell script did in the place where the daemon and the microVMs run, as root.
    pub fn shell(&self, script: &str) -> Outcome {
        self.shell_command(script)
            .output()
            .expect("a shell can be executed")
            .into()
    }

    /// Such a script, to be run.
    pub fn shell_command(&self, script: &str) -> Command {
        match self.place {
            Place::Host => {
                let mut command = Command::new("sh");
                command.args(["-c", script]).stdin(Stdio::null());
                command
            }
            Place::Machine => self.command(["machine", "shell", "sh", "-c", script]),
        }
    }

    /// Runs one test of this test program again inside the helper VM, where KVM is: with this host's files as its root, and
    /// with a `/run` in memory for sockets, which shared files cannot be.
    #[track_caller]
    pub fn run_test_in_machine(&self, test: &str) {
        let program = std::env::current_exe().expect("a test program has a path");
        let script = r#"
            mount --rbind /dev /host/dev; mount --rbind /proc /host/proc; mount -t tmpfs run /host/run
            HULL_LIB=$1 TMPDIR=/run exec chroot /host "$2" --exact "$3" --nocapture
        "#;
        let mut command = self.command(["machine", "shell", "unshare", "-m", "sh", "-euc", script, "test"]);
        let outcome = Outcome::from(
            command
                .arg(self.lib())
                .arg(program)
                .arg(test)
                .output()
                .expect("hull can be executed"),
        );
        assert!(
            outcome.code == 0 && outcome.stdout.contains("1 passed"),
            "in the helper VM: {outcome}"
        );
    }

    /// Ends the instance (the helper VM, or the daemon) and removes what it keeps on disk.
    pub fn remove(&self) -> Result<()> {
        match self.place {
            Place::Machine => {
                let stopped = self.hull(["machine", "stop"]);
                ensure!(stopped.code == 0, "the helper VM does not stop: {stopped}");
            }
            Place::Host => {
                // Without a daemon there is no such file, and nothing to end.
                let pid_file = self.runtime.join("hulld.pid");
                self.shell(&format!("kill $(cat {})", pid_file.display()));
            }
        }
        let folder = self
            .root
            .parent()
            .context("the instance has no folder of its own")?;
        fs::remove_dir_all(folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        Ok(())
    }

    /// Starts a container of busybox in the background, which runs a shell script; its identifier.
    #[track_caller]
    pub fn start_script(&self, name: &str, script: &str) -> String {
        let id = self
            .hull(["run", "-d", "--name", name, "busybox", "sh", "-c", script])
            .ok();
        id.trim().to_owned()
    }

    /// The first lines that a container logs, standard output and error in one; waits until there are so many.
    #[track_caller]
    pub fn first_lines(&self, container: &str, count: usize) -> Vec<String> {
        let (output, writer) = std::io::pipe().expect("a pipe can be made");
        let mut command = self.command(["logs", "--follow", container]);
        command
            .stdout(writer.try_clone().expect("a descriptor can be had"))
            .stderr(writer);
        let mut follower = command.spawn().expect("hull can be executed");
        // It holds the pipe open.
        drop(command);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        let deadline = Instant::now() + PATIENCE;
        let next = || lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let said: Vec<String> = std::iter::from_fn(|| next().ok()).take(count).collect();
        let _ = follower.kill();
        let _ = follower.wait();
        assert!(
            said.len() == count,
            "{container} did not log {count} lines within {PATIENCE:?}: {said:?}"
        );
        said
    }

    /// What happens to a container from `since` on comes to be told as these actions, a line each; `filters` choose among them.
    #[track_caller]
    pub fn events_become(&self, container: &str, since: &str, filters: &[&str], expected: &str) {
        let container = format!("container={container}");
        // "0s" is the beginning of this second: what just happened comes after it.
        let mut args = vec![
            "events",
            "--since",
            since.trim(),
            "--until",
            "0s",
            "--filter",
            &container,
        ];
        args.extend(filters.iter().flat_map(|filter| ["--filter", *filter]));
        args.extend(["--format", "{{.Action}}"]);
        self.eventually("the last event's second", || {
            let told = self.docker(&args).ok();
            if told == expected { Ok(()) } else { Err(told) }
        });
        assert_eq!(self.hull(&args).ok(), expected);
    }

    /// Asks until the answer pleases; an answer that never does is a failure that shows the last one. For the few things
    /// that offer no event to wait for.
    #[track_caller]
    pub fn eventually<T>(&self, what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
        self.eventually_within(PATIENCE, what, ask)
    }

    /// [`Hull::eventually`], for what may take longer.
    #[track_caller]
    pub fn eventually_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut ask: impl FnMut() -> Result<T, String>,
    ) -> T {
        let deadline = Instant::now() + patience;
        loop {
            match ask() {
                Ok(answer) => return answer,
                Err(last) => assert!(
                    Instant::now() < deadline,
                    "{what} did not happen within {patience:?}: {last}"
                ),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A name for a container that no other test uses, with whatever stands under it removed at the end.
    pub fn container(&self, name: &str) -> Cleanup {
        Cleanup {
            hull: self.clone(),
            name: format!("{name}-{}", std::process::id()),
        }
    }
}

/// The folder that `make build` built hull into.
pub(crate) fn prefix() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests lie in the workspace")?;
    let prefix = workspace.join("build");
    ensure!(
        prefix.join("bin/hull").exists(),
        "{} has no bin/hull: run `make build` first",
        prefix.display()
    );
    Ok(prefix)
}

/// Removes its container when it is dropped.
#[derive(Debug)]
pub struct Cleanup {
    hull: Hull,
    name: String,
}

impl std::ops::Deref for Cleanup {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.hull.hull(["rm", "-f", &self.name]);
    }
}

fn feed(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be executed");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    std::thread::scope(|scope| {
        // A program that ends without reading all of it is not a failure of the test.
        scope.spawn(move || stdin.write_all(input).ok());
        child
            .wait_with_output()
            .expect("the program can be waited for")
            .into()
    })
}

/// The answer of a question that is asked once a process.
pub(crate) fn once<T: Copy>(cell: &OnceLock<T>, ask: impl FnOnce() -> Result<T>) -> Result<T> {
    match cell.get() {
        Some(answer) => Ok(*answer),
        None => {
            let answer = ask()?;
            Ok(*cell.get_or_init(|| answer))
        }
    }
}
