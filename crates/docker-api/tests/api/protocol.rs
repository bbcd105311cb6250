//! Versions, headers, unknown routes, and bodies that are none.

use std::io::Write;
use std::net::Shutdown;

use anyhow::Result;
use serde_json::json;

use crate::server::{Server, read_answer};

#[test]
fn ping_tells_the_version_in_its_headers_by_get_and_by_head() -> Result<()> {
    let server = Server::start()?;
    for method in ["GET", "HEAD"] {
        let answer = server.request(method, "/_ping", None)?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("api-version"), Some("1.51"));
        assert_eq!(answer.header("ostype"), Some("linux"));
        assert_eq!(answer.header("docker-experimental"), Some("false"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("builder-version"), None);
        assert_eq!(
            answer.body,
            if method == "GET" {
                b"OK".to_vec()
            } else {
                Vec::new()
            }
        );
    }
    Ok(())
}

#[test]
fn every_version_in_range_reaches_the_same_routes() -> Result<()> {
    let server = Server::start()?;
    for version in ["", "/v1.24", "/v1.41", "/v1.51"] {
        assert_eq!(
            server.get(&format!("{version}/containers/json?all=1"))?.status,
            200,
            "{version}"
        );
    }
    for version in ["/v1.23", "/v1.52", "/v9.9"] {
        let answer = server.get(&format!("{version}/containers/json"))?;
        assert_eq!(answer.status, 400, "{version}");
        assert!(answer.message()?.starts_with("client version"), "{version}");
        assert_eq!(
            answer.header("api-version"),
            Some("1.51"),
            "a refused client learns what it may ask"
        );
    }
    Ok(())
}

