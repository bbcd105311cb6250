//! Token authentication with a real registry, which verifies what the token server has signed.

use anyhow::{Result, ensure};
use registry::{Credentials, Registry, Repository};

use crate::script::{Reply, Server};
use crate::setting::*;
use crate::token_server::{IDENTITY, WithTokens};

fn open(servers: &WithTokens, name: &str, credentials: Credentials) -> Result<Repository> {
    Ok(Registry::new(config())?.repository(&servers.registry.host, name, credentials)?)
}

#[tokio::test]
async fn a_user_pushes_and_anybody_pulls_what_is_public() -> Result<()> {
    let servers = WithTokens::start().await?;
    let pushed = push_image(&open(&servers, "public", ann("hunter2"))?, "latest", OCI_MANIFEST).await?;
    let anybody = open(&servers, "public", Credentials::Anonymous)?;
    assert_eq!(anybody.manifest(&tag("latest")).await?, pushed);
    read(anybody.blob(&describe(&content(100_000)))).await?;
    let message = refusal(push(&anybody, b"mine")).await?;
    ensure!(
        message.contains("(401: unauthorized: authentication required)"),
        "{message}"
    );
    let private = open(&servers, "private", Credentials::Anonymous)?;
    let message = refusal(private.manifest(&tag("latest"))).await?;
    ensure!(message.contains("log in with `hull login"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_token_is_fetched_once_for_each_scope() -> Result<()> {
    let servers = WithTokens::start().await?;
    let repository = open(&servers, "private", ann("hunter2"))?;
    push_image(&repository, "latest", OCI_MANIFEST).await?;
    assert_eq!(servers.tokens.requests().len(), 1, "one to push");
    let (layer, config) = (describe(&content(100_000)), describe(b"{}"));
    let (first, second) = tokio::join!(read(repository.blob(&layer)), read(repository.blob(&config)));
    first?;
    second?;
    repository.manifest(&tag("latest")).await?;
    let asked = servers.tokens.requests();
    assert_eq!(asked.len(), 2, "one to pull");
    assert_eq!(
        asked[1].target,
        "/token?kept=1&service=the+test%27s+registry&scope=repository%3Aprivate%3Apull&account=ann&client_id=hull"
    );
    Ok(())
}

#[tokio::test]
async fn a_token_that_has_expired_is_renewed() -> Result<()> {
    let servers = WithTokens::start().await?;
    let repository = open(&servers, "private", ann("hunter2"))?;
    push_image(&repository, "latest", OCI_MANIFEST).await?;
    servers.give_out_expired(true);
    let message = refusal(repository.manifest(&tag("latest"))).await?;
    ensure!(message.contains("(401: unauthorized"), "{message}");
    let fetched = servers.tokens.requests().len();
    servers.give_out_expired(false);
    repository.manifest(&tag("latest")).await?;
    assert_eq!(servers.tokens.requests().len(), fetched + 1);
    Ok(())
}

#[tokio::test]
async fn a_blob_is_mounted_from_a_repository_that_the_user_may_read() -> Result<()> {
    let servers = WithTokens::start().await?;
    let client = Registry::new(config())?;
    let open = |name, credentials| client.repository(&servers.registry.host, name, credentials);
    let blob = push(&open("first", ann("hunter2"))?, b"shared").await?;
    ensure!(
        open("second", ann("hunter2"))?
            .mount_blob(&blob.digest, "first")
            .await?
    );
    ensure!(
        !open("public", Credentials::Anonymous)?
            .mount_blob(&blob.digest, "first")
            .await?
    );
    Ok(())
}

#[tokio::test]
async fn a_login_gives_an_identity_token_and_it_opens_the_registry() -> Result<()> {
    let servers = WithTokens::start().await?;
    let client = Registry::new(config())?;
    let host = &servers.registry.host;
    let status = client.login(host, &ann("hunter2")).await?;
    assert_eq!(status.identity_token.as_deref(), Some(IDENTITY));
    ensure!(!format!("{status:?}").contains(IDENTITY));
    push_image(
        &open(&servers, "private", Credentials::IdentityToken(IDENTITY.into()))?,
        "latest",
        OCI_MANIFEST,
    )
    .await?;
    for (wrong, words) in [
        (ann("hunter3"), "(401: incorrect username or password)"),
        (
            Credentials::IdentityToken("another".into()),
            "(401: invalid_grant)",
        ),
    ] {
        let message = refusal(client.login(host, &wrong)).await?;
        ensure!(
            message.starts_with("cannot get a token for ") && message.contains(words),
            "{message}"
        );
        ensure!(message.contains(&format!("hull login {host}")), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_users_token_is_not_another_users() -> Result<()> {
    let servers = WithTokens::start().await?;
    let client = Registry::new(config())?;
    let open = |credentials| client.repository(&servers.registry.host, "private", credentials);
    push_image(&open(ann("hunter2"))?, "latest", OCI_MANIFEST).await?;
    open(ann("hunter2"))?.manifest(&tag("latest")).await?;
    refusal(open(Credentials::Anonymous)?.manifest(&tag("latest"))).await?;
    refusal(open(ann("hunter3"))?.manifest(&tag("latest"))).await?;
    Ok(())
}

#[tokio::test]
async fn a_registry_token_is_shown_as_it_is() -> Result<()> {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Bearer given") => Reply::new(200, &[], b"{}"),
        _ => Reply::new(
            401,
            &[("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/\"")],
            b"",
        ),
    })
    .await?;
    let open = |token: &str| {
        Registry::new(config())?.repository(
            &server.host,
            "team/app",
            Credentials::RegistryToken(token.into()),
        )
    };
    open("given")?.manifest(&tag("latest")).await?;
    let message = refusal(open("stolen")?.manifest(&tag("latest"))).await?;
    ensure!(message.contains("(401); log in"), "{message}");
    Ok(())
}

#[tokio::test]
async fn token_servers_that_lie_hang_or_never_end_are_left() -> Result<()> {
    type Script = fn() -> Reply;
    let endless: Script = || Reply::raw(b"HTTP/1.0 200 OK\r\n\r\n{\"token\":\"").then_repeat(&[b'x'; 4096]);
    let cases: [(Script, &str); 5] = [
        (endless, "sends more than 262144 bytes"),
        (
            || Reply::new(200, &[], b"<html>"),
            "its answer is no JSON object with a token",
        ),
        (|| Reply::new(200, &[], b"{}"), "its answer has no token"),
        (
            || Reply::new(200, &[], br#"{"token":"a\r\nb: c"}"#),
            "its token cannot be sent in a header",
        ),
        (|| Reply::raw(b"").then_hang(), "gave no answer within 1.5s"),
    ];
    for (script, words) in cases {
        let tokens = Server::start(move |_| script()).await?;
        let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.host);
        let server =
            Server::start(move |_| Reply::new(401, &[("WWW-Authenticate", &challenge)], b"")).await?;
        let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
        let message = refusal(repository.manifest(&tag("latest"))).await?;
        ensure!(
            message.contains(words) && message.starts_with("cannot get a token for "),
            "{message}"
        );
        ensure!(!message.contains("hunter2"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_password_is_not_sent_to_a_token_server_in_plain_http() -> Result<()> {
    let challenge = ("WWW-Authenticate", "Bearer realm=\"http://tokens.example/token\"");
    let server = Server::start(move |_| Reply::new(401, &[challenge], b"")).await?;
    let repository = Registry::new(config())?.repository(&server.host, "team/app", ann("hunter2"))?;
    let message = refusal(repository.manifest(&tag("latest"))).await?;
    ensure!(
        message.contains("sends the request to tokens.example in plain HTTP"),
        "{message}"
    );
    Ok(())
}
