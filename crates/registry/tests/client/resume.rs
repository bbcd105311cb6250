//! Uploads that are cut, and go on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use registry::sha256;
use system_tests::DockerRegistry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::setting::*;

const PIECE: usize = 16 << 20;

/// What becomes of the next request that carries more than a few bytes. All others pass.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Passes,
    /// The connection breaks after this many bytes of its body. They are passed on as they come.
    Cut(usize),
    /// The same, but nothing was passed on: most reverse proxies collect a body first.
    Lost(usize),
    /// All of it is passed on, but the answer is lost.
    Unanswered,
}

/// A reverse proxy with bad luck, before a registry.
struct Proxy {
    host: String,
    /// The bodies that came: method, `Content-Range`, and bytes that were passed on.
    bodies: Arc<Mutex<Vec<Body>>>,
}

type Body = (String, String, usize);

struct Luck {
    registry: String,
    fates: Mutex<VecDeque<Fate>>,
    bodies: Arc<Mutex<Vec<Body>>>,
}

impl Proxy {
    async fn start(registry: &str, fates: &[Fate]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let luck = Arc::new(Luck {
            registry: registry.to_owned(),
            fates: Mutex::new(fates.iter().copied().collect()),
            bodies: bodies.clone(),
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, luck.clone()));
            }
        });
        Ok(Self { host, bodies })
    }

    fn bodies(&self) -> Vec<Body> {
        self.bodies.lock().expect("no test panics here").clone()
    }
}

/// Passes one request on, and its answer back, unless fate strikes. The registry is told to close the connection, and
/// tells the client.
async fn pass_on(mut client: TcpStream, luck: Arc<Luck>) -> Result<()> {
    let head = read_head(&mut client).await?;
    let length: usize = header(&head, "content-length").map_or(Ok(0), str::parse)?;
    let fate = match length > 1000 {
        true => luck.fates.lock().expect("no test panics here").pop_front(),
        false => None,
    };
    let fate = fate.unwrap_or(Fate::Passes);
    let (from_client, to_registry) = match fate {
        Fate::Passes | Fate::Unanswered => (length, length),
        Fate::Cut(bytes) => (bytes, bytes),
        Fate::Lost(bytes) => (bytes, 0),
    };
    let mut body = vec![0; from_client];
    client.read_exact(&mut body).await?;
    if length > 1000 {
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        let range = header(&head, "content-range").unwrap_or_default().to_owned();
        luck.bodies
            .lock()
            .expect("no test panics here")
            .push((method, range, to_registry));
    }
    if let Fate::Lost(_) = fate {
        return Ok(());
    }
    let mut registry = TcpStream::connect(&luck.registry).await?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    registry.write_all(head.as_bytes()).await?;
    registry.write_all(&body).await?;
    if let Fate::Cut(_) = fate {
        return Ok(());
    }
    let mut answer = Vec::new();
    registry.read_to_end(&mut answer).await?;
    if let Fate::Passes = fate {
        client.write_all(&answer).await?;
    }
    Ok(client.shutdown().await?)
}

async fn read_head(client: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
        ensure!(head[0] != 0x16, "there is no TLS here");
    }
    Ok(String::from_utf8(head)?)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn seen(bodies: &[Body]) -> Vec<(&str, &str, usize)> {
    bodies
        .iter()
        .map(|(method, range, bytes)| (method.as_str(), range.as_str(), *bytes))
        .collect()
}

/// Sends `bytes` to a real registry through a proxy, and reads them back past it.
async fn push_through(fates: &[Fate], bytes: &[u8]) -> Result<Vec<Body>> {
    let server = DockerRegistry::plain()?;
    let proxy = Proxy::start(&server.host, fates).await?;
    let blob = push(&repository(&proxy.host)?, bytes).await?;
    ensure!(
        read(repository(&server.host)?.blob(&blob)).await? == bytes,
        "other bytes arrived"
    );
    Ok(proxy.bodies())
}

#[tokio::test]
async fn a_push_that_is_cut_again_and_again_repeats_a_piece_not_the_blob() -> Result<()> {
    let bytes = content(2 * PIECE + 5000);
    let fates = [
        Fate::Lost(3 << 20),
        Fate::Passes,
        Fate::Lost(2 << 20),
        Fate::Lost(9 << 20),
        Fate::Passes,
        Fate::Lost(4000),
    ];
    let bodies = push_through(&fates, &bytes).await?;
    assert_eq!(
        seen(&bodies),
        [
            ("PUT", "", 0),
            ("PATCH", "0-16777215", PIECE),
            ("PATCH", "16777216-33554431", 0),
            ("PATCH", "16777216-33554431", 0),
            ("PATCH", "16777216-33554431", PIECE),
            ("PATCH", "33554432-33559431", 0),
            ("PATCH", "33554432-33559431", 5000),
        ]
    );
    Ok(())
}

