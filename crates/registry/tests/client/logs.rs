//! What is logged, at the finest level, holds nothing that opens a registry.

use std::io::Write;
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use registry::{Credentials, Registry};

use crate::script::{Reply, Server};
use crate::setting::*;
use crate::token_server::{IDENTITY, WithTokens};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .expect("no test panics here")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_password_token_or_signature_is_logged() -> Result<()> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let servers = WithTokens::start().await?;
    let client = Registry::new(config())?;
    client.login(&servers.registry.host, &ann("hunter2")).await?;
    for credentials in [ann("hunter2"), Credentials::IdentityToken(IDENTITY.into())] {
        let repository = client.repository(&servers.registry.host, "private", credentials)?;
        push_image(&repository, "latest", OCI_MANIFEST).await?;
        repository.manifest(&tag("latest")).await?;
    }
    let storage = Server::start(|_| Reply::new(503, &[], b"")).await?;
    let signed = format!("http://{}/blob?signature=hunter4", storage.host);
    let redirecting = Server::start(move |request| match request.target.as_str() {
        "/v2/" => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b""),
        _ => Reply::new(307, &[("Location", &signed)], b""),
    })
    .await?;
    let repository = client.repository(&redirecting.host, "team/app", ann("hunter2"))?;
    refusal(read(repository.blob(&describe(b"x")))).await?;

    let log = String::from_utf8(log.0.lock().expect("no test panics here").clone())?;
    ensure!(
        log.contains("a download goes on after a pause"),
        "nothing was logged:\n{log}"
    );
    // The password in base64, and how every token begins.
    for secret in ["hunter2", "hunter4", "YW5uOmh1bnRlcjI", IDENTITY, "eyJ"] {
        ensure!(!log.contains(secret), "{secret} was logged");
    }
    Ok(())
}
