//! Archives that nobody reads to the end, or sends to the end.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use system_tests::Daemon;

use crate::client::{peak_within, ping, sent, settles_at};

/// More than there are places for archives, and more than there are threads for what waits for the disk.
const MANY: usize = 520;

#[test]
fn archives_that_stand_still_make_room_for_others() -> Result<()> {
    let daemon = Daemon::start()?;
    let before = daemon.descriptors()?;
    let mut clients = Vec::new();
    for number in 0..MANY {
        clients.push(match number % 3 {
            0 => sent(
                &daemon,
                "GET /images/get?names=busybox HTTP/1.1\r\nHost: hull\r\n\r\n",
            )?,
            1 => sent(
                &daemon,
                "POST /images/load HTTP/1.1\r\nConnection: close\r\nContent-Length: 100000\r\n\r\nbegun",
            )?,
            _ => sent(
                &daemon,
                "POST /images/create?fromSrc=- HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            )?,
        });
    }
    ping(&daemon);
    // What needs a thread, too.
    let images = daemon.hull(["images"]).ok();
    assert!(images.contains("localhost/busybox"), "{images}");
    drop(clients.split_off(20));
    // The first 16 of those that are left lose their places to these two, and to the others.
    let archive = daemon.file("busybox.tar");
    let archive = archive.to_str().expect("a path of letters");
    daemon.hull(["save", "-o", archive, "busybox"]).ok();
    daemon.hull(["load", "-q", "-i", archive]).ok();
    // As many as were waited for lost theirs. Those that sent are told so, once it is clear that they send no more.
    let silent = clients.iter_mut().skip(1).step_by(3);
    let told = silent.take(2).map(told_of_place).collect::<Result<Vec<_>>>()?;
    ensure!(told.contains(&true), "nobody lost a place");
    peak_within(&daemon, 128 << 20);
    drop(clients);
    settles_at(&daemon, before)
}

/// Whether a client is told in time that it has lost its place.
fn told_of_place(stream: &mut UnixStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut told = Vec::new();
    // One that has its place yet is told nothing.
    let _ = stream.read_to_end(&mut told);
    Ok(String::from_utf8_lossy(&told).contains("neither sent nor read anything for 30 seconds"))
}