/// docker-registry 2.8 forgets an upload of which it has more than it has confirmed.
#[tokio::test]
async fn a_registry_that_forgets_what_was_cut_gets_the_blob_again() -> Result<()> {
    let bytes = content(PIECE + 5000);
    let fates = [Fate::Cut(1 << 20), Fate::Passes, Fate::Cut(2000)];
    let bodies = push_through(&fates, &bytes).await?;
    assert_eq!(
        seen(&bodies),
        [
            ("PUT", "", 1 << 20),
            ("PATCH", "0-16777215", PIECE),
            ("PATCH", "16777216-16782215", 2000),
            ("PATCH", "0-16777215", PIECE),
            ("PATCH", "16777216-16782215", 5000),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_upload_whose_confirmation_is_lost_is_finished() -> Result<()> {
    let bytes = content(5000);
    let bodies = push_through(&[Fate::Unanswered], &bytes).await?;
    assert_eq!(seen(&bodies), [("PUT", "", 5000), ("PATCH", "0-4999", 5000)]);
    Ok(())
}

/// What a registry that keeps to the specification has of one upload.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    asked: Vec<String>,
    /// Cuts that are still to come: after so many bytes of a body.
    cuts: VecDeque<usize>,
}

/// A registry that keeps what it got of a request that was cut, as the specification has it, and names another place
/// with each answer. `refused` is a method to which it says 405.
async fn keeping_registry(
    cuts: &[usize],
    refused: Option<&'static str>,
) -> Result<(String, Arc<Mutex<Kept>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let host = listener.local_addr()?.to_string();
    let kept = Arc::new(Mutex::new(Kept {
        cuts: cuts.iter().copied().collect(),
        ..Kept::default()
    }));
    let shared = kept.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let _ = keep(client, &shared, refused).await;
        }
    });
    Ok((host, kept))
}

async fn keep(mut client: TcpStream, kept: &Mutex<Kept>, refused: Option<&str>) -> Result<()> {
    let head = read_head(&mut client).await?.to_ascii_lowercase();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let length: usize = header(&head, "content-length").map_or(Ok(0), str::parse)?;
    if target == "/v2/" {
        client
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await?;
        return Ok(());
    }
    let cut = {
        let mut kept = kept.lock().expect("no test panics here");
        let (range, size) = (
            header(&head, "content-range").unwrap_or("-").to_owned(),
            kept.bytes.len(),
        );
        kept.asked.push(format!("{method} {range} {size}"));
        if method == "post" {
            kept.bytes.clear();
        }
        match length {
            0 => None,
            _ => kept.cuts.pop_front().filter(|cut| *cut < length),
        }
    };
    let mut body = vec![0; cut.unwrap_or(length)];
    client.read_exact(&mut body).await?;
    let refuses = refused == Some(method);
    let (status, size, count) = {
        let mut kept = kept.lock().expect("no test panics here");
        if !refuses {
            kept.bytes.extend(body);
        }
        let status = match method {
            _ if refuses => "405 No",
            "post" | "patch" => "202 Accepted",
            "get" => "204 No Content",
            "put" if target.ends_with(&sha256(&kept.bytes).to_string().replace(':', "%3a")) => "201 Created",
            _ => "400 Digest invalid",
        };
        (status, kept.bytes.len(), kept.asked.len())
    };
    if cut.is_none() {
        let last = size.saturating_sub(1);
        let length = if status.starts_with("204") {
            ""
        } else {
            "Content-Length: 0\r\n"
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: /upload/{count}\r\nRange: 0-{last}\r\n{length}Connection: close\r\n\r\n"
        );
        client.write_all(answer.as_bytes()).await?;
    }
    client.shutdown().await?;
    Ok(())
}

#[tokio::test]
async fn a_registry_that_keeps_what_was_cut_gets_only_the_rest() -> Result<()> {
    let bytes = content(100_000);
    let (host, kept) = keeping_registry(&[30_000, 40_000], None).await?;
    push(&repository(&host)?, &bytes).await?;
    let kept = kept.lock().expect("no test panics here");
    ensure!(kept.bytes == bytes, "other bytes arrived");
    assert_eq!(
        kept.asked,
        [
            "post - 0",
            "put - 0",
            "get - 30000",
            "patch 30000-99999 30000",
            "get - 70000",
            "patch 70000-99999 70000",
            "put - 100000",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_registry_without_pieces_gets_the_whole_again() -> Result<()> {
    let bytes = content(100_000);
    for refused in ["patch", "get"] {
        let (host, kept) = keeping_registry(&[30_000], Some(refused)).await?;
        push(&repository(&host)?, &bytes).await?;
        let kept = kept.lock().expect("no test panics here");
        ensure!(kept.bytes == bytes, "other bytes arrived");
        let puts = kept.asked.iter().filter(|asked| asked.starts_with("put"));
        assert_eq!(puts.count(), 2, "{:?}", kept.asked);
    }
    Ok(())
}

#[tokio::test]
async fn a_push_that_never_gets_further_is_given_up() -> Result<()> {
    let bytes = content(100_000);
    let (host, kept) = keeping_registry(&[0; 50], None).await?;
    let message = refusal(push(&repository(&host)?, &bytes)).await?;
    ensure!(
        message.contains(&format!("the connection to {host} broke: ")),
        "{message}"
    );
    let kept = kept.lock().expect("no test panics here");
    let tries = kept
        .asked
        .iter()
        .filter(|asked| asked.starts_with("put") || asked.starts_with("patch"));
    assert_eq!(tries.count(), 4, "{:?}", kept.asked);
    Ok(())
}
