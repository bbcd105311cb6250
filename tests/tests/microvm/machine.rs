//! The helper VM: its network, its disk, and how it is renewed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use system_tests::{Hull, Outcome, Place, hull};

/// A web server on the host's loopback that gives everybody the same answer. It ends with the test.
struct Server {
    port: u16,
}

impl Server {
    fn start(address: &str, answer: Vec<u8>) -> Result<Server> {
        let listener = TcpListener::bind((address, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that goes away is no concern of the server's.
                serve(client, &answer).ok();
            }
        });
        Ok(Server { port })
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port)
    }
}

fn serve(mut client: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    write!(
        client,
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    )?;
    client.write_all(answer)
}

/// The instance when its daemon is in the helper VM.
fn in_machine(test: &str, hull: Hull) -> Option<Hull> {
    if hull.place() == Place::Machine {
        return Some(hull);
    }
    println!("SKIPPED {test}: microVMs run on this host itself, without a helper VM");
    None
}

macro_rules! machine {
    () => {
        match in_machine(module_path!(), hull!()) {
            Some(hull) => hull,
            None => return Ok(()),
        }
    };
}

#[test]
fn localhost_in_the_helper_vm_is_the_host_by_every_name() -> Result<()> {
    let hull = machine!();
    let v4 = Server::start("127.0.0.1", b"over IPv4\n".to_vec())?;
    let v6 = Server::start("::1", b"over IPv6\n".to_vec())?;
    for (server, host, answer) in [
        (&v4, "127.0.0.1", "over IPv4\n"),
        (&v4, "127.8.9.10", "over IPv4\n"),
        (&v4, "localhost", "over IPv4\n"),
        (&v4, "[::ffff:127.0.0.1]", "over IPv4\n"),
        (&v6, "[::1]", "over IPv6\n"),
    ] {
        let url = server.url(host);
        let fetched = hull.hull(["machine", "shell", "wget", "-q", "-O", "-", &url]);
        assert_eq!(fetched.ok(), answer, "{url}");
    }
    Ok(())
}

#[test]
fn a_port_of_the_host_where_nobody_listens_refuses_at_once() -> Result<()> {
    let hull = machine!();
    for (address, host) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
        let listener = TcpListener::bind((address, 0))?;
        let port = listener.local_addr()?.port();
        drop(listener);
        let url = format!("http://{host}:{port}/");
        hull.hull(["machine", "shell", "wget", "-q", "-O", "-", &url])
            .exits(1)
            .says("Connection refused");
    }
    Ok(())
}

#[test]
fn what_is_large_comes_over_the_network_unchanged() -> Result<()> {
    let hull = machine!();
    let mut state = 1_u64;
    let content: Vec<u8> = (0..32 << 20)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let expected = sha256(&content)?;
    let server = Server::start("127.0.0.1", content)?;
    let script = format!("wget -q -O - {} | sha256sum", server.url("localhost"));
    assert_eq!(hull.shell(&script).ok(), expected);
    Ok(())
}

fn sha256(content: &[u8]) -> Result<String> {
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    sum.stdin.take().context("no pipe")?.write_all(content)?;
    Ok(String::from_utf8(sum.wait_with_output()?.stdout)?)
}

#[test]
fn names_and_certificates_in_the_helper_vm_are_the_hosts() -> Result<()> {
    let hull = machine!();
    assert_eq!(
        hull.shell("cat /etc/hosts").ok(),
        fs::read_to_string("/etc/hosts")?
    );
    let search = |text: String| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("search"));
        lines.map(str::to_owned).collect()
    };
    let of_host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(search(hull.shell("cat /etc/resolv.conf").ok()), search(of_host));
    let arguments = hull.shell("tr '\\0' ' ' </proc/$(pidof hulld)/cmdline").ok();
    for folder in ["/host/etc/hull/certs.d", "/host/etc/docker/certs.d"] {
        assert!(
            arguments.contains(&format!("--certs-dir {folder}")),
            "{arguments}"
        );
    }
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if bundle.exists() {
        let script =
            "tr '\\0' '\\n' </proc/$(pidof hulld)/environ | sed -n 's/^SSL_CERT_FILE=//p' | xargs cat";
        assert_eq!(hull.shell(script).ok(), fs::read_to_string(bundle)?);
    }
    Ok(())
}

/// The disk's file on the host, in MiB that it takes there.
fn disk_mib(hull: &Hull) -> Result<u64> {
    let status = hull.hull(["machine", "status"]).ok();
    let line = status.lines().find_map(|line| line.strip_prefix("Disk:"));
    let path = line
        .and_then(|line| line.split_once(','))
        .context("no disk")?
        .0
        .trim();
    Ok((fs::metadata(path)?.blocks() * 512) >> 20)
}

