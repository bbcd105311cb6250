//! Images from archives: loaded, imported from the body and from a web server.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::server::{Answer, Server};

/// An archive of one file.
fn archive(content: &[u8]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "file", content)?;
    Ok(builder.into_inner()?)
}

fn send(server: &Server, target: &str, body: &[u8]) -> Result<Answer> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Type: application/x-tar\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    server.raw(&[head.as_bytes(), body].concat())
}

/// The objects of a stream of progress.
fn told(answer: &Answer) -> Result<Vec<Value>> {
    let lines = std::str::from_utf8(&answer.body)?.lines();
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A web server on loopback that answers each request for a path with what `reply` makes of it.
fn web(reply: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream?);
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line)? == 0 || line == "\r\n" {
                    break;
                }
                head.push(line);
            }
            let path = head.first().and_then(|line| line.split(' ').nth(1));
            stream.get_mut().write_all(&reply(path.unwrap_or_default()))?;
        }
        std::io::Result::Ok(())
    });
    Ok(address)
}

fn reply(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn a_root_file_system_is_imported_from_a_web_server() -> Result<()> {
    let server = Server::start()?;
    let rootfs = archive(&[b'x'; 300_000])?;
    let sent = rootfs.clone();
    let host = web(move |path| match path {
        "/rootfs.tar?signature=s" => reply("200 OK", sent.len(), &sent),
        "/cut.tar" => reply("200 OK", sent.len(), &sent[..100_000]),
        _ => reply("404 Not Found", 4, b"no\r\n"),
    })?;
    let answer = server.post(
        &format!("/images/create?fromSrc=http%3A%2F%2F{host}%2Frootfs.tar%3Fsignature%3Ds&repo=web&tag=1"),
        None,
    )?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let events = told(&answer)?;
    let source = format!("http://{host}/rootfs.tar");
    assert_eq!(events[0], json!({"status": format!("Downloading from {source}")}));
    let (id, importing) = events[1..].split_last().context("nothing was imported")?;
    let whole = json!({"current": rootfs.len(), "total": rootfs.len()});
    assert_eq!(
        importing.last(),
        Some(&json!({"status": "Importing", "progressDetail": whole}))
    );
    let image = server.get("/images/web:1/json")?.json()?;
    assert_eq!(image["Id"], id["status"]);
    assert_eq!(image["Size"], 300_000);
    assert_eq!(image["Comment"], format!("Imported from {source}"));

    // One that the server cuts is told in the stream, because that has begun.
    let cut = server.post(&format!("/images/create?fromSrc={host}%2Fcut.tar&repo=cut"), None)?;
    let events = told(&cut)?;
    let error = events.last().context("nothing was told")?["error"].as_str();
    assert!(
        error.is_some_and(|error| error.contains(&format!("cannot download http://{host}/cut.tar"))),
        "{events:?}"
    );
    for (source, status, message) in [
        (format!("{host}%2Fnosuch"), 404, format!("{host} answered 404")),
        (
            "ftp%3A%2F%2Fa%2Fb".to_owned(),
            400,
            "cannot be downloaded; it must be a URL".to_owned(),
        ),
    ] {
        let answer = server.post(&format!("/images/create?fromSrc={source}"), None)?;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.message()?.contains(&message), "{answer:?}");
    }
    assert_eq!(
        server.get("/images/json")?.json()?.as_array().map(Vec::len),
        Some(2)
    );
    Ok(())
}

#[test]
fn a_load_tells_how_far_its_layers_are_unless_it_is_quiet() -> Result<()> {
    let server = Server::start()?;
    let rootfs = archive(&[b'x'; 300_000])?;
    send(&server, "/images/create?fromSrc=-&repo=a&tag=1", &rootfs)?;
    let image = server.get("/images/a:1/json")?.json()?;
    let saved = server.get("/images/a:1/get")?.body;
    let loaded = json!({"stream": "Loaded image: localhost/a:1\n"});
    for (quiet, tells) in [("", false), ("?quiet=1", false), ("?quiet=0", true)] {
        server.request("DELETE", "/images/a:1", None)?;
        let answer = send(&server, &format!("/images/load{quiet}"), &saved)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let events = told(&answer)?;
        let (last, layers) = events.split_last().context("nothing was told")?;
        assert_eq!(*last, loaded);
        assert_eq!(!layers.is_empty(), tells, "{events:?}");
        for layer in layers {
            assert_eq!(layer["status"], "Loading layer");
            assert_eq!(layer["id"].as_str().map(str::len), Some(12), "{layer}");
            assert_eq!(
                layer["progressDetail"]["total"],
                layers[0]["progressDetail"]["total"]
            );
        }
        if let Some(layer) = layers.last() {
            let detail = &layer["progressDetail"];
            assert_eq!(detail["current"], detail["total"]);
        }
        assert_eq!(server.get("/images/a:1/json")?.json()?["Id"], image["Id"]);
    }
    // They are there: nothing is read.
    assert_eq!(told(&send(&server, "/images/load?quiet=0", &saved)?)?, [loaded]);
    let refused = send(&server, "/images/load?quiet=0", b"nonsense")?;
    assert_eq!(refused.status, 400, "{refused:?}");
    Ok(())
}

