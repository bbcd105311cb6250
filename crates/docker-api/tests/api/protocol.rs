//! Versions, headers, unknown routes, and bodies that are none.

use anyhow::Result;
use serde_json::json;

use crate::server::Server;

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
        "POST /containers/create HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        1u64 << 40
    );
    let answer = server.raw(head.as_bytes())?;
    assert_eq!(answer.status, 413, "{answer:?}");
    Ok(())
}

#[test]
fn a_body_that_is_no_json_is_told_so() -> Result<()> {
    let server = Server::start()?;
    let request = b"POST /containers/create HTTP/1.1\r\nHost: hull\r\nConnection: close\r\nContent-Length: 4\r\n\r\n{\"a\"";
    let answer = server.raw(request)?;
    assert_eq!(answer.status, 400);
    assert!(answer.message()?.starts_with("invalid JSON: "), "{answer:?}");
    let answer = server.post("/containers/create", None)?;
    assert_eq!(
        answer.message()?,
        "invalid JSON: got EOF while reading request body"
    );
    let answer = server.post("/containers/create", Some(&json!({"Image": 5})))?;
    assert_eq!(answer.status, 400);
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
