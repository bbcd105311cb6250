//! Servers that break off, lie, hang and never end.

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;
use registry::{BlobDescriptor, ManifestReference, sha256};
use sha2::Digest as _;
use system_tests::DockerRegistry;

use crate::script::{Reply, Request, Server, head};
use crate::setting::*;

/// The first byte that a request asks for.
fn first_byte(request: &Request) -> usize {
    let range = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="));
    let first = range.and_then(|range| range.strip_suffix('-'));
    first.map_or(0, |first| first.parse().expect("a client that asks for a number"))
}

/// The part of `bytes` from `first` on, of which `count` come before the connection breaks.
fn part(bytes: &[u8], first: usize, count: usize) -> Reply {
    let rest = &bytes[first..];
    let range = format!("bytes {first}-{}/{}", bytes.len() - 1, bytes.len());
    let sent = &rest[..count.min(rest.len())];
    match first {
        0 => Reply::cut(200, &[], rest.len(), sent),
        _ => Reply::cut(206, &[("Content-Range", &range)], rest.len(), sent),
    }
}

#[tokio::test]
async fn a_blob_goes_on_where_it_was_cut_and_no_byte_comes_twice() -> Result<()> {
    let bytes = content(300_000);
    let sent = bytes.clone();
    let server = Server::start(move |request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => part(&sent, first_byte(request), 120_000),
    })
    .await?;
    assert_eq!(
        read(repository(&server.host)?.blob(&describe(&bytes))).await?,
        bytes
    );
    let firsts: Vec<_> = server.requests().iter().map(first_byte).collect();
    assert_eq!(firsts, [0, 120_000, 240_000]);
    Ok(())
}

#[tokio::test]
async fn a_server_without_ranges_has_its_known_bytes_skipped() -> Result<()> {
    let bytes = content(300_000);
    let sent = bytes.clone();
    let server = Server::start(
        move |request| match (request.target.as_str(), first_byte(request)) {
            ("/v2/", _) => Reply::new(200, &[], b""),
            (_, 0) => part(&sent, 0, 100_000),
            _ => part(&sent, 0, sent.len()),
        },
    )
    .await?;
    assert_eq!(
        read(repository(&server.host)?.blob(&describe(&bytes))).await?,
        bytes
    );
    assert_eq!(server.requests().len(), 2);
    Ok(())
}

