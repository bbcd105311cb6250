//! Commands that a guest carries out for the host: a line of JSON over TCP for each, and JSON in answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where a guest listens.
const PORT: u16 = 7000;
/// How long a guest may take to boot, and to carry a command out, where the processor is emulated.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a command succeeded, and what it printed on its standard output and error.
type Answer = (bool, String, String);

/// A guest that serves, as the host sees it.
pub(super) struct Guest(Ipv4Addr);

impl Guest {
    /// The guest at an address, as soon as it serves.
    pub(super) fn at(address: Ipv4Addr) -> Result<Guest> {
        let guest = Guest(address);
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = guest.connect() {
            ensure!(
                Instant::now() < deadline,
                "the guest at {address} does not serve within {PATIENCE:?}: {error:#}"
            );
            std::thread::sleep(PAUSE);
        }
        guest.call(&["/busybox", "true"])?;
        Ok(guest)
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.0
    }

    fn connect(&self) -> Result<TcpStream> {
        let at = SocketAddr::from((self.0, PORT));
        TcpStream::connect_timeout(&at, ATTEMPT).with_context(|| format!("connect to {at}"))
    }

    /// Has it carry a command out, and returns what that printed.
    pub(super) fn call(&self, command: &[&str]) -> Result<String> {
        let mut connection = self.connect()?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let request = serde_json::to_string(command)? + "\n";
        connection.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        connection
            .read_to_end(&mut answer)
            .with_context(|| format!("no answer of {} to {command:?}", self.0))?;
        let (success, stdout, stderr): Answer = serde_json::from_slice(&answer)
            .with_context(|| format!("no whole answer of {} to {command:?}", self.0))?;
        ensure!(
            success,
            "{command:?} failed in the guest at {}: {stdout}{stderr}",
            self.0
        );
        Ok(stdout)
    }
}

/// Carries commands out, one after the other, until the guest ends.
pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    for connection in listener.incoming() {
        // The host may give up on one.
        if let Err(error) = connection.map_err(Into::into).and_then(serve_one) {
            eprintln!("{error:#}");
        }
    }
    Ok(())
}

fn serve_one(mut connection: TcpStream) -> Result<()> {
    let mut request = String::new();
    BufReader::new(&connection).read_line(&mut request)?;
    if request.is_empty() {
        // Somebody looked whether this serves.
        return Ok(());
    }
    let command: Vec<String> = serde_json::from_str(&request)?;
    let (program, arguments) = command.split_first().context("an empty command")?;
    let answer = match Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (
                output.status.success(),
                text(&output.stdout),
                text(&output.stderr),
            )
        }
        Err(error) => (false, String::new(), error.to_string()),
    };
    Ok(connection.write_all(&serde_json::to_vec(&answer)?)?)
}
