//! Builds that come to no end: their limit of time, and clients that go.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::server::Server;

/// How long something may take that happens at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// A repository whose server never answers.
struct Silent {
    url: String,
    /// Somebody has come.
    come: Receiver<()>,
    /// He has gone.
    gone: Receiver<()>,
}

impl Silent {
    fn begin() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("git://{}/x.git", listener.local_addr()?);
        let (came, come) = channel();
        let (left, gone) = channel();
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept()?;
            // Nobody listens when the test has failed.
            let _ = came.send(());
            let _ = connection.read_to_end(&mut Vec::new());
            let _ = left.send(());
            std::io::Result::Ok(())
        });
        Ok(Self { url, come, gone })
    }
}

/// `POST /build` of a Dockerfile.
fn request(query: &str, dockerfile: &str) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())?;
    let context = builder.into_inner()?;
    let head = format!(
        "POST /build?{query} HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Type: application/x-tar\r\n\
         Content-Length: {}\r\n\r\n",
        context.len()
    );
    Ok([head.as_bytes(), &context].concat())
}

#[test]
fn a_build_has_as_much_time_as_its_request_gives_it() -> Result<()> {
    let server = Server::start()?;
    let silent = Silent::begin()?;
    let dockerfile = format!("FROM scratch\nADD {} /\n", silent.url);
    let answer = server.raw(&request("timeout=0.5", &dockerfile)?)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = String::from_utf8(answer.body)?;
    for expected in [
        "the build was given up after 500ms, its limit of time: it had been at step 2/2 (ADD ",
        "give it more with --timeout",
        "Dockerfile:2:1",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    silent.gone.recv_timeout(PATIENCE).context("git goes on")?;
    for wrong in ["x", "-1", "inf", "1e300"] {
        let answer = server.raw(&request(
            &format!("timeout={wrong}"),
            "FROM scratch\nLABEL a=b\n",
        )?)?;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
        assert!(answer.message()?.contains("`timeout`"), "{answer:?}");
    }
    let answer = server.raw(&request("timeout=0", "FROM scratch\nLABEL a=b\n")?)?;
    ensure!(String::from_utf8(answer.body)?.contains("Successfully built"));
    Ok(())
}

#[test]
fn a_client_that_goes_ends_the_git_of_its_build_and_of_its_context() -> Result<()> {
    let server = Server::start()?;
    for is_context in [false, true] {
        let silent = Silent::begin()?;
        let dockerfile = format!("FROM scratch\nADD {} /\n", silent.url);
        let query = match is_context {
            true => format!("remote={}", silent.url),
            false => String::new(),
        };
        let mut client = server.connect()?;
        client.write_all(&request(&query, &dockerfile)?)?;
        silent.come.recv_timeout(PATIENCE).context("git was not run")?;
        client.shutdown(Shutdown::Both)?;
        drop(client);
        let gone = silent.gone.recv_timeout(PATIENCE);
        gone.with_context(|| format!("git goes on; is it of the context: {is_context}"))?;
    }
    Ok(())
}

#[test]
fn an_ssh_agent_is_lent_over_a_connection_of_its_own() -> Result<()> {
    let server = Server::start()?;
    let answer = |query: &str, upgrade: &str| -> Result<String> {
        let mut client = server.connect()?;
        let head = format!(
            "POST /hull/build/ssh?{query} HTTP/1.1\r\nHost: hull\r\n{upgrade}Content-Length: 0\r\n\r\n"
        );
        client.write_all(head.as_bytes())?;
        client.set_read_timeout(Some(PATIENCE))?;
        // A refusal and its reason come at once.
        let mut answer = [0; 4096];
        let count = client.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let plain = answer("session=s&id=default", "")?;
    assert!(plain.starts_with("HTTP/1.1 400"), "{plain}");
    assert!(plain.contains("ask for an upgrade to tcp"), "{plain}");
    for incomplete in ["session=s", "id=default", "session=&id="] {
        let refused = answer(incomplete, upgrade)?;
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        assert!(refused.contains("under an id: both are to be given"), "{refused}");
    }
    let lent = answer("session=s&id=default", upgrade)?;
    assert!(lent.starts_with("HTTP/1.1 101 UPGRADED"), "{lent}");
    Ok(())
}

#[test]
fn the_files_of_an_image_are_an_archive() -> Result<()> {
    let server = Server::start()?;
    let dockerfile = "FROM busybox\nCOPY <<note /etc/\nwritten\nnote\n";
    let built = server.raw(&request("t=made", dockerfile)?)?;
    assert_eq!(built.status, 200, "{built:?}");
    let answer = server.get("/hull/images/made/files")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut archive = tar::Archive::new(answer.body.as_slice());
    let names = archive.entries()?.map(|entry| Ok(entry?.path()?.into_owned()));
    let names = names.collect::<Result<Vec<_>>>()?;
    assert!(names.iter().any(|name| name.ends_with("etc/note")), "{names:?}");
    assert_eq!(server.get("/hull/images/nosuch/files")?.status, 404);
    Ok(())
}
