//! The API over TCP: who has a certificate comes in, with hull and with the docker CLI, and nobody else.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use system_tests::{Authority, Daemon, DaemonSpec, Outcome};
use tempfile::TempDir;

/// How long a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon that listens on a TCP port alone, and the files of its clients.
struct Served {
    daemon: Daemon,
    folder: TempDir,
    /// A CA that the daemon does not know.
    theirs: Authority,
}

impl Served {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let (ours, theirs) = (Authority::new("ours")?, Authority::new("theirs")?);
        for (authority, client) in [(&ours, "friend"), (&theirs, "stranger")] {
            std::fs::create_dir(path(client))?;
            std::fs::write(path(client).join("ca.pem"), authority.pem())?;
            authority.issue_client(&path(client).join("cert.pem"), &path(client).join("key.pem"))?;
        }
        ours.issue_server(&path("cert.pem"), &path("key.pem"))?;
        let daemon = Daemon::start_with(DaemonSpec {
            arguments: arguments(&folder),
            ..DaemonSpec::default()
        })?;
        Ok(Self {
            daemon,
            folder,
            theirs,
        })
    }

    fn port(&self) -> Result<u16> {
        let [address] = self.daemon.addresses() else {
            anyhow::bail!("it listens on {:?}", self.daemon.addresses());
        };
        Ok(address.rsplit(':').next().context("no port")?.parse()?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port()?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// What a client did that has the files of a folder.
    fn client(&self, mut command: Command, files: &str, args: &[&str]) -> Result<Outcome> {
        command.args(["--host", &format!("tcp://127.0.0.1:{}", self.port()?)]);
        for variable in ["HULL_CERT_PATH", "DOCKER_CERT_PATH"] {
            command.env(variable, self.file(files));
        }
        Ok(command.args(args).output()?.into())
    }

    fn hull(&self, files: &str, args: &[&str]) -> Result<Outcome> {
        self.client(self.daemon.hull_command::<&str>([]), files, args)
    }

    fn docker(&self, files: &str, args: &[&str]) -> Result<Outcome> {
        self.client(Command::new("docker"), files, args)
    }
}

/// Waits until the daemon has logged this.
fn logged(daemon: &Daemon, words: &str) -> Result<()> {
    let begun = Instant::now();
    // There is no event for a line in a file.
    while !daemon.log()?.contains(words) {
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "{words:?} is not in the log: {}",
            daemon.log()?
        );
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}

fn arguments(folder: &TempDir) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-H", "tcp://127.0.0.1:0", "--tlsverify"]
        .map(OsString::from)
        .into();
    for (option, file) in [
        ("--tlscacert", "friend/ca.pem"),
        ("--tlscert", "cert.pem"),
        ("--tlskey", "key.pem"),
    ] {
        arguments.extend([option.into(), folder.path().join(file).into_os_string()]);
    }
    arguments
}

#[test]
fn clients_with_a_certificate_of_the_ca_are_served() -> Result<()> {
    let served = Served::start()?;
    for outcome in [
        served.hull("friend", &["--tlsverify", "images"])?,
        served.docker("friend", &["--tlsverify", "images"])?,
    ] {
        let images = outcome.ok();
        assert!(images.contains("localhost/busybox"), "{images}");
    }
    // An answer that is longer than a TLS record, and a body that is.
    let archive = served.file("busybox.tar");
    let archive = archive.to_str().context("no text")?;
    served
        .hull("friend", &["--tlsverify", "save", "-o", archive, "busybox"])?
        .ok();
    served
        .hull("friend", &["--tlsverify", "load", "-q", "-i", archive])?
        .ok();
    served
        .docker("friend", &["--tlsverify", "load", "-q", "-i", archive])?
        .ok();
    Ok(())
}

#[test]
fn who_is_not_known_is_refused_and_told_what_to_do() -> Result<()> {
    let served = Served::start()?;
    let friend = served.file("friend/ca.pem");
    let friend = friend.to_str().context("no text")?;

    let wrong_ca = served.hull("stranger", &["--tlsverify", "ps"])?;
    assert_eq!(wrong_ca.code, 1, "{wrong_ca}");
    assert!(
        wrong_ca.stderr.contains("give the CA that signed it"),
        "{wrong_ca}"
    );

    let stranger = served.hull("stranger", &["--tlsverify", "--tlscacert", friend, "ps"])?;
    assert_eq!(stranger.code, 1, "{stranger}");
    assert!(
        stranger.stderr.contains("does not take our certificate"),
        "{stranger}"
    );

    let nobody = served.hull("nobody", &["--tlsverify", "--tlscacert", friend, "ps"])?;
    assert_eq!(nobody.code, 1, "{nobody}");
    assert!(nobody.stderr.contains("wants a client certificate"), "{nobody}");

    let plain = served.hull("nobody", &["ps"])?;
    assert_eq!(plain.code, 1, "{plain}");
    let words = "Client sent an HTTP request to an HTTPS server.";
    assert!(plain.stderr.contains(words), "{plain}");

    // Docker verifies nothing without --tlsverify; the daemon verifies all the same.
    for arguments in [["--tlsverify", "ps"], ["--tls", "ps"]] {
        let docker = served.docker("stranger", &arguments)?;
        assert_ne!(docker.code, 0, "{docker}");
    }
    let plain = served.docker("nobody", &["ps"])?;
    assert!(plain.stderr.contains(words), "{plain}");
    served.hull("friend", &["--tls", "ps"])?.ok();
    Ok(())
}