#[test]
fn images_are_only_for_the_platform_that_they_are_for() -> Result<()> {
    let server = Server::start()?;
    let rootfs = archive(b"x")?;
    let target = "/images/create?fromSrc=-&repo=h:1/a&tag=1&platform=linux%2Farm%2Fv7";
    let made = send(&server, target, &rootfs)?;
    assert_eq!(made.status, 200, "{made:?}");
    let image = server.get("/images/h:1/a:1/json")?.json()?;
    assert_eq!(
        (&image["Architecture"], &image["Variant"]),
        (&json!("arm"), &json!("v7"))
    );
    let saved = server.get("/images/h:1/a:1/get")?.body;
    // {"os":"linux","architecture":…}
    let json = |architecture: &str| {
        format!("%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22{architecture}%22%7D")
    };
    for (method, path, parameter) in [
        ("GET", "json", "platform"),
        ("GET", "history", "platform"),
        ("GET", "get", "platform"),
        ("POST", "push", "platform"),
        ("DELETE", "", "platforms"),
    ] {
        let path = format!("/images/h:1/a:1/{path}");
        let ask = |platform: &str| {
            let target = format!("{}?{parameter}={platform}", path.trim_end_matches('/'));
            server.request(method, &target, None)
        };
        let refused = ask(&json("s390x"))?;
        assert_eq!(refused.status, 404, "{method} {path}: {refused:?}");
        let says =
            "was found but does not provide the specified platform (linux/s390x): it is for linux/arm/v7";
        assert!(refused.message()?.contains(says), "{refused:?}");
        for nonsense in ["%7B", "%7B%22os%22%3A%22linux%22%7D", "a%2Fb%2Fc%2Fd"] {
            let refused = ask(nonsense)?;
            assert_eq!(refused.status, 400, "{method} {path}: {refused:?}");
        }
        // A push has no registry to go to.
        if method != "POST" {
            let answer = ask(&json("arm"))?;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(server.get("/images/h:1/a:1/json")?.status, 404, "it was removed");
    let refused = send(
        &server,
        &format!("/images/load?platform={}", json("s390x")),
        &saved,
    )?;
    assert_eq!(
        (refused.status, refused.message()?.as_str()),
        (
            404,
            "requested platform (linux/s390x) not found: image might be filtered out"
        )
    );
    let loaded = send(&server, &format!("/images/load?platform={}", json("arm")), &saved)?;
    assert_eq!(told(&loaded)?, [json!({"stream": "Loaded image: h:1/a:1\n"})]);
    Ok(())
}

#[test]
fn a_removal_leaves_untagged_images_alone_with_and_without_noprune() -> Result<()> {
    let server = Server::start()?;
    for noprune in ["", "?noprune=1"] {
        let mut ids = Vec::new();
        for content in [b"first", b"other"] {
            let target = "/images/create?fromSrc=-&repo=a&tag=1";
            let made = told(&send(&server, target, &archive(content)?)?)?;
            ids.push(made[0]["status"].as_str().context("no id")?.to_owned());
        }
        let removed = server.request("DELETE", &format!("/images/a:1{noprune}"), None)?;
        assert!(
            removed
                .json()?
                .as_array()
                .context("no list")?
                .contains(&json!({"Deleted": ids[1]}))
        );
        let untagged = server.get(&format!("/images/{}/json", ids[0]))?;
        assert_eq!(untagged.json()?["RepoTags"], json!([]));
        server.request("DELETE", &format!("/images/{}", ids[0]), None)?;
    }
    Ok(())
}

#[test]
fn an_image_tells_when_it_was_tagged() -> Result<()> {
    let server = Server::start()?;
    let tagged = || -> Result<String> {
        let image = server.get("/images/busybox/json")?.json()?;
        Ok(image["Metadata"]["LastTagTime"]
            .as_str()
            .context("no time")?
            .to_owned())
    };
    let before = tagged()?;
    assert!(before.starts_with("20") && before.ends_with('Z'), "{before}");
    server.post("/images/busybox/tag?repo=b&tag=1", None)?;
    // RFC 3339 times of one zone sort as they follow each other, but for trailing zeros of the fraction.
    let (before, after): (jiff::Timestamp, jiff::Timestamp) = (before.parse()?, tagged()?.parse()?);
    assert!(after > before, "{before} {after}");
    Ok(())
}
