//! Where a request may go besides the registry, and what goes along.

use anyhow::{Result, ensure};
use registry::{Credentials, Registry, RegistryConfig};
use system_tests::Authority;

use crate::script::{Reply, Server};
use crate::setting::*;

const BASIC: (&str, &str) = ("WWW-Authenticate", "Basic realm=\"x\"");

/// A registry that wants a password and redirects what is asked for to `target`.
async fn redirecting(target: String) -> Result<Server> {
    Server::start(
        move |request| match (request.target.as_str(), request.header("authorization")) {
            (_, None) => Reply::new(401, &[BASIC], b""),
            ("/v2/", _) => Reply::new(200, &[], b""),
            ("/elsewhere", _) => Reply::new(200, &[], b"here"),
            _ => Reply::new(307, &[("Location", &target)], b""),
        },
    )
    .await
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() -> Result<()> {
    let storage = Server::start(|_| Reply::new(200, &[], b"here")).await?;
    let server = redirecting(format!("http://{}/blob?signature=hunter4", storage.host)).await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    assert_eq!(read(repository.blob(&describe(b"here"))).await?, b"here");
    let asked = storage.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/blob?signature=hunter4");
    assert_eq!(asked[0].header("authorization"), None);
    ensure!(
        server.requests()[0].header("authorization").is_some(),
        "the registry itself got none"
    );
    Ok(())
}

#[tokio::test]
async fn credentials_stay_with_a_redirect_at_home() -> Result<()> {
    let server = redirecting("/elsewhere".into()).await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    assert_eq!(read(repository.blob(&describe(b"here"))).await?, b"here");
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_sent_to_another_host_gets_no_credentials_there() -> Result<()> {
    let storage = Server::start(|_| Reply::new(201, &[], b"")).await?;
    let location = format!("http://{}/upload", storage.host);
    let server = Server::start(move |request| match request.header("authorization") {
        None => Reply::new(401, &[BASIC], b""),
        Some(_) if request.method == "POST" => Reply::new(202, &[("Location", &location)], b""),
        Some(_) => Reply::new(200, &[], b""),
    })
    .await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    push(&repository, b"here").await?;
    let asked = storage.requests();
    assert_eq!(
        (asked[0].method.as_str(), asked[0].body.as_slice()),
        ("PUT", b"here".as_slice())
    );
    assert_eq!(asked[0].header("authorization"), None);
    Ok(())
}

#[tokio::test]
async fn a_failure_behind_a_redirect_does_not_tell_the_signature() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let server = redirecting(format!("http://{free}/blob?signature=hunter4")).await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    let error = read(repository.blob(&describe(b"here"))).await.unwrap_err();
    ensure!(
        error.to_string().contains(&format!("nobody listens at {free}")),
        "{error}"
    );
    ensure!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn redirects_without_end_and_to_nowhere_are_refused() -> Result<()> {
    for (target, words) in [
        ("/again", "it redirects more than 10 times"),
        ("file:///etc/passwd", "it names a URL that is not HTTP"),
        ("http://", "it redirects to what is no URL"),
        (
            "http://registry.example/x",
            "sends the request to registry.example in plain HTTP",
        ),
    ] {
        let server = redirecting(target.into()).await?;
        let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
        let message = refusal(repository.manifest(&tag("latest"))).await?;
        ensure!(message.contains(words), "{target}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_is_not_sent_to_where_a_redirect_leads() -> Result<()> {
    let server = redirecting("/elsewhere".into()).await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    let message = refusal(repository.push_manifest(&tag("latest"), OCI_MANIFEST, "{}".into())).await?;
    ensure!(
        message.contains("it redirects a request that cannot be sent elsewhere"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_registry_with_certificates_is_not_spoken_to_in_plain_http() -> Result<()> {
    let server = Server::start(|_| Reply::new(200, &[], b"{}")).await?;
    let certs = tempfile::tempdir()?;
    let folder = certs.path().join(&server.host);
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("ca.crt"), Authority::new("the registry's")?.pem())?;
    let config = RegistryConfig {
        certs_dirs: vec![certs.path().into()],
        ..config()
    };
    let repository = Registry::new(config)?.repository(&server.host, "team/app", Credentials::Anonymous)?;
    let message = refusal(repository.manifest(&tag("latest"))).await?;
    ensure!(message.contains("TLS") || message.contains("broke"), "{message}");
    ensure!(server.requests().is_empty(), "it was asked in plain HTTP");
    Ok(())
}

#[tokio::test]
async fn another_host_does_not_name_the_token_server() -> Result<()> {
    let thief = Server::start(|_| Reply::new(200, &[], br#"{"token":"t"}"#)).await?;
    let challenge = format!("Bearer realm=\"http://{}/token\"", thief.host);
    let storage = Server::start(move |_| Reply::new(401, &[("WWW-Authenticate", &challenge)], b"")).await?;
    for everything in [true, false] {
        let target = format!("http://{}/", storage.host);
        let server = Server::start(move |request| match request.target.as_str() {
            "/v2/" if !everything => Reply::new(200, &[], b""),
            _ => Reply::new(307, &[("Location", &target)], b""),
        })
        .await?;
        let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
        let message = refusal(repository.manifest(&tag("latest"))).await?;
        ensure!(message.contains("(401)"), "{message}");
        ensure!(thief.requests().is_empty(), "the password went to {}", thief.host);
    }
    Ok(())
}
