//! Proxies and mirrors, and what is reached without them.

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;
use registry::{Credentials, Proxies, Registry, RegistryConfig};
use system_tests::{Authority, DockerRegistry};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::script::{Reply, Server};
use crate::setting::*;

/// A proxy for CONNECT that leads every name to one address.
struct Tunnel {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    async fn start(target: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://ann:hunter2@{}", listener.local_addr()?);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, target.clone(), seen.clone()));
            }
        });
        Ok(Self { url, asked })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics here").clone()
    }
}

async fn tunnel(mut client: TcpStream, target: String, seen: Arc<Mutex<Vec<String>>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    seen.lock()
        .expect("no test panics here")
        .push(String::from_utf8(head)?);
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A real registry with a certificate for some names that only a tunnel leads to, and the folder that trusts it.
fn registry_behind(names: &[&str]) -> Result<(DockerRegistry, tempfile::TempDir)> {
    let authority = Authority::new("the registry's")?;
    let certs = tempfile::tempdir()?;
    for name in names {
        std::fs::create_dir(certs.path().join(name))?;
        std::fs::write(certs.path().join(name).join("ca.crt"), authority.pem())?;
    }
    Ok((DockerRegistry::with_tls(&authority, None)?, certs))
}

#[tokio::test]
async fn https_goes_through_a_proxy_by_connect() -> Result<()> {
    let (server, certs) = registry_behind(&["registry.test"])?;
    let tunnel = Tunnel::start(server.host.clone()).await?;
    let proxies = Proxies {
        https: Some(tunnel.url.clone()),
        ..Proxies::default()
    };
    let config = RegistryConfig {
        proxies,
        certs_dirs: vec![certs.path().into()],
        ..config()
    };
    let repository =
        Registry::new(config)?.repository("registry.test", "team/app", Credentials::Anonymous)?;
    push_image(&repository, "latest", OCI_MANIFEST).await?;
    let asked = tunnel.asked();
    ensure!(
        asked[0].starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    ensure!(
        asked[0]
            .to_ascii_lowercase()
            .contains("proxy-authorization: basic"),
        "{}",
        asked[0]
    );
    Ok(())
}

#[tokio::test]
async fn plain_http_is_for_insecure_registries_and_goes_through_its_own_proxy() -> Result<()> {
    let proxy = Server::start(|request| match request.method.as_str() {
        "CONNECT" => Reply::new(502, &[], b""),
        _ => Reply::new(200, &[], b"{}"),
    })
    .await?;
    let url = Some(format!("http://{}", proxy.host));
    let proxies = Proxies {
        http: url.clone(),
        https: url,
        none_for: None,
    };
    let config = RegistryConfig { proxies, ..config() };
    let secure =
        Registry::new(config.clone())?.repository("registry.test", "team/app", Credentials::Anonymous)?;
    let message = refusal(secure.manifest(&tag("latest"))).await?;
    ensure!(
        message.contains("the connection to registry.test broke"),
        "{message}"
    );
    ensure!(
        proxy.requests().iter().all(|request| request.method == "CONNECT"),
        "plain HTTP was spoken"
    );
    let config = RegistryConfig {
        insecure: vec!["registry.test".parse()?],
        ..config
    };
    let insecure = Registry::new(config)?.repository("registry.test", "team/app", Credentials::Anonymous)?;
    assert_eq!(insecure.manifest(&tag("latest")).await?.bytes, "{}");
    let requests = proxy.requests();
    let last = requests.last().expect("there was a request");
    assert_eq!(last.target, "http://registry.test/v2/team/app/manifests/latest");
    Ok(())
}

#[tokio::test]
async fn loopback_and_exceptions_need_no_proxy() -> Result<()> {
    let server = DockerRegistry::plain()?;
    let proxy = Server::start(|_| Reply::new(502, &[], b"")).await?;
    let url = Some(format!("http://{}", proxy.host));
    let proxies = Proxies {
        http: url.clone(),
        https: url,
        none_for: Some("registry.test".into()),
    };
    let client = Registry::new(RegistryConfig { proxies, ..config() })?;
    let repository = client.repository(&server.host, "team/app", Credentials::Anonymous)?;
    assert_eq!(repository.has_manifest(&tag("latest")).await?, None);
    let excepted = client.repository("registry.test", "team/app", Credentials::Anonymous)?;
    refusal(excepted.manifest(&tag("latest"))).await?;
    ensure!(proxy.requests().is_empty(), "the proxy was asked");
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_none_is_refused_without_its_password() -> Result<()> {
    let proxies = Proxies {
        https: Some("ann:hunter2@:::".into()),
        ..Proxies::default()
    };
    let error = Registry::new(RegistryConfig { proxies, ..config() })
        .err()
        .expect("it is no URL");
    assert_eq!(
        error.to_string(),
        "the proxy in HTTPS_PROXY cannot be used; it must be like http://proxy.example:3128"
    );
    Ok(())
}

#[tokio::test]
async fn a_mirror_is_asked_first_without_credentials_and_docker_hub_after_it() -> Result<()> {
    let (hub, certs) = registry_behind(&["registry-1.docker.io"])?;
    let tunnel = Tunnel::start(hub.host.clone()).await?;
    let proxies = Proxies {
        https: Some(tunnel.url.clone()),
        ..Proxies::default()
    };
    let mirror = DockerRegistry::plain()?;
    let with_hub = RegistryConfig {
        proxies,
        certs_dirs: vec![certs.path().into()],
        ..config()
    };
    let with_mirror = RegistryConfig {
        mirrors: vec![format!("http://{}", mirror.host).parse()?],
        ..with_hub.clone()
    };

    let in_mirror =
        Registry::new(config())?.repository(&mirror.host, "library/app", Credentials::Anonymous)?;
    push_image(&in_mirror, "mirrored", OCI_MANIFEST).await?;
    let client = Registry::new(with_mirror)?;
    let repository = client.repository("docker.io", "library/app", ann("hunter2"))?;
    repository.manifest(&tag("mirrored")).await?;
    read(repository.blob(&describe(&content(100_000)))).await?;
    ensure!(
        tunnel.asked().is_empty(),
        "Docker Hub was asked for what the mirror has"
    );

    let in_hub = Registry::new(with_hub)?.repository("docker.io", "library/app", Credentials::Anonymous)?;
    push_image(&in_hub, "hub", OCI_MANIFEST).await?;
    repository.manifest(&tag("hub")).await?;
    let message = refusal(repository.manifest(&tag("nowhere"))).await?;
    ensure!(
        message.starts_with("cannot pull manifest nowhere of docker.io/library/app: docker.io does not"),
        "{message}"
    );
    let lines = mirror.wait_for_log(&["manifests/nowhere"])?;
    ensure!(!lines.contains("auth.user.name"), "{lines}");
    Ok(())
}

#[tokio::test]
async fn a_blob_whose_mirror_dies_goes_on_at_docker_hub() -> Result<()> {
    let (hub, certs) = registry_behind(&["registry-1.docker.io"])?;
    let tunnel = Tunnel::start(hub.host.clone()).await?;
    let proxies = Proxies {
        https: Some(tunnel.url.clone()),
        ..Proxies::default()
    };
    let mut mirror = DockerRegistry::plain()?;
    let config = RegistryConfig {
        proxies,
        certs_dirs: vec![certs.path().into()],
        mirrors: vec![format!("http://{}", mirror.host).parse()?],
        ..config()
    };
    let client = Registry::new(config)?;
    let bytes = content(16 << 20);
    push(
        &client.repository(&mirror.host, "library/app", Credentials::Anonymous)?,
        &bytes,
    )
    .await?;
    let repository = client.repository("docker.io", "library/app", Credentials::Anonymous)?;
    let blob = push(&repository, &bytes).await?;
    let mut stream = repository.blob(&blob);
    let mut received = stream.try_next().await?.expect("there is more").to_vec();
    mirror.kill()?;
    while let Some(piece) = stream.try_next().await? {
        received.extend_from_slice(&piece);
    }
    ensure!(received == bytes, "other bytes came");
    hub.wait_for_log(&["/blobs/", "http.response.status=206"])?;
    Ok(())
}
