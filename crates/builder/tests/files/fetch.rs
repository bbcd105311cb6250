//! ADD of URLs, from a server of the test's own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use builder::{Digest, FetchError, FetchOptions, LastLink, Timestamp, fetch, lookup};
use registry::{Registry, RegistryConfig};

use crate::support::content;

/// Answers each request with what `answer` makes of its path and its headers, and keeps those.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(&str, &str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let answered = answer(&path, &head.to_ascii_lowercase());
                kept.lock().unwrap().push(head);
                let _ = stream.write_all(&answered);
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

fn registry() -> Registry {
    Registry::new(RegistryConfig::default()).unwrap()
}

async fn get(
    url: &str,
    known: Option<&str>,
    options: &FetchOptions,
) -> Result<Option<builder::Fetched>, FetchError> {
    let folder = tempfile::tempdir().unwrap();
    let fetched = fetch(&registry(), url, known, options, folder.path()).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    fetched
}

#[tokio::test]
async fn a_file_has_the_name_of_its_url_and_the_time_of_its_change() {
    let server = Server::new(|path, _| match path {
        "/from?x" => answer("302 Found\r\nlocation: /other/place", ""),
        _ => answer(
            "200 OK\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\netag: \"v1\"\r\ncontent-disposition: attachment; filename=evil",
            "content",
        ),
    });
    let fetched = get(&server.url("/from?x"), None, &FetchOptions::default())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (fetched.name.as_str(), fetched.etag.as_deref()),
        ("from", Some("\"v1\""))
    );
    assert_eq!(fetched.digest, Digest::of(b"content"));
    let node = lookup(&fetched.context, b"from", LastLink::Keep)
        .unwrap()
        .unwrap()
        .node;
    assert_eq!(content(&fetched.context, &node), "content");
    let expected = Timestamp {
        seconds: 784_111_777,
        nanoseconds: 0,
    };
    assert_eq!(
        (node.attributes.mode, node.attributes.uid, node.attributes.mtime),
        (0o600, 0, expected)
    );
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let server = Server::new(|_, head| match head.contains("if-none-match: \"v1\"") {
        true => b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".to_vec(),
        false => answer("200 OK\r\netag: \"v2\"", "new"),
    });
    let options = FetchOptions::default();
    assert!(
        get(&server.url("/a"), Some("\"v1\""), &options)
            .await
            .unwrap()
            .is_none()
    );
    let fetched = get(&server.url("/a"), Some("\"v0\""), &options)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fetched.etag.as_deref(), Some("\"v2\""));
    assert!(
        get(&server.url("/a"), Some("bad\netag"), &options)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(server.seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_checksum_is_verified() {
    let server = Server::new(|_, _| answer("200 OK", "content"));
    let options = |text: &str| FetchOptions {
        checksum: Some(Digest::of(text.as_bytes())),
        ..FetchOptions::default()
    };
    assert!(get(&server.url("/a"), None, &options("content")).await.is_ok());
    let error = get(&server.url("/a"), None, &options("other"))
        .await
        .unwrap_err()
        .to_string();
    let (right, wrong) = (Digest::of(b"content"), Digest::of(b"other"));
    assert!(
        error.ends_with(&format!("digest mismatch {right}: {wrong}")),
        "{error}"
    );
}

#[tokio::test]
async fn a_download_is_bounded() {
    let server = Server::new(|path, _| match path {
        "/announced" => answer("200 OK", "123456"),
        "/endless" => {
            let mut bytes = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            bytes.resize(1 << 20, b'x');
            bytes
        }
        "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n123".to_vec(),
        "/slow" => {
            thread::sleep(Duration::from_secs(3));
            answer("200 OK", "late")
        }
        _ => answer("404 Not Found", "not here"),
    });
    let options = FetchOptions {
        max_bytes: 5,
        time: Duration::from_secs(1),
        checksum: None,
    };
    for path in ["/announced", "/endless"] {
        let error = get(&server.url(path), None, &options).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { limit: 5, .. }), "{error}");
    }
    let large = FetchOptions {
        max_bytes: 1 << 20,
        ..options.clone()
    };
    for path in ["/cut", "/missing"] {
        let error = get(&server.url(path), None, &large).await.unwrap_err();
        assert!(matches!(error, FetchError::Download(_)), "{error}");
    }
    let with_password = server.url("/slow").replace("//", "//ann:hunter2@");
    let error = get(&with_password, None, &options).await.unwrap_err();
    assert!(matches!(error, FetchError::TooSlow { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(matches!(
        get("ftp://example.com/x", None, &options).await,
        Err(FetchError::Download(_))
    ));
}
