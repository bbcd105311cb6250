//! SSH agents that are lent to a build: the real ones of OpenSSH, on both sides.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use system_tests::{Hull, hull};
use tempfile::TempDir;

use super::api::Image;

/// Programs of OpenSSH for the build's commands.
const PROGRAMS: [&str; 2] = ["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"];

/// An agent of this machine with one key, of which the build is to see no more than what the agent answers.
struct Agent {
    folder: TempDir,
    process: Child,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {error}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

impl Agent {
    fn start(hull: &Hull) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(folder.path().join("socket"))
            .stdout(Stdio::null())
            .spawn()
            .context("ssh-agent")?;
        let agent = Self { folder, process };
        let socket = agent.socket();
        hull.eventually("an SSH agent listens", || match Path::new(&socket).exists() {
            true => Ok(()),
            false => Err("it does not".to_owned()),
        });
        let key = agent.folder.path().join("key");
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "of-the-build", "-f"])
            .arg(&key))?;
        run(Command::new("ssh-add")
            .arg("-q")
            .arg(&key)
            .env("SSH_AUTH_SOCK", &socket))?;
        Ok(agent)
    }

    fn socket(&self) -> String {
        self.folder.path().join("socket").display().to_string()
    }

    fn public_key(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("key.pub"))?)
    }
}

/// A context with OpenSSH and all that it is linked with, at the places where it finds them.
fn context(dockerfile: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let add = |path: &str| -> Result<()> {
        let target = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a path")?)?;
        fs::copy(path, target)?;
        Ok(())
    };
    for program in PROGRAMS {
        add(program)?;
        for line in run(Command::new("ldd").arg(program))?.lines() {
            let library = line.split_whitespace().find(|word| word.starts_with('/'));
            library.map_or(Ok(()), add)?;
        }
    }
    fs::write(folder.path().join("Dockerfile"), dockerfile)?;
    // Unlike any other build's, so that nothing comes from the cache.
    fs::write(
        folder.path().join("own"),
        format!("{:?}", std::time::SystemTime::now()),
    )?;
    Ok(folder)
}

#[test]
fn commands_use_the_agent_of_the_client_and_never_see_its_keys() -> Result<()> {
    let hull = hull!();
    let agent = Agent::start(&hull)?;
    let image = Image::new(&hull, "ssh-agent");
    let dockerfile = "FROM localhost/busybox
COPY . /
RUN --mount=type=ssh test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && ssh-add -L >/key.pub && \\
    ssh-keygen -q -Y sign -f /key.pub -n build /own && cp /proc/sys/kernel/random/boot_id /boot && \\
    test \"$(stat -c '%F %a %u %g' $SSH_AUTH_SOCK)\" = 'socket 600 0 0'
RUN --mount=type=ssh,id=other,target=/agent,mode=0666,uid=33,gid=34 \\
    cmp /boot /proc/sys/kernel/random/boot_id && test \"$(stat -c '%a %u %g' /agent)\" = '666 33 34' && \\
    for n in $(seq 40); do ssh-add -L >/tmp/$n & done; wait; for n in $(seq 40); do cmp /key.pub /tmp/$n || exit 1; done
RUN --mount=type=ssh,id=nobody cmp /boot /proc/sys/kernel/random/boot_id && ! ls /agent && ! ls /run/buildkit/* && \\
    test -z $SSH_AUTH_SOCK
FROM scratch
COPY --from=0 /key.pub /own /own.sig /
";
    let context = context(dockerfile)?;
    let path = context.path().display().to_string();
    let target = tempfile::tempdir()?;
    let output = format!("type=local,dest={}", target.path().display());
    let other = format!("other={}", agent.socket());
    let mut command = hull.command(["build", "--ssh", "default", "--ssh", &other]);
    let built = command
        .args(["-t", &image.name, "-o", &output, &path])
        .env("SSH_AUTH_SOCK", agent.socket())
        .output()?;
    ensure!(
        built.status.success(),
        "{}{}",
        String::from_utf8_lossy(&built.stdout),
        String::from_utf8_lossy(&built.stderr)
    );
    let listed = fs::read_to_string(target.path().join("key.pub"))?;
    assert_eq!(listed, agent.public_key()?);
    // What only the holder of the key can make.
    let checked = run(Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "build", "-s"])
        .arg(target.path().join("own.sig"))
        .stdin(fs::File::open(target.path().join("own"))?))?;
    assert!(checked.contains("Good \"build\" signature"), "{checked}");
    Ok(())
}

#[test]
fn an_agent_that_is_not_lent_or_not_there_is_told() -> Result<()> {
    let hull = hull!();
    let agent = Agent::start(&hull)?;
    let image = Image::new(&hull, "ssh-agent-missing");
    let context = context("FROM localhost/busybox\nCOPY . /\nRUN --mount=type=ssh,required ssh-add -L\n")?;
    let path = context.path().display().to_string();
    let build = |ssh: &[&str]| hull.hull([&["build", "-t", &image.name][..], ssh, &[&path]].concat());
    build(&[])
        .exits(1)
        .says("SSH agent default: not found; lend it to the build with --ssh default");
    let key = agent.folder.path().join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    build(&["--ssh", &format!("default={}", key.display())])
        .exits(1)
        .says("is no socket: add the key to an agent with ssh-add");
    // One that is lent and has gone when it is asked: its command says so, and the client why.
    let socket = agent.folder.path().join("gone");
    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    let gone = build(&["--ssh", &format!("default={}", socket.display())]);
    assert_eq!(gone.code, 1, "{gone}");
    gone.says("a command of the build cannot use the SSH agent at");
    Ok(())
}
