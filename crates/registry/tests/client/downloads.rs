//! Files from web servers, by their URLs.

use anyhow::Result;
use registry::{Download, Proxies, Registry, RegistryConfig, RegistryError};

use crate::script::{Reply, Server};
use crate::setting::*;

async fn collect(mut download: Download) -> registry::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = download.chunk().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn refused(url: &str) -> RegistryError {
    let registry = Registry::new(config()).expect("the configuration is good");
    registry.download(url).await.expect_err("it was refused")
}

#[tokio::test]
async fn a_file_comes_with_its_length_and_is_not_shown_with_its_query() -> Result<()> {
    let file = content(300_000);
    let reply = file.clone();
    let server = Server::start(move |_| Reply::new(200, &[], &reply)).await?;
    let url = format!("http://{}/a/b.tar?signature=hunter4", server.host);
    let download = Registry::new(config())?.download(&url).await?;
    assert_eq!(download.length(), Some(300_000));
    assert_eq!(download.source(), format!("http://{}/a/b.tar", server.host));
    assert_eq!(collect(download).await?, file);
    assert_eq!(server.requests()[0].target, "/a/b.tar?signature=hunter4");
    Ok(())
}

#[tokio::test]
async fn a_password_in_a_url_is_shown_to_its_server_alone() -> Result<()> {
    let storage = Server::start(|_| Reply::new(200, &[], b"here")).await?;
    let location = format!("http://{}/elsewhere", storage.host);
    let server = Server::start(move |_| Reply::new(302, &[("Location", &location)], b"")).await?;
    let url = format!("http://ann:hunter2%21@{}/a", server.host);
    let download = Registry::new(config())?.download(&url).await?;
    assert_eq!(download.source(), format!("http://{}/a", server.host));
    assert_eq!(collect(download).await?, b"here");
    // `ann:hunter2!`
    assert_eq!(
        server.requests()[0].header("authorization"),
        Some("Basic YW5uOmh1bnRlcjIh")
    );
    assert_eq!(storage.requests()[0].header("authorization"), None);
    Ok(())
}

#[tokio::test]
async fn plain_http_may_lead_to_plain_http_and_goes_through_the_proxy() -> Result<()> {
    let proxy = Server::start(|request| match request.target.as_str() {
        "http://first.test/a" => Reply::new(301, &[("Location", "http://second.test/b")], b""),
        "http://second.test/b" => Reply::new(200, &[], b"here"),
        other => panic!("{other} was asked for"),
    })
    .await?;
    let proxies = Proxies {
        http: Some(format!("http://{}", proxy.host)),
        ..Proxies::default()
    };
    let config = RegistryConfig { proxies, ..config() };
    let download = Registry::new(config)?.download("http://first.test/a").await?;
    assert_eq!(collect(download).await?, b"here");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_told_without_advice_for_registries() -> Result<()> {
    for status in [401, 403, 404, 410] {
        let server = Server::start(move |_| Reply::new(status, &[], b"no such page")).await?;
        let error = refused(&format!("http://ann:hunter2@{}/a", server.host)).await;
        let expected = format!("cannot download http://{0}/a: {0} answered {status}", server.host);
        let message = error.to_string();
        assert!(message.starts_with(&expected), "{message}");
        assert!(
            !message.contains("log in") && !message.contains("hunter2"),
            "{message}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_download_that_is_cut_or_hangs_is_an_error() -> Result<()> {
    let server = Server::start(|request| match request.target.as_str() {
        "/cut" => Reply::cut(200, &[], 10, b"here"),
        _ => Reply::cut(200, &[], 10, b"here").then_hang(),
    })
    .await?;
    for (path, says) in [("cut", "the connection to"), ("hang", "no more bytes")] {
        let url = format!("http://{}/{path}", server.host);
        let download = Registry::new(config())?.download(&url).await?;
        let error = tokio::time::timeout(BOUND, collect(download)).await?.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_url_of_the_web_is_refused() {
    for url in [
        "",
        "a.tar",
        "ftp://a/b",
        "file:///etc/passwd",
        "http://",
        "http://a b/",
    ] {
        let error = refused(url).await.to_string();
        assert!(error.contains("cannot be downloaded"), "{url}: {error}");
    }
    let error = refused("ftp://ann:hunter2@a/b").await.to_string();
    assert!(!error.contains("hunter2"), "{error}");
}
