//! Pull and push with a real registry on loopback, with and without a password.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use registry::{Credentials, ManifestReference, Registry};
use system_tests::{DockerRegistry, PASSWORD};

use crate::script::{Reply, Server};
use crate::setting::*;

#[tokio::test]
async fn an_image_goes_to_a_registry_and_back_by_tag_and_by_digest() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    for (name, media_type) in [("oci", OCI_MANIFEST), ("docker", DOCKER_MANIFEST)] {
        let pushed = push_image(&repository, name, media_type).await?;
        assert_eq!(repository.manifest(&tag(name)).await?, pushed);
        let by_digest = ManifestReference::Digest(pushed.digest.clone());
        assert_eq!(repository.manifest(&by_digest).await?, pushed);
        let found = repository.has_manifest(&tag(name)).await?.expect("it was pushed");
        assert_eq!(
            (found.digest, found.size),
            (pushed.digest, pushed.bytes.len() as u64)
        );
    }
    assert_eq!(repository.has_manifest(&tag("missing")).await?, None);
    let layer = content(100_000);
    assert_eq!(read(repository.blob(&describe(&layer))).await?, layer);
    Ok(())
}

#[tokio::test]
async fn an_index_is_pushed_and_pulled_to_the_byte() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let image = push_image(&repository, "one", OCI_MANIFEST).await?;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": OCI_MANIFEST,
            "digest": image.digest.to_string(),
            "size": image.bytes.len(),
            "platform": { "os": "linux", "architecture": "arm", "variant": "v7" },
        }],
    });
    let index = index.to_string();
    repository
        .push_manifest(
            &tag("all"),
            "application/vnd.oci.image.index.v1+json",
            index.clone().into(),
        )
        .await?;
    let pulled = repository.manifest(&tag("all")).await?;
    ensure!(pulled.is_index() && pulled.bytes == index);
    let parsed: registry::ImageIndex = serde_json::from_slice(&pulled.bytes)?;
    let chosen = registry::choose_platform(&parsed, &registry::parse_platform("linux/arm/v7")?)?;
    assert_eq!(chosen.digest(), &image.digest);
    Ok(())
}