#[test]
fn what_is_removed_in_the_helper_vm_is_free_on_the_host() -> Result<()> {
    let hull = machine!();
    let file = format!("/var/lib/hull/ballast-{}", std::process::id());
    let before = disk_mib(&hull)?;
    hull.shell(&format!(
        "dd if=/dev/urandom of={file} bs=1M count=400 2>/dev/null; sync"
    ))
    .ok();
    let full = disk_mib(&hull)?;
    assert!(full >= before + 300, "{before} MiB, then {full} MiB");
    hull.shell(&format!("rm {file}; sync")).ok();
    hull.eventually("the space of a removed file becoming free", || {
        let now = disk_mib(&hull).map_err(|e| e.to_string())?;
        if now + 300 <= full {
            Ok(())
        } else {
            Err(format!("{full} MiB, then {now} MiB"))
        }
    });
    Ok(())
}

/// hull installed for itself, used by somebody who is not root, with a helper VM of their own.
struct OrdinaryUser {
    folder: PathBuf,
    user: Option<u32>,
}

/// `nobody`, whom every system has.
const NOBODY: u32 = 65534;

impl OrdinaryUser {
    fn new(hull: &Hull) -> Result<OrdinaryUser> {
        let folder = std::env::temp_dir().join(format!("hull-user-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let root = rustix::process::geteuid().is_root();
        let user = OrdinaryUser {
            folder,
            user: root.then_some(NOBODY),
        };
        fs::set_permissions(&user.folder, fs::Permissions::from_mode(0o755))?;
        let copied = Command::new("cp")
            .arg("-r")
            .args([&hull.prefix().join("bin"), &hull.prefix().join("lib")])
            .arg(&user.folder)
            .status()?;
        ensure!(copied.success(), "hull cannot be copied");
        fs::create_dir_all(user.folder.join("home"))?;
        chown(user.folder.join("home"), user.user, user.user)?;
        Ok(user)
    }

    fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Outcome {
        let home = self.folder.join("home");
        let mut command = Command::new(program.as_ref());
        command
            .args(arguments)
            .env("HOME", &home)
            .env("HULL_ROOT", home.join("root"))
            .env("HULL_RUNTIME", home.join("run"))
            .env_remove("HULL_HOST")
            .stdin(Stdio::null())
            .current_dir("/");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.output().expect("the program can be executed").into()
    }

    fn hull(&self, arguments: &[&str]) -> Outcome {
        self.run(self.folder.join("bin/hull"), arguments)
    }

    /// What an installation of a newer hull does.
    fn install_anew(&self) -> Result<()> {
        let image = self.folder.join("lib/hull/machine/initrd.img");
        let new = image.with_extension("new");
        fs::copy(&image, &new)?;
        Ok(fs::rename(new, image)?)
    }
}

impl Drop for OrdinaryUser {
    fn drop(&mut self) {
        self.hull(&["machine", "rm", "--force"]);
        fs::remove_dir_all(&self.folder).ok();
    }
}

#[test]
fn an_ordinary_users_machine_reaches_the_host_and_is_renewed_once_it_is_idle() -> Result<()> {
    let hull = hull!();
    let user = OrdinaryUser::new(&hull)?;
    if user.run("unshare", &["--user", "true"]).code != 0 || user.hull(&["doctor"]).code != 0 {
        println!(
            "SKIPPED {}: users other than root can have no helper VM on this host",
            module_path!()
        );
        return Ok(());
    }
    user.hull(&["machine", "init", "--memory", "1024"]).ok();
    user.hull(&["info"]).exits(0).says("Starting the helper VM");
    let server = Server::start("::1", b"from the host\n".to_vec())?;
    let fetched = user.hull(&["machine", "shell", "wget", "-q", "-O", "-", &server.url("[::1]")]);
    assert_eq!(fetched.ok(), "from the host\n");

    let processes = |status: &str| -> Option<String> {
        let line = status.lines().find(|line| line.starts_with("Processes:"));
        line.map(str::to_owned)
    };
    let status = || user.hull(&["machine", "status"]).ok();
    let first = processes(&status()).context("no processes")?;
    user.hull(&["run", "--detach", "--name", "busy", "busybox", "sleep", "1000"])
        .ok();
    user.install_anew()?;
    // It is told once, and the container goes on.
    user.hull(&["ps"])
        .exits(0)
        .says("older build of hull, and ")
        // The one that a template is made of may be there, too.
        .says("in it: `hull machine stop` ends it");
    assert_eq!(user.hull(&["ps"]).exits(0).stderr, "");
    assert!(status().contains("outdated"), "{}", status());
    assert_eq!(processes(&status()).as_deref(), Some(&*first));

    user.hull(&["rm", "--force", "busy"]).ok();
    // While a template is made after the first container, the VM is not idle.
    hull.eventually("the restart of the helper VM", || {
        let listed = user.hull(&["ps"]).exits(0);
        let restarted = listed.stderr.contains("it is restarted");
        if restarted { Ok(()) } else { Err(listed.stderr) }
    });
    assert!(!status().contains("outdated"), "{}", status());
    assert_ne!(processes(&status()).as_deref(), Some(&*first));
    Ok(())
}
