//! Requests that are to take all memory.

use std::io::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};
use system_tests::Daemon;

use crate::client::{answer, connect, create, head, peak_within, ping, request, sent};

/// What hulld may have at most while this goes on.
const MOST: u64 = 160 << 20;

#[test]
fn large_bodies_take_turns() -> Result<()> {
    let daemon = Daemon::start()?;
    // Each value takes sixteen times what its text does.
    let body = format!("{{\"Novelty\":[{}0]}}", "0,".repeat((2 << 20) / 2 - 20));
    let request = head("POST", "/containers/create", body.len()) + "Connection: close\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&daemon)?;
        stream.write_all(request.as_bytes())?;
        let mut sending = stream.try_clone()?;
        let body = body.clone();
        std::thread::spawn(move || sending.write_all(body.as_bytes()));
        clients.push(stream);
    }
    for stream in &mut clients {
        ping(&daemon);
        let (status, body) = answer(stream)?;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("hull does not support Novelty yet"), "{body}");
    }
    peak_within(&daemon, MOST);
    Ok(())
}

#[test]
fn containers_with_a_million_labels_fill_no_listeners_memory() -> Result<()> {
    let daemon = Daemon::start()?;
    let listeners: Vec<_> = (0..20)
        .map(|_| sent(&daemon, "GET /events HTTP/1.1\r\nHost: hull\r\n\r\n"))
        .collect::<Result<_>>()?;
    let labels: Map<String, Value> = (0..20_000)
        .map(|n| (format!("label-{n}"), json!("value")))
        .collect();
    let body = json!({"Image": "localhost/busybox", "Labels": labels}).to_string();
    for _ in 0..50 {
        let (status, answer) = request(&daemon, "POST", "/containers/create?name=heavy", body.as_bytes())?;
        assert_eq!(status, 201, "{answer}");
        ping(&daemon);
        let (status, answer) = request(&daemon, "DELETE", "/containers/heavy", b"")?;
        assert_eq!(status, 204, "{answer}");
    }
    peak_within(&daemon, MOST);
    drop(listeners);
    create(&daemon, "light")
}

#[test]
fn an_expression_for_names_cannot_take_memory_and_time_without_end() -> Result<()> {
    let daemon = Daemon::start()?;
    for expressions in [
        vec!["a{1000}{50}"; 30],
        vec![r"(\w{9}){5}"; 30],
        vec!["x{99}{99}"; 400],
    ] {
        let filters = json!({ "name": expressions }).to_string();
        let encoded: String = filters.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let (status, body) = request(
            &daemon,
            "GET",
            &format!("/containers/json?filters={encoded}"),
            b"",
        )?;
        assert!(matches!(status, 400 | 414), "{status} {body}");
    }
    ping(&daemon);
    peak_within(&daemon, MOST);
    Ok(())
}