#[tokio::test]
async fn tags_are_listed_in_order_over_all_pages() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    for name in ["b", "a", "c"] {
        push_image(&repository, name, OCI_MANIFEST).await?;
    }
    assert_eq!(repository.tags().await?, ["a", "b", "c"]);
    let pages = Server::start(|request| match request.target.as_str() {
        "/v2/team/app/tags/list" => Reply::new(
            200,
            &[("Link", "</more?n=1>; rel=\"next\"")],
            br#"{"tags":["b","no tag"]}"#,
        ),
        "/more?n=1" => Reply::new(200, &[], br#"{"tags":["a"]}"#),
        "/v2/team/endless/tags/list" => Reply::new(200, &[("Link", "<list>; rel=next")], br#"{"tags":null}"#),
        _ => Reply::new(200, &[], b""),
    })
    .await?;
    let client = Registry::new(config())?;
    let open = |name| client.repository(&pages.host, name, Credentials::Anonymous);
    assert_eq!(open("team/app")?.tags().await?, ["a", "b"]);
    let message = refusal(open("team/endless")?.tags()).await?;
    ensure!(message.ends_with("its list of tags does not end"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_blob_that_is_there_need_not_be_pushed_and_is_mounted_elsewhere() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let client = Registry::new(config())?;
    let first = client.repository(&server.host, "first", Credentials::Anonymous)?;
    let second = client.repository(&server.host, "second", Credentials::Anonymous)?;
    let bytes = content(10_000);
    let blob = describe(&bytes);
    ensure!(!first.has_blob(&blob.digest).await?);
    ensure!(
        !second.mount_blob(&blob.digest, "first").await?,
        "there is nothing to mount yet"
    );
    push(&first, &bytes).await?;
    ensure!(first.has_blob(&blob.digest).await?);
    ensure!(!second.has_blob(&blob.digest).await?);
    ensure!(second.mount_blob(&blob.digest, "first").await?);
    assert_eq!(read(second.blob(&blob)).await?, bytes);
    Ok(())
}

#[tokio::test]
async fn a_large_blob_is_streamed_both_ways_with_progress() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let bytes = content(24 << 20);
    let blob = describe(&bytes);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &bytes)?;
    let sent = Arc::new(AtomicU64::new(0));
    let told = sent.clone();
    let source = || std::fs::File::open(file.path());
    repository
        .push_blob(&blob, &source, move |bytes| told.store(bytes, Ordering::SeqCst))
        .await?;
    assert_eq!(sent.load(Ordering::SeqCst), blob.size);
    ensure!(
        read(repository.blob(&blob)).await? == bytes,
        "other bytes came back"
    );
    Ok(())
}

#[tokio::test]
async fn empty_blobs_are_blobs() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let blob = push(&repository, b"").await?;
    ensure!(read(repository.blob(&blob)).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_too_short_or_missing_is_the_error() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let mut blob = describe(b"four");
    blob.size = 5;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), b"four")?;
    let message = refusal(repository.push_blob(&blob, &file.path().to_path_buf(), |_| {})).await?;
    ensure!(
        message.ends_with("the bytes to be sent cannot be read: they end after 4 of 5 bytes"),
        "{message}"
    );
    let missing = std::path::PathBuf::from("/nowhere/blob");
    let message = refusal(repository.push_blob(&blob, &missing, |_| {})).await?;
    ensure!(message.contains("cannot be read: No such file"), "{message}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let repository = repository(&server.host)?;
    let message = refusal(repository.manifest(&tag("latest"))).await?;
    let host = &server.host;
    assert_eq!(
        message,
        format!(
            "cannot pull manifest latest of {host}/team/app: {host} does not have it, or shows it to others only \
             (404: manifest unknown: manifest unknown); check the name and the tag, and log in with `hull login {host}` \
             if it is private"
        )
    );
    let message = refusal(read(repository.blob(&describe(b"nothing")))).await?;
    ensure!(message.contains("(404: blob unknown: "), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_password_opens_a_registry_and_a_wrong_one_does_not() -> Result<()> {
    let server = DockerRegistry::with_password()?;
    let client = Registry::new(config())?;
    let with = |credentials| client.repository(&server.host, "team/app", credentials);
    push_image(&with(ann(PASSWORD))?, "latest", OCI_MANIFEST).await?;
    with(ann(PASSWORD))?.manifest(&tag("latest")).await?;
    for wrong in [
        Credentials::Anonymous,
        ann("hunter3"),
        Credentials::IdentityToken("hunter4".into()),
    ] {
        let message = refusal(with(wrong)?.manifest(&tag("latest"))).await?;
        let host = &server.host;
        assert_eq!(
            message,
            format!(
                "cannot pull manifest latest of {host}/team/app: {host} does not accept the credentials, or there are \
                 none (401: unauthorized: authentication required); log in with `hull login {host}`"
            )
        );
    }
    assert_eq!(
        client.login(&server.host, &ann(PASSWORD)).await?.identity_token,
        None
    );
    let message = refusal(client.login(&server.host, &ann("hunter3"))).await?;
    ensure!(
        message.starts_with(&format!("cannot log in to {}: ", server.host)),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn nobody_listening_and_a_name_without_an_address_are_told_apart() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let message = refusal(repository(&free.to_string())?.manifest(&tag("latest"))).await?;
    ensure!(
        message.contains(&format!("nobody listens at {free} (connection refused)")),
        "{message}"
    );
    let message = refusal(repository("registry.invalid")?.manifest(&tag("latest"))).await?;
    ensure!(
        message.contains("the name registry.invalid cannot be resolved")
            || message.contains("gave no connection"),
        "{message}"
    );
    Ok(())
}