#[tokio::test]
async fn another_range_than_the_one_asked_for_is_refused() -> Result<()> {
    let bytes = content(1000);
    for range in ["bytes 0-999/1000", "bytes 101-999/1000", "pages 1-2/3", ""] {
        let sent = bytes.clone();
        let server = Server::start(
            move |request| match (request.target.as_str(), first_byte(request)) {
                ("/v2/", _) => Reply::new(200, &[], b""),
                (_, 0) => part(&sent, 0, 100),
                _ => Reply::new(206, &[("Content-Range", range)], &sent[100..]),
            },
        )
        .await?;
        let message = refusal(read(repository(&server.host)?.blob(&describe(&bytes)))).await?;
        let expected = format!("bytes from 100 on were asked for, its range is {range:?}");
        ensure!(message.contains(&expected), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_blob_that_is_cut_without_progress_is_given_up() -> Result<()> {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::cut(200, &[], 1000, b""),
    })
    .await?;
    let message = refusal(read(repository(&server.host)?.blob(&describe(&content(1000))))).await?;
    ensure!(
        message.contains(&format!("the connection to {} broke: ", server.host)),
        "{message}"
    );
    assert_eq!(server.requests().len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_killed_and_started_again_goes_on_where_it_stopped() -> Result<()> {
    let mut server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let bytes = content(32 << 20);
    let blob = push(&repository, &bytes).await?;
    let mut stream = repository.blob(&blob);
    let mut received = Vec::new();
    while received.len() < 1 << 20 {
        received.extend_from_slice(&stream.try_next().await?.expect("there is more"));
    }
    server.kill()?;
    server.restart()?;
    let at_kill = received.len();
    while let Some(piece) = stream.try_next().await? {
        received.extend_from_slice(&piece);
    }
    ensure!(received == bytes, "other bytes came");
    ensure!(
        at_kill < bytes.len() / 2,
        "the registry was killed too late to show anything"
    );
    let asked = server.wait_for_log(&["/blobs/", "http.response.status=206"])?;
    ensure!(asked.contains("http.request.method=GET"), "{asked}");
    Ok(())
}

#[tokio::test]
async fn one_turned_bit_is_named_and_no_more_than_the_size_is_handed_out() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let bytes = content(200_000);
    let blob = push(&repository, &bytes).await?;
    let file = server.blob_file(blob.digest.as_ref());
    let mut turned = bytes.clone();
    turned[150_000] ^= 0x10;
    std::fs::write(&file, &turned)?;
    let message = refusal(read(repository.blob(&blob))).await?;
    assert_eq!(
        message,
        format!(
            "cannot pull blob {0} of {1}/team/app: what {1} sent is damaged: {0} was asked for, the bytes are {2}; \
             nothing of it is to be used: try again, and tell the registry's owner if it stays",
            blob.digest,
            server.host,
            sha256(&turned)
        )
    );
    Ok(())
}

#[tokio::test]
async fn a_size_that_lies_is_found_before_or_while_the_bytes_come() -> Result<()> {
    let bytes = content(1000);
    let chunked = [b"3e8\r\n", bytes.as_slice(), b"\r\n0\r\n\r\n"].concat();
    for (says, actual) in [(999, "1000"), (1001, "1000")] {
        let sent = bytes.clone();
        let server = Server::start(move |request| match request.target.as_str() {
            "/v2/" => Reply::new(200, &[], b""),
            _ => Reply::new(200, &[], &sent),
        })
        .await?;
        let mut blob = describe(&bytes);
        blob.size = says;
        let message = refusal(read(repository(&server.host)?.blob(&blob))).await?;
        ensure!(
            message.contains(&format!(
                "the manifest says {says} bytes, {} has {actual};",
                server.host
            )),
            "{message}"
        );
    }
    let server = Server::start(move |request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::raw(
            &[
                &head(200, &[("Transfer-Encoding", "chunked")]),
                chunked.as_slice(),
            ]
            .concat(),
        ),
    })
    .await?;
    let mut blob = describe(&bytes);
    blob.size = 999;
    let message = refusal(read(repository(&server.host)?.blob(&blob))).await?;
    ensure!(message.contains("the manifest says 999 bytes"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_says_is_refused() -> Result<()> {
    let lie = sha256(b"something else");
    let announced = lie.to_string();
    let server = Server::start(move |request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::new(
            200,
            &[
                ("Docker-Content-Digest", &announced),
                ("Content-Type", OCI_MANIFEST),
            ],
            b"{}",
        ),
    })
    .await?;
    let repository = repository(&server.host)?;
    for reference in [tag("latest"), ManifestReference::Digest(lie.clone())] {
        let message = refusal(repository.manifest(&reference)).await?;
        ensure!(
            message.contains(&format!(
                "is damaged: {lie} was asked for, the bytes are {}",
                sha256(b"{}")
            )),
            "{message}"
        );
    }
    let message =
        refusal(repository.push_manifest(&ManifestReference::Digest(lie), OCI_MANIFEST, "{}".into())).await?;
    ensure!(message.contains("is damaged"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_left() -> Result<()> {
    let server = Server::start(|_| Reply::raw(b"").then_hang()).await?;
    let message = refusal(repository(&server.host)?.manifest(&tag("latest"))).await?;
    assert_eq!(
        message,
        format!(
            "cannot pull manifest latest of {0}/team/app: {0} gave no answer within 1.5s; it hangs, or the network \
             does: try again later",
            server.host
        )
    );
    Ok(())
}

#[tokio::test]
async fn a_blob_that_stalls_is_asked_for_again_and_given_up_in_the_end() -> Result<()> {
    let bytes = content(1000);
    let sent = bytes.clone();
    let server = Server::start(
        move |request| match (request.target.as_str(), first_byte(request)) {
            ("/v2/", _) => Reply::new(200, &[], b""),
            (_, 0) => part(&sent, 0, 400).then_hang(),
            (_, first) => part(&sent, first, sent.len()),
        },
    )
    .await?;
    assert_eq!(
        read(repository(&server.host)?.blob(&describe(&bytes))).await?,
        bytes
    );
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::cut(200, &[], 1000, b"").then_hang(),
    })
    .await?;
    let message = refusal(read(repository(&server.host)?.blob(&describe(&bytes)))).await?;
    ensure!(message.contains("gave no more bytes within 1.5s"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_take_an_upload_is_left() -> Result<()> {
    let server = Server::start(
        |request| match (request.target.as_str(), request.method.as_str()) {
            (_, "POST") => Reply::new(202, &[("Location", "/upload?state=x")], b""),
            (_, "PUT") => Reply::raw(b"").then_hang(),
            _ => Reply::new(200, &[], b""),
        },
    )
    .await?;
    let message = refusal(push(&repository(&server.host)?, &content(1000))).await?;
    ensure!(
        message.contains("gave no word on a finished upload within 2s"),
        "{message}"
    );
    let requests = server.requests();
    let put = requests
        .iter()
        .find(|request| request.method == "PUT")
        .expect("there was an upload");
    assert_eq!(put.body, content(1000));
    ensure!(
        put.target.starts_with("/upload?state=x&digest=sha256%3A"),
        "{}",
        put.target
    );
    Ok(())
}

#[tokio::test]
async fn endless_headers_and_bodies_are_cut_off() -> Result<()> {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => {
            Reply::raw(b"HTTP/1.1 200 OK\r\n").then_repeat("X-Endless: and so on\r\n".repeat(500).as_bytes())
        }
    })
    .await?;
    let message = refusal(repository(&server.host)?.manifest(&tag("latest"))).await?;
    ensure!(
        message.contains(&format!("the connection to {} broke: ", server.host)),
        "{message}"
    );
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::raw(b"HTTP/1.0 200 OK\r\n\r\n").then_repeat(&[b' '; 4096]),
    })
    .await?;
    let message = refusal(repository(&server.host)?.manifest(&tag("latest"))).await?;
    ensure!(
        message.ends_with("sends more than 4194304 bytes, more than is ever needed"),
        "{message}"
    );
    let message = refusal(read(repository(&server.host)?.blob(&describe(b"short")))).await?;
    ensure!(message.contains("the manifest says 5 bytes"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_announces_too_much_is_not_read() -> Result<()> {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::cut(200, &[], 5 << 20, b"").then_hang(),
    })
    .await?;
    let message = refusal(repository(&server.host)?.manifest(&tag("latest"))).await?;
    ensure!(message.contains("sends more than 4194304 bytes"), "{message}");
    Ok(())
}

/// The most memory that this process has used so far, in KiB.
fn peak_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .unwrap_or_default()
        .parse()?)
}

#[tokio::test]
async fn memory_does_not_grow_with_a_blob() -> Result<()> {
    const SIZE: u64 = 512 << 20;
    static PIECE: [u8; 64 << 10] = [7; 64 << 10];
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => Reply::cut(200, &[], SIZE as usize, b"").then_repeat(&PIECE),
    })
    .await?;
    let mut hasher = sha2::Sha256::new();
    (0..SIZE / PIECE.len() as u64).for_each(|_| hasher.update(PIECE));
    let hex: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let blob = BlobDescriptor {
        digest: format!("sha256:{hex}").parse()?,
        size: SIZE,
    };
    let repository = repository(&server.host)?;
    let before = peak_memory()?;
    let (mut stream, mut received) = (repository.blob(&blob), 0);
    while let Some(piece) = stream.try_next().await? {
        received += piece.len() as u64;
    }
    assert_eq!(received, SIZE);
    let grown = peak_memory()? - before;
    ensure!(grown < 16 << 10, "{grown} KiB more for a blob of {SIZE} bytes");
    Ok(())
}
