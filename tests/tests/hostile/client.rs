//! A client that writes what it wants, and the daemon as it sees it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use system_tests::Daemon;

/// How long a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection on which no read waits for ever.
pub(crate) fn connect(daemon: &Daemon) -> Result<UnixStream> {
    let stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A connection on which this was sent.
pub(crate) fn sent(daemon: &Daemon, bytes: impl AsRef<[u8]>) -> Result<UnixStream> {
    let mut stream = connect(daemon)?;
    stream.write_all(bytes.as_ref())?;
    Ok(stream)
}

/// The head of a request with a JSON body of this length.
pub(crate) fn head(method: &str, target: &str, length: usize) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: hull\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    )
}

/// The status and the body of an answer.
pub(crate) fn answer(stream: &mut UnixStream) -> Result<(u16, String)> {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        end?;
        anyhow::bail!("no answer but {text:?}");
    };
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Sends a request with a JSON body and reads its answer.
pub(crate) fn request(daemon: &Daemon, method: &str, target: &str, body: &[u8]) -> Result<(u16, String)> {
    let mut stream = connect(daemon)?;
    let head = head(method, target, body.len());
    // A body that is refused need not be read.
    let _ = stream.write_all(&[head.as_bytes(), b"Connection: close\r\n\r\n", body].concat());
    answer(&mut stream)
}

/// Makes a container that does not run.
pub(crate) fn create(daemon: &Daemon, name: &str) -> Result<()> {
    let body = br#"{"Image":"localhost/busybox","OpenStdin":true}"#;
    let (status, body) = request(daemon, "POST", &format!("/containers/create?name={name}"), body)?;
    ensure!(status == 201, "{body}");
    Ok(())
}

/// Somebody else is served.
#[track_caller]
pub(crate) fn ping(daemon: &Daemon) {
    let (status, body) = request(daemon, "GET", "/_ping", b"").expect("the daemon answers");
    assert_eq!((status, body.as_str()), (200, "OK"));
}

/// Waits until the daemon has as many descriptors open as it had.
pub(crate) fn settles_at(daemon: &Daemon, before: usize) -> Result<()> {
    let begun = Instant::now();
    // There is no event for a descriptor of another process.
    while daemon.descriptors()? > before {
        ensure!(
            begun.elapsed() < PATIENCE,
            "{} descriptors instead of {before}",
            daemon.descriptors()?
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Fails when the daemon ever had more memory than this.
#[track_caller]
pub(crate) fn peak_within(daemon: &Daemon, most: u64) {
    let peak = daemon.peak_memory().expect("the daemon is there");
    println!("peak memory of hulld: {:.1} MiB", peak as f64 / 1048576.0);
    assert!(peak <= most, "{peak} bytes instead of {most}");
}
