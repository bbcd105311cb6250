//! Connections: taken over, kept waiting, and given up by their clients.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::server::Server;

/// Reads up to the end of a head.
fn read_head(stream: &mut UnixStream) -> Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head)?)
}

/// The sockets this process has open, the server's and the client's.
fn open_sockets() -> Result<usize> {
    let mut sockets = 0;
    for entry in fs::read_dir("/proc/self/fd")? {
        let target = fs::read_link(entry?.path()).unwrap_or_default();
        sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
    }
    Ok(sockets)
}

/// Waits until as many sockets are open as were before.
fn settles_at(before: usize) -> Result<()> {
    let begun = Instant::now();
    // One of an answer that was just read may have been there when they were counted.
    while open_sockets()? > before {
        ensure!(
            begun.elapsed() < Duration::from_secs(10),
            "{} sockets instead of {before}",
            open_sockets()?
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A connection with a request on it and the head of its answer.
fn opened(server: &Server, method: &str, target: &str, headers: &str) -> Result<(UnixStream, String)> {
    let mut stream = server.connect()?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: hull\r\nContent-Length: 0\r\n{headers}\r\n"
    )?;
    let head = read_head(&mut stream)?;
    Ok((stream, head))
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

#[test]
fn attaching_takes_the_connection_over_with_101_upgraded() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    server.create("terminal", &json!({"Image": "busybox", "Tty": true}))?;
    let attach = |target: &str| opened(&server, "POST", target, UPGRADE);
    let (_stream, head) = attach("/v1.51/containers/idle/attach?stream=1&stdout=1")?;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: tcp\r\n"), "{head}");
    assert!(
        head.contains("application/vnd.docker.multiplexed-stream"),
        "{head}"
    );
    let (_stream, head) = attach("/v1.41/containers/idle/attach?stream=1&stdout=1")?;
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    let (_stream, head) = attach("/v1.51/containers/terminal/attach?stream=1&stdout=1")?;
    assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
    Ok(())
}

#[test]
fn attaching_without_an_upgrade_answers_200() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    let (_stream, head) = opened(&server, "POST", "/containers/idle/attach?stream=1&stdout=1", "")?;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    Ok(())
}

#[test]
fn a_wait_sends_its_head_at_once_and_its_body_when_the_container_is_removed() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    let (mut stream, head) = opened(
        &server,
        "POST",
        "/containers/idle/wait?condition=removed",
        "Connection: close\r\n",
    )?;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(server.request("DELETE", "/containers/idle", None)?.status, 204);
    let mut body = String::new();
    stream.read_to_string(&mut body)?;
    assert!(body.contains(r#"{"StatusCode":0}"#), "{body}");
    Ok(())
}

#[test]
fn a_wait_for_a_container_that_does_not_run_is_over_at_once() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    assert_eq!(
        server.post("/containers/idle/wait", None)?.json()?["StatusCode"],
        0
    );
    let answer = server.post("/containers/idle/wait?condition=never", None)?;
    assert_eq!(
        (answer.status, answer.message()?.as_str()),
        (400, "invalid condition: \"never\"")
    );
    Ok(())
}

#[test]
fn clients_that_go_leave_no_socket_behind() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox", "OpenStdin": true}))?;
    server.get("/_ping")?;
    let before = open_sockets()?;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(opened(
            &server,
            "POST",
            "/containers/idle/wait?condition=next-exit",
            "",
        )?);
        clients.push(opened(
            &server,
            "POST",
            "/containers/idle/attach?stream=1&stdin=1&stdout=1",
            UPGRADE,
        )?);
        clients.push(opened(
            &server,
            "POST",
            "/containers/idle/attach?stream=1&stdout=1",
            "",
        )?);
    }
    assert!(open_sockets()? >= before + 120, "each client has two ends here");
    drop(clients);
    settles_at(before)
}

#[test]
fn a_half_close_ends_the_input_and_not_the_attachment() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    let target = "/containers/idle/attach?stream=1&stdout=1";
    let (mut stream, _) = opened(&server, "POST", target, UPGRADE)?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let ended = stream.read(&mut [0; 16]);
    assert!(ended.is_err(), "the server ended the connection: {ended:?}");
    assert_eq!(
        server.request("DELETE", "/containers/idle?force=1", None)?.status,
        204
    );
    Ok(())
}

#[test]
fn clients_that_send_half_a_request_hold_nobody_up() -> Result<()> {
    let server = Server::start()?;
    let mut slow = Vec::new();
    for request in [
        "GET /_ping HT",
        "POST /containers/create HTTP/1.1\r\nHost: hull\r\nContent-Length: 100\r\n\r\n{",
        "",
    ] {
        for _ in 0..50 {
            let mut stream = server.connect()?;
            stream.write_all(request.as_bytes())?;
            slow.push(stream);
        }
    }
    let begun = Instant::now();
    assert_eq!(server.get("/_ping")?.status, 200);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "took {:?}",
        begun.elapsed()
    );
    Ok(())
}
