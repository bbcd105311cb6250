//! Real registries with certificates of a CA that only a `certs.d` folder knows.

use std::path::Path;

use anyhow::{Result, ensure};
use registry::{Credentials, Registry, RegistryConfig};
use system_tests::{Authority, DockerRegistry};

use crate::setting::*;

fn trusting(certs: &Path) -> RegistryConfig {
    RegistryConfig {
        certs_dirs: vec![certs.to_path_buf()],
        ..config()
    }
}

#[tokio::test]
async fn a_ca_in_the_registrys_folder_is_trusted_for_it() -> Result<()> {
    let authority = Authority::new("the registry's")?;
    let server = DockerRegistry::with_tls(&authority, None)?;
    let certs = tempfile::tempdir()?;
    let folder = certs.path().join(&server.host);
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("ca.crt"), authority.pem())?;
    let client = Registry::new(trusting(certs.path()))?;
    let repository = client.repository(&server.host, "team/app", Credentials::Anonymous)?;
    let pushed = push_image(&repository, "latest", OCI_MANIFEST).await?;
    assert_eq!(repository.manifest(&tag("latest")).await?, pushed);
    Ok(())
}

#[tokio::test]
async fn another_ca_is_not_trusted_and_the_message_says_where_to_put_the_right_one() -> Result<()> {
    let server = DockerRegistry::with_tls(&Authority::new("the registry's")?, None)?;
    let certs = tempfile::tempdir()?;
    let folder = certs.path().join(&server.host);
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("ca.crt"), Authority::new("another")?.pem())?;
    let client = Registry::new(trusting(certs.path()))?;
    let repository = client.repository(&server.host, "team/app", Credentials::Anonymous)?;
    let message = refusal(repository.manifest(&tag("latest"))).await?;
    let host = &server.host;
    ensure!(
        message.contains(&format!("no TLS connection to {host}: invalid peer certificate")),
        "{message}"
    );
    ensure!(
        message.contains(&format!("put it at /etc/hull/certs.d/{host}/ca.crt")),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn a_folder_that_appears_later_counts_for_the_next_pull() -> Result<()> {
    let authority = Authority::new("the registry's")?;
    let server = DockerRegistry::with_tls(&authority, None)?;
    let certs = tempfile::tempdir()?;
    let folder = certs.path().join(&server.host);
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("ca.crt"), Authority::new("another")?.pem())?;
    let client = Registry::new(trusting(certs.path()))?;
    let repository = || client.repository(&server.host, "team/app", Credentials::Anonymous);
    refusal(repository()?.has_manifest(&tag("latest"))).await?;
    std::fs::write(folder.join("second.crt"), authority.pem())?;
    assert_eq!(repository()?.has_manifest(&tag("latest")).await?, None);
    Ok(())
}

#[tokio::test]
async fn an_insecure_registry_needs_no_known_ca() -> Result<()> {
    let server = DockerRegistry::with_tls(&Authority::new("the registry's")?, None)?;
    assert_eq!(
        repository(&server.host)?.has_manifest(&tag("latest")).await?,
        None
    );
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_its_folder_says() -> Result<()> {
    let (authority, clients) = (Authority::new("the registry's")?, Authority::new("the clients'")?);
    let server = DockerRegistry::with_tls(&authority, Some(&clients))?;
    let certs = tempfile::tempdir()?;
    let folder = certs.path().join(&server.host);
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("ca.crt"), authority.pem())?;
    let client = Registry::new(trusting(certs.path()))?;
    let repository = || client.repository(&server.host, "team/app", Credentials::Anonymous);
    let message = refusal(repository()?.manifest(&tag("latest"))).await?;
    let host = &server.host;
    ensure!(
        message.contains(&format!("{host} wants a client certificate that it knows"))
            && message.contains(&format!("/etc/hull/certs.d/{host}/client.key")),
        "{message}"
    );
    clients.issue_client(&folder.join("client.cert"), &folder.join("client.key"))?;
    push_image(&repository()?, "latest", OCI_MANIFEST).await?;
    Authority::new("strangers")?.issue_client(&folder.join("client.cert"), &folder.join("client.key"))?;
    let message = refusal(repository()?.manifest(&tag("latest"))).await?;
    ensure!(
        message.contains("wants a client certificate that it knows"),
        "{message}"
    );
    Ok(())
}