#[test]
fn a_hang_up_changes_the_certificate_for_new_clients_and_a_broken_one_changes_nothing() -> Result<()> {
    let served = Served::start()?;
    let image = |tag: &str| served.hull("friend", &["--tls", "tag", "busybox", tag]);
    let host = format!("tcp://127.0.0.1:{}", served.port()?);
    let mut command = served
        .daemon
        .hull_command(["--host", &host, "--tlsverify", "events", "--since", "1"]);
    command
        .env("HULL_CERT_PATH", served.file("friend"))
        .stdout(Stdio::piped());
    let mut events = command.spawn()?;
    let mut told = BufReader::new(events.stdout.take().context("no stdout")?).lines();
    image("before:1")?.ok();
    let mut next = |word: &str| -> Result<()> {
        loop {
            let line = told.next().context("the events have ended")??;
            if line.contains(word) {
                return Ok(());
            }
        }
    };
    next("before:1")?;

    served
        .theirs
        .issue_server(&served.file("cert.pem"), &served.file("key.pem"))?;
    served.hull("friend", &["--tlsverify", "ps"])?.ok();
    served.daemon.hang_up()?;
    logged(&served.daemon, "SIGHUP: new connections are served with")?;
    let unknown = served.hull("friend", &["--tlsverify", "ps"])?;
    assert!(unknown.stderr.contains("give the CA that signed it"), "{unknown}");
    let theirs = served.file("stranger/ca.pem");
    let theirs = theirs.to_str().context("no text")?;
    served
        .hull("friend", &["--tlsverify", "--tlscacert", theirs, "ps"])?
        .ok();

    for broken in ["", "-----BEGIN CERTIFICATE-----\nnonsense\n"] {
        std::fs::write(served.file("cert.pem"), broken)?;
        served.daemon.hang_up()?;
        logged(&served.daemon, "SIGHUP: the TLS certificates stay as they were: ")?;
        served
            .hull("friend", &["--tlsverify", "--tlscacert", theirs, "ps"])?
            .ok();
    }
    // Who was there before still is.
    image("after:1")?.ok();
    next("after:1")?;
    events.kill()?;
    events.wait()?;
    Ok(())
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() -> Result<()> {
    let served = Served::start()?;
    // As many as the port has places for handshakes, and more.
    let silent = (0..80).map(|_| served.connect()).collect::<Result<Vec<_>>>()?;
    let mut rude = served.connect()?;
    // hull waits in the queue until the first of them have had their time.
    served.hull("friend", &["--tlsverify", "ps"])?.ok();
    for mut stream in silent.iter().take(64) {
        assert!(
            matches!(stream.read(&mut [0]), Ok(0) | Err(_)),
            "it is still connected"
        );
    }
    rude.write_all(b"\x16\x03\x01\xff\xffnonsense")?;
    assert!(served.daemon.log()?.contains("did not finish the TLS handshake"));
    Ok(())
}

#[test]
fn tcp_without_tls_has_to_be_asked_for_twice() -> Result<()> {
    let start = |more: &[&str]| {
        let arguments = [&["-H", "tcp://127.0.0.1:0"], more].concat();
        Daemon::start_with(DaemonSpec {
            arguments: arguments.into_iter().map(OsString::from).collect(),
            empty: true,
            ..DaemonSpec::default()
        })
    };
    for (arguments, advice) in [
        (&[][..], "--tls=false and --insecure-tcp-without-tls"),
        (&["--tls=false"], "--tls=false and --insecure-tcp-without-tls"),
        (&["--insecure-tcp-without-tls"], "only if --tls=false is given"),
        (&["--tls"], "give --tlsverify"),
        (&["--tlsverify"], "--tlsverify needs --tlscacert"),
    ] {
        let error = format!("{:#}", start(arguments).err().context("it started")?);
        assert!(error.contains(advice), "{arguments:?}: {error}");
    }
    let daemon = start(&["--tls=false", "--insecure-tcp-without-tls"])?;
    let address = daemon.addresses()[0]
        .strip_suffix(" without TLS")
        .context("it has TLS")?;
    let mut ps = daemon.hull_command(["--host", address, "ps", "-q"]);
    assert_eq!(Outcome::from(ps.output()?).ok(), "");
    assert!(daemon.log()?.contains("is served without TLS"));
    let info = Outcome::from(daemon.hull_command(["--host", address, "info"]).output()?);
    assert!(info.stderr.contains("WARNING: API is accessible on"), "{info}");
    assert!(
        info.stdout
            .contains(&format!("Root: {}", daemon.root().display())),
        "{info}"
    );
    Ok(())
}
