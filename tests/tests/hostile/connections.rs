//! Many connections, of clients that are slow, silent, or gone half-way.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use system_tests::{Daemon, DaemonSpec};

use crate::client::{answer, connect, create, head, peak_within, ping, request, sent, settles_at};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// One of a kind of client that takes its time, by a number.
fn slow_client(daemon: &Daemon, number: usize) -> Result<UnixStream> {
    match number % 10 {
        0 => connect(daemon),
        1 => sent(daemon, "GET /containers/js"),
        2 => sent(
            daemon,
            format!("GET /_ping HTTP/1.1\r\nX: {}", "y".repeat(40_000)),
        ),
        3 => sent(
            daemon,
            head("POST", "/containers/create", 1000) + "\r\n{\"Image\":",
        ),
        4 => {
            let begun = "[".repeat(100_000);
            sent(
                daemon,
                head("POST", "/containers/create", 1 << 20) + "\r\n" + &begun,
            )
        }
        5 => {
            let chunked = "POST /commit HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            sent(daemon, format!("{chunked}f\r\n{{"))
        }
        6 => sent(daemon, "GET /events HTTP/1.1\r\nHost: hull\r\n\r\n"),
        7 => sent(
            daemon,
            head("POST", "/containers/idle/wait?condition=removed", 0) + "\r\n",
        ),
        8 => {
            let mut attached = sent(
                daemon,
                head("POST", "/containers/idle/attach?stream=1&stdin=1&stdout=1", 0) + UPGRADE,
            )?;
            let mut status = [0; 12];
            attached.read_exact(&mut status)?;
            ensure!(&status == b"HTTP/1.1 101", "{}", status.escape_ascii());
            if number.is_multiple_of(20) {
                attached.shutdown(Shutdown::Write)?;
            }
            Ok(attached)
        }
        _ => sent(
            daemon,
            head(
                "POST",
                "/containers/idle/attach?stream=1&stdin=1&stdout=1",
                1 << 30,
            ) + "\r\nx",
        ),
    }
}

#[test]
fn five_hundred_slow_clients_keep_nobody_waiting_and_leave_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    create(&daemon, "idle")?;
    let before = daemon.descriptors()?;
    let mut clients = Vec::new();
    for number in 0..500 {
        clients.push(slow_client(&daemon, number)?);
        if number % 100 == 99 {
            ping(&daemon);
        }
    }
    assert!(daemon.descriptors()? >= before + 500, "they are connected");
    // Not only what is answered at once.
    create(&daemon, "meanwhile")?;
    let (status, listed) = request(&daemon, "GET", "/containers/json?all=1", b"")?;
    assert!(status == 200 && listed.contains("/meanwhile"), "{listed}");
    daemon.hull(["images"]).ok();
    ping(&daemon);
    peak_within(&daemon, 96 << 20);
    drop(clients);
    settles_at(&daemon, before)
}

#[test]
fn silent_clients_on_all_places_make_room_for_who_comes_to_the_point() -> Result<()> {
    // 200 connections are let in, and the last 50 of them have little time.
    let daemon = Daemon::start_with(DaemonSpec {
        descriptors: Some(800),
        ..DaemonSpec::default()
    })?;
    create(&daemon, "idle")?;
    let before = daemon.descriptors()?;
    let mut attached = slow_client(&daemon, 8)?;
    let events = sent(&daemon, "GET /events HTTP/1.1\r\nHost: hull\r\n\r\n")?;
    let silent = (0..300).map(|_| connect(&daemon)).collect::<Result<Vec<_>>>()?;
    for _ in 0..3 {
        ping(&daemon);
    }
    create(&daemon, "meanwhile")?;
    assert!(
        daemon.descriptors()? <= before + 410,
        "there are more than there is room for"
    );
    // Streams are no silent clients, however long nothing comes.
    attached.write_all(b"input")?;
    let (status, _) = request(&daemon, "DELETE", "/containers/idle", b"")?;
    assert_eq!(status, 204);
    let told = told_until(events, "destroy")?;
    assert!(told.contains("\"create\""), "{told}");
    drop((attached, silent));
    settles_at(&daemon, before)
}

/// What an answer that goes on has told when a word comes.
fn told_until(mut stream: UnixStream, word: &str) -> Result<String> {
    let (mut told, mut piece) = (String::new(), [0; 4096]);
    while !told.contains(word) {
        let count = stream.read(&mut piece)?;
        ensure!(count > 0, "it ended after {told}");
        told += &String::from_utf8_lossy(&piece[..count]);
    }
    Ok(told)
}

#[test]
fn requests_whose_answers_nobody_reads_grow_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let before = daemon.descriptors()?;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let stream = connect(&daemon)?;
        stream.set_nonblocking(true)?;
        // As many as the daemon takes, and it takes no more than fits.
        let request = b"GET /info HTTP/1.1\r\nHost: hull\r\n\r\n".repeat(64);
        let mut taken = 0;
        while let Ok(count) = (&stream).write(&request) {
            taken += count;
            ensure!(taken < 64 << 20, "it takes requests without end");
        }
        clients.push(stream);
    }
    ping(&daemon);
    peak_within(&daemon, 64 << 20);
    drop(clients);
    settles_at(&daemon, before)
}

#[test]
fn clients_that_go_in_the_middle_of_everything_leave_whole_containers_or_none() -> Result<()> {
    let daemon = Daemon::start()?;
    let before = daemon.descriptors()?;
    let body = br#"{"Image":"localhost/busybox"}"#;
    for number in 0..200 {
        let target = format!("/containers/create?name=gone{number}");
        let head = head("POST", &target, body.len());
        drop(sent(&daemon, [head.as_bytes(), b"\r\n", body].concat())?);
    }
    settles_at(&daemon, before)?;
    // What was begun is done to its end.
    let known = settled_containers(&daemon)?;
    for id in &known {
        let (status, why) = request(&daemon, "DELETE", &format!("/containers/{id}"), b"")?;
        assert_eq!(status, 204, "{why}");
    }
    for number in [0, 100, 199] {
        create(&daemon, &format!("gone{number}"))?;
    }
    assert_eq!(settled_containers(&daemon)?.len(), 3);
    Ok(())
}

/// The ids of all containers, once those that have a folder are those that are told of, and nothing changes any more.
fn settled_containers(daemon: &Daemon) -> Result<Vec<String>> {
    let mut last = None;
    for _ in 0..100 {
        let (_, listed) = request(daemon, "GET", "/containers/json?all=1", b"")?;
        let listed: Vec<serde_json::Value> = serde_json::from_str(listed.trim())?;
        let id = |container: &serde_json::Value| container["Id"].as_str().map(String::from);
        let mut ids: Vec<String> = listed.iter().filter_map(id).collect();
        ids.sort();
        let folders = std::fs::read_dir(daemon.root().join("containers"))?;
        let mut names: Vec<String> = folders
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.sort();
        let settled = ids == names && last.as_ref() == Some(&ids);
        if settled {
            return Ok(ids);
        }
        last = Some(ids);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    anyhow::bail!("containers that are told of and containers that have folders differ")
}

#[test]
fn a_body_that_is_refused_is_answered_before_the_client_is_cut_off() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut stream = sent(&daemon, head("POST", "/containers/create", 16 << 20) + "\r\n")?;
    // The daemon has said no long before the end of this.
    let _ = stream.write_all(&vec![b' '; 16 << 20]);
    let (status, body) = answer(&mut stream)?;
    assert_eq!(status, 413, "{body}");
    assert!(
        body.contains(r#"{"message":"the body of the request is over"#),
        "{body}"
    );
    ping(&daemon);
    Ok(())
}