#[test]
fn a_route_or_method_that_is_none_is_dockers_404() -> Result<()> {
    let server = Server::start()?;
    for (method, target) in [
        ("GET", "/nowhere"),
        ("GET", "/"),
        ("GET", "/v1.41"),
        ("PUT", "/containers/json"),
        ("GET", "/containers/x/start"),
        ("POST", "/images/busybox/json"),
    ] {
        let answer = server.request(method, target, None)?;
        assert_eq!(
            (answer.status, answer.message()?.as_str()),
            (404, "page not found"),
            "{method} {target}"
        );
    }
    Ok(())
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() -> Result<()> {
    let server = Server::start()?;
    let head = format!(
        "POST /containers/create HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        1u64 << 40
    );
    let answer = server.raw(head.as_bytes())?;
    assert_eq!(answer.status, 413, "{answer:?}");
    Ok(())
}

#[test]
fn a_body_that_is_no_json_is_told_so() -> Result<()> {
    let server = Server::start()?;
    let answer = server.raw(&json_request("/containers/create", b"{\"a\""))?;
    assert_eq!(answer.status, 400);
    assert!(answer.message()?.starts_with("invalid JSON: "), "{answer:?}");
    let answer = server.post("/containers/create", None)?;
    assert_eq!(
        answer.message()?,
        "invalid JSON: got EOF while reading request body"
    );
    Ok(())
}

/// A request with these bytes as its JSON.
fn json_request(target: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_field_of_the_wrong_type_is_refused_by_its_name() -> Result<()> {
    let server = Server::start()?;
    for (target, body, field) in [
        ("/containers/create", json!({"Image": 5}), "Image"),
        (
            "/containers/create",
            json!({"Image": "busybox", "Env": ["A=1", 2]}),
            "Env[1]",
        ),
        (
            "/containers/create",
            json!({"HostConfig": {"Memory": "1g"}}),
            "HostConfig.Memory",
        ),
        (
            "/containers/create",
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": 1}]}}),
            "HostConfig.Mounts[0].Source",
        ),
        (
            "/containers/create",
            json!({"Healthcheck": {"Interval": "5s"}}),
            "Healthcheck.Interval",
        ),
        (
            "/containers/create",
            json!({"HostConfig": {"RestartPolicy": 1}}),
            "RestartPolicy",
        ),
        ("/containers/x/update", json!({"CpuShares": 1.5}), "CpuShares"),
        ("/containers/x/exec", json!({"Cmd": [["sh"]]}), "Cmd[0]"),
        ("/volumes/create", json!({"Labels": {"a": 1}}), "Labels.a"),
        ("/auth", json!({"username": 1}), "username"),
    ] {
        let answer = server.post(target, Some(&body))?;
        assert_eq!(answer.status, 400, "{target} {body}: {answer:?}");
        let expected = format!("invalid JSON: {field}: invalid type: ");
        assert!(
            answer.message()?.starts_with(&expected),
            "{target} {body}: {}",
            answer.message()?
        );
    }
    Ok(())
}

#[test]
fn what_is_no_object_or_no_json_at_all_is_refused_wherever_json_is_read() -> Result<()> {
    let server = Server::start()?;
    server.create("idle", &json!({"Image": "busybox"}))?;
    let targets = [
        "/containers/create",
        "/containers/idle/update",
        "/containers/idle/exec",
        "/volumes/create",
        "/commit?container=idle",
        "/auth",
        "/exec/x/start",
    ];
    let deep = [b"[{\"a\":".repeat(1 << 16), b"[".repeat(1 << 16)].concat();
    for target in targets {
        for body in [
            &b"[]"[..],
            b"[[\"x\"]]",
            b"5",
            b"\"x\"",
            b"{",
            b"{}{}",
            b"\xff\xfe",
            b"{\"\xff\":1}",
            &deep,
        ] {
            let answer = server.raw(&json_request(target, body))?;
            let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
            assert_eq!(answer.status, 400, "{target} {shown}: {answer:?}");
            assert!(
                answer.message()?.starts_with("invalid JSON: "),
                "{target} {shown}: {answer:?}"
            );
        }
        let form = json_request(target, b"{}");
        let form = String::from_utf8(form)?.replace("application/json", "application/x-www-form-urlencoded");
        let answer = server.raw(form.as_bytes())?;
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        assert!(
            answer.message()?.starts_with("unsupported Content-Type header"),
            "{target}: {answer:?}"
        );
    }
    assert_eq!(server.get("/volumes")?.json()?["Volumes"], json!([]));
    assert_eq!(
        server
            .get("/containers/json?all=1")?
            .json()?
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    Ok(())
}

#[test]
fn bodies_that_are_cut_or_badly_chunked_are_refused_and_good_chunks_joined() -> Result<()> {
    let server = Server::start()?;
    let chunked = |chunks: &str| {
        let head = "POST /volumes/create HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        format!("{head}{chunks}").into_bytes()
    };
    let answer = server.raw(&chunked("6\r\n{\"Name\r\n7;x=y\r\n\":\"vv\"}\r\n0\r\n\r\n"))?;
    assert_eq!((answer.status, &answer.json()?["Name"]), (201, &json!("vv")));
    for cut in [
        "3\r\n{\"N",
        "zz\r\n{}",
        "ffffffffffffffff\r\n{}",
        "ffffffffffffffffff\r\n{}",
    ] {
        let mut stream = server.connect()?;
        stream.write_all(&chunked(cut))?;
        stream.shutdown(Shutdown::Write)?;
        let answer = read_answer(&mut stream)?;
        assert_eq!(answer.status, 400, "{cut}: {answer:?}");
        assert!(
            answer.message()?.starts_with("invalid JSON: the body is cut"),
            "{cut}: {answer:?}"
        );
    }
    // More than there may be, and no length that would tell it before.
    let piece = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let answer = server.raw(&chunked(&piece.repeat(8)))?;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(
        answer.message()?.contains("over the limit of 2097152 bytes"),
        "{answer:?}"
    );
    Ok(())
}

#[test]
fn heads_that_no_client_should_send_are_refused_and_the_next_is_served() -> Result<()> {
    let server = Server::start()?;
    let many = "X: y\r\n".repeat(1000);
    for (head, status) in [
        (format!("GET /_ping HTTP/1.1\r\nHost: hull\r\n{many}\r\n"), 431),
        (
            format!(
                "GET /_ping?{} HTTP/1.1\r\nHost: hull\r\n\r\n",
                "a".repeat(1 << 16)
            ),
            414,
        ),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("G\0T /_ping HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "POST /_ping HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(),
            400,
        ),
        (
            "POST /_ping HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
            400,
        ),
        (
            "GET /containers/%ff/json HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
            400,
        ),
        (
            "GET /images/%c3%28/json HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
            400,
        ),
        (
            "GET /v1.51/volumes/%00%00 HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
            404,
        ),
        (
            "CONNECT x:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            404,
        ),
    ] {
        let shown = &head[..head.len().min(60)];
        let answer = server.raw(head.as_bytes())?;
        assert_eq!(answer.status, status, "{shown}: {answer:?}");
        // What is no HTTP is answered by the HTTP server, as with Docker.
        if head.contains("Connection: close") {
            answer.message()?;
        }
        assert_eq!(server.get("/_ping")?.status, 200, "after {shown}");
    }
    Ok(())
}

#[test]
fn a_filter_of_expressions_that_would_take_all_memory_is_refused() -> Result<()> {
    let server = Server::start()?;
    let filter = |names: &[&str]| {
        let text = json!({ "name": names }).to_string();
        text.bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    };
    for target in ["/containers/json", "/volumes", "/networks"] {
        for names in [vec!["a{1000}{50}"], vec!["x"; 1000]] {
            let answer = server.get(&format!("{target}?filters={}", filter(&names)))?;
            assert_eq!(answer.status, 400, "{target}: {answer:?}");
            assert!(
                answer.message()?.starts_with("invalid filter 'name"),
                "{target}: {answer:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn version_and_info_have_what_clients_print() -> Result<()> {
    let server = Server::start()?;
    let version = server.get("/version")?.json()?;
    assert_eq!(version["ApiVersion"], "1.51");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Os"], "linux");
    assert_eq!(version["Components"][0]["Name"], "Engine");
    let info = server.get("/info")?.json()?;
    assert_eq!(info["Containers"], 0);
    assert_eq!(info["Images"], 1);
    assert_eq!(info["OSType"], "linux");
    assert!(
        info["NCPU"].as_u64() > Some(0) && info["MemTotal"].as_u64() > Some(0),
        "{info}"
    );
    Ok(())
}
