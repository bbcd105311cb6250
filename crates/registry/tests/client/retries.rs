//! Refusals and failures: what is tried again, what is not, and what is said in the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use registry::{Credentials, Registry, RegistryError};

use crate::script::{Reply, Server};
use crate::setting::*;

/// A server that gives `replies` to what is asked after `/v2/`, the last one again and again.
async fn server(replies: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Result<Server> {
    let count = AtomicUsize::new(0);
    Server::start(move |request| match request.target.as_str() {
        "/v2/" => Reply::new(200, &[], b""),
        _ => replies(count.fetch_add(1, Ordering::SeqCst)),
    })
    .await
}

#[tokio::test]
async fn what_fails_once_is_tried_again() -> Result<()> {
    for status in [500, 502, 503, 504, 429] {
        let server = server(move |count| match count {
            0 => Reply::new(status, &[], b""),
            _ => Reply::new(200, &[("Content-Type", OCI_MANIFEST)], b"{}"),
        })
        .await?;
        let manifest = repository(&server.host)?.manifest(&tag("latest")).await?;
        assert_eq!(manifest.bytes, "{}", "{status}");
        assert_eq!(server.requests().len(), 2, "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_fails_on_and_on_is_given_up_with_its_words() -> Result<()> {
    let body = br#"{"errors":[{"code":"UNKNOWN","message":"disk full"}]}"#;
    let server = server(|_| Reply::new(500, &[], body)).await?;
    let message = refusal(repository(&server.host)?.manifest(&tag("latest"))).await?;
    assert_eq!(
        message,
        format!(
            "cannot pull manifest latest of {0}/team/app: {0} failed with 500: unknown: disk full 4 times; the fault \
             is there: try again later",
            server.host
        )
    );
    assert_eq!(server.requests().len(), 4);
    Ok(())
}

#[tokio::test]
async fn the_wait_that_a_busy_server_asks_for_is_kept_within_a_bound() -> Result<()> {
    let short = server(|count| match count {
        0 => Reply::new(429, &[("Retry-After", "1")], b""),
        _ => Reply::new(200, &[], b"{}"),
    })
    .await?;
    let start = Instant::now();
    repository(&short.host)?.manifest(&tag("latest")).await?;
    ensure!(start.elapsed() >= Duration::from_secs(1));
    let body =
        br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let long = server(|_| Reply::new(429, &[("Retry-After", "3600")], body)).await?;
    let error = repository(&long.host)?
        .manifest(&tag("latest"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(429));
    assert_eq!(
        error.to_string(),
        format!(
            "cannot pull manifest latest of {0}/team/app: {0} takes no more requests for now (429: toomanyrequests: You \
             have reached your pull rate limit.), for 3600 s; try again later, or log in: users often have a higher limit",
            long.host
        )
    );
    assert_eq!(long.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn refusals_are_told_apart_and_not_tried_again() -> Result<()> {
    for (status, words) in [
        (
            401,
            "does not accept the credentials, or there are none (401: denied: no); log in with `hull login ",
        ),
        (
            403,
            "does not allow it (403: denied: no); ask its owner for access, or log in as another user",
        ),
        (
            404,
            "does not have it, or shows it to others only (404: denied: no); check the name and the tag",
        ),
        (418, "answered 418: denied: no"),
    ] {
        let body = br#"{"errors":[{"code":"DENIED","message":"no"}]}"#;
        let server = server(move |_| Reply::new(status, &[], body)).await?;
        let error = repository(&server.host)?
            .manifest(&tag("latest"))
            .await
            .unwrap_err();
        assert_eq!(error.status(), Some(status));
        let message = error.to_string();
        let expected = format!(
            "cannot pull manifest latest of {0}/team/app: {0} {words}",
            server.host
        );
        ensure!(message.starts_with(&expected), "{message}");
        assert_eq!(server.requests().len(), 1, "{status}");
        let message = refusal(read(repository(&server.host)?.blob(&describe(b"x")))).await?;
        ensure!(message.contains(words), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_that_fails_starts_again() -> Result<()> {
    let puts = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => Reply::new(202, &[("Location", "/upload")], b""),
        "PUT" if puts.fetch_add(1, Ordering::SeqCst) == 0 => Reply::raw(b""),
        "PUT" => Reply::new(201, &[], b""),
        _ => Reply::new(200, &[], b""),
    })
    .await?;
    push(&repository(&server.host)?, &content(100_000)).await?;
    let methods: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    // It does not say what it has of the first.
    assert_eq!(methods, ["POST", "PUT", "GET", "POST", "PATCH", "PUT"]);
    Ok(())
}

#[tokio::test]
async fn pauses_are_told_to_who_watches() -> Result<()> {
    let server = server(|_| Reply::new(503, &[], b"")).await?;
    let (sender, told) = std::sync::mpsc::channel();
    let stream = repository(&server.host)?.blob_watched(&describe(b"x"), move |retry| {
        ensure_server_error(retry.error);
        let _ = sender.send((retry.failures, retry.pause.as_millis()));
    });
    refusal(read(stream)).await?;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(1, 50), (2, 100), (3, 200)]);
    Ok(())
}

fn ensure_server_error(error: &RegistryError) {
    assert_eq!(error.status(), Some(503));
}

#[tokio::test]
async fn credentials_that_a_server_repeats_are_not_in_the_message() -> Result<()> {
    let server = Server::start(|request| {
        let shown = request.header("authorization").unwrap_or_default();
        let body = format!("hunter2 and {shown} are wrong");
        Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], body.as_bytes())
    })
    .await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    let error = repository.manifest(&tag("latest")).await.unwrap_err();
    ensure!(server.requests()[0].header("authorization") == Some("Basic YW5uOmh1bnRlcjI="));
    for text in [error.to_string(), format!("{error:?}"), format!("{repository:?}")] {
        ensure!(
            !text.contains("hunter2") && !text.contains("YW5uOmh1bnRlcjI="),
            "{text}"
        );
    }
    ensure!(
        error
            .to_string()
            .contains("(401: [hidden] and Basic [hidden] are wrong)"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_search_gives_what_is_found() -> Result<()> {
    let server = Server::start(|request| match request.target.as_str() {
        "/v1/search?q=deb+ian&n=2" => Reply::new(
            200,
            &[("Content-Type", "application/json")],
            br#"{"num_results":3,"results":[
                {"name":"debian","description":"Debian","star_count":5,"is_official":true,"is_automated":false},
                {"name":"a/debian","description":null},{"name":"b/debian"}]}"#,
        ),
        _ => Reply::new(404, &[], b"404 page not found\n"),
    })
    .await?;
    let client = Registry::new(config())?;
    let found = client
        .search(&server.host, "deb ian", 2, &Credentials::Anonymous)
        .await?;
    assert_eq!(
        found
            .iter()
            .map(|result| result.name.as_str())
            .collect::<Vec<_>>(),
        ["debian", "a/debian"]
    );
    assert_eq!((found[0].star_count, found[0].is_official), (5, true));
    let message = refusal(client.search(&server.host, "x", 2, &Credentials::Anonymous)).await?;
    ensure!(message.contains("(404: 404 page not found)"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_registry_that_says_late_what_it_wants_to_see_gets_it() -> Result<()> {
    let server = Server::start(
        |request| match (request.target.as_str(), request.header("authorization")) {
            ("/v2/", _) => Reply::new(200, &[], b""),
            (_, Some("Basic YW5uOmh1bnRlcjI=")) => Reply::new(200, &[], b"{}"),
            _ => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b""),
        },
    )
    .await?;
    let client = Registry::new(config())?;
    let open = |credentials| client.repository(&server.host, "team/app", credentials);
    open(ann("hunter2"))?.manifest(&tag("latest")).await?;
    let message = refusal(open(ann("hunter3"))?.manifest(&tag("latest"))).await?;
    ensure!(message.contains("does not accept the credentials"), "{message}");
    Ok(())
}
