//! What `hull pull` says of a registry that refuses, fails or hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use system_tests::Daemon;

use crate::store;

/// A registry that answers like this: `STATUS`, further header lines, and a body; a status of 0 is no answer.
#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    headers: &'static str,
    body: &'static str,
}

/// Serves it until the test ends; `127.0.0.1:PORT`.
fn serve(answer: Answer) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let host = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || reply(stream, answer));
        }
    });
    Ok(host)
}

fn reply(mut stream: TcpStream, answer: Answer) -> Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        // A client that wants TLS first is told nothing.
        if request.read_line(&mut line)? == 0 || line.starts_with('\u{16}') {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
    }
    if answer.status == 0 {
        // Until the client gives up.
        let _ = stream.read(&mut [0; 1]);
        return Ok(());
    }
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    Ok(stream.write_all(text.as_bytes())?)
}

/// Pulls from it; what it says on stderr, within `bound`.
fn refusal(daemon: &Daemon, answer: Answer, bound: Duration) -> Result<String> {
    let host = serve(answer)?;
    let start = Instant::now();
    let outcome = daemon
        .hull(["pull", &format!("{host}/team/app:1")])
        .exits(1)
        .says(&host);
    let took = start.elapsed();
    ensure!(took < bound, "{} took {took:?}", answer.status);
    println!("{} ({took:?}): {}", answer.status, outcome.stderr.trim());
    Ok(outcome.stderr)
}

const BASIC: &str = "WWW-Authenticate: Basic realm=\"test\"\r\n";

#[test]
fn each_refusal_of_a_registry_has_its_own_message_and_the_wait_is_bounded() -> Result<()> {
    let daemon = Daemon::empty()?;
    let soon = Duration::from_secs(30);
    let cases: [(u16, &'static str, &'static str, &[&str]); 5] = [
        (401, BASIC, "", &["401", "login"]),
        (
            403,
            "",
            r#"{"errors":[{"code":"DENIED","message":"no access for you"}]}"#,
            &["403", "no access for you"],
        ),
        (
            404,
            "",
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            &["404", "manifest for", "not found"],
        ),
        (
            429,
            "Retry-After: 3600\r\n",
            "",
            &["429", "toomanyrequests", "3600"],
        ),
        (500, "", "the disk of the registry is on fire", &["500"]),
    ];
    let mut messages = Vec::new();
    for (status, headers, body, expected) in cases {
        let answer = Answer {
            status,
            headers,
            body,
        };
        let message = refusal(&daemon, answer, soon)?;
        for words in expected {
            ensure!(
                message.contains(words),
                "{status} does not say {words:?}: {message}"
            );
        }
        ensure!(!messages.contains(&message), "{status} says what another says");
        messages.push(message);
    }
    assert_eq!(daemon.hull(["images", "-aq"]).ok(), "");
    store::wait_until_empty(&daemon)?;
    Ok(())
}

#[test]
fn a_registry_that_hangs_is_given_up_and_others_do_not_wait_for_it() -> Result<()> {
    let daemon = Daemon::empty()?;
    let silent = Answer {
        status: 0,
        headers: "",
        body: "",
    };
    thread::scope(|scope| {
        let hanging = scope.spawn(|| refusal(&daemon, silent, Duration::from_secs(100)));
        daemon.hull(["images"]).ok();
        let busy = Answer {
            status: 429,
            headers: "Retry-After: 3600\r\n",
            body: "",
        };
        refusal(&daemon, busy, Duration::from_secs(10))?;
        let message = hanging
            .join()
            .map_err(|_| anyhow::anyhow!("the pull panicked"))??;
        ensure!(message.contains("gave no answer within 30s"), "{message}");
        Ok(())
    })
}

#[test]
fn a_registry_that_is_not_there_is_named() -> Result<()> {
    let daemon = Daemon::empty()?;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.local_addr()?.to_string()
    };
    for host in [nobody.as_str(), "no-such-registry.invalid"] {
        let start = Instant::now();
        daemon
            .hull(["pull", &format!("{host}/team/app:1")])
            .exits(1)
            .says(host);
        ensure!(start.elapsed() < Duration::from_secs(60), "{host}");
    }
    Ok(())
}
