//! A client of registries that speak the OCI distribution protocol (version 1.1) or Docker's Registry API v2, and of
//! web servers from which a root file system is [downloaded](Registry::download) by its URL.
//!
//! It moves manifests and blobs, and knows nothing of where they are kept. [`Registry`] holds what all users
//! share: connections and tokens. [`Repository`] is one repository as one user sees it.
//!
//! ```no_run
//! # async fn pull() -> Result<(), Box<dyn std::error::Error>> {
//! use futures_util::TryStreamExt;
//! use registry::{Credentials, Registry, RegistryConfig, choose_platform, parse_platform};
//!
//! let registry = Registry::new(RegistryConfig::default())?;
//! let repository = registry.repository("docker.io", "library/debian", Credentials::Anonymous)?;
//! let mut manifest = repository.manifest(&"bookworm".parse()?).await?;
//! if manifest.is_index() {
//!     let index = serde_json::from_slice(&manifest.bytes)?;
//!     let image = choose_platform(&index, &parse_platform("linux/amd64")?)?;
//!     manifest = repository.manifest(&registry::ManifestReference::Digest(image.digest().clone())).await?;
//! }
//! let image: oci_spec::image::ImageManifest = serde_json::from_slice(&manifest.bytes)?;
//! let mut layer = repository.blob(&(&image.layers()[0]).into());
//! while let Some(piece) = layer.try_next().await? {
//!     println!("{} bytes", piece.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Whom it speaks to, and how
//! - HTTPS, with the system's CAs and those of `certs.d/HOST[:PORT]/*.crt`. A client certificate there
//!   (`NAME.cert`, `NAME.key`) is shown to that host alone. The folders are read anew for each repository.
//! - Loopback and the registries that the configuration calls insecure: HTTPS without verification, then plain
//!   HTTP, as Docker does. A folder in `certs.d` makes loopback secure. Names are never resolved to find out
//!   whether a host is loopback, and plain HTTP is never spoken to any other host: a redirect or a token server
//!   that wants it is refused. A URL that is downloaded and names plain HTTP itself may be redirected to more of it.
//! - `docker.io` is `registry-1.docker.io`, after the mirrors. Mirrors see no credentials. What a mirror cannot
//!   give, or stops giving in the middle of a blob, comes from the next one and in the end from Docker Hub.
//! - Proxies are those of the environment; none is used for loopback.
//! - Names are resolved without the C library, because hull is linked statically.
//!
//! # What it does by itself
//! - It shows what the registry's challenge asks for: a password, a token, or a token for an identity token.
//!   Tokens are kept per user and scope until shortly before they end, fetched once however many layers wait,
//!   and fetched again if the registry does not accept one.
//! - Broken connections, 429 and 5xx are tried again after pauses that double; `Retry-After` is obeyed within a
//!   bound; a time-out is tried again once. 401, 403 and 404 are not tried again.
//! - A blob goes on where it was cut. A server that does not do ranges has what is known skipped.
//! - A blob that is sent goes on where the registry says that it was cut, and anew if the registry kept nothing of it.
//!
//! # What is bounded
//! Manifests (4 MiB), tokens, errors, lists, headers, redirects, certificates, what is cached; the time for a
//! connection, an answer, the next piece of a blob and the end of an upload ([`Timeouts`]). A blob is never held:
//! memory does not grow with its size.
//!
//! # Secrets
//! Credentials go to the registry and to the token server that it names, and to no other host, whatever is
//! redirected where. They have no `Debug` output, and messages hold no URL: the query of a redirect is as good
//! as a password. What a server says is cut, made printable, and freed of the credentials that it was shown.
//!
//! # Why not a ready-made client
//! oci-client 0.18 was looked at first. It takes one set of CAs, one client certificate and one proxy for all
//! hosts; leaves redirects to the HTTP client; trades no identity tokens; reads manifests without a bound; and
//! resumes and retries nothing by itself. What remains of the protocol once that is done here is a few requests.
//! reqwest (on hyper and rustls with ring) carries them, http-auth reads challenges, hickory resolves names.

mod answer;
mod blob;
mod call;
mod challenge;
mod config;
mod credentials;
mod digest;
mod download;
mod error;
// In tests, too, so that it is compiled wherever they are.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod manifest;
mod platform;
mod push;
mod registry;
mod repository;
mod resolve;
mod retry;
mod session;
mod tags;
mod tls;
mod token;
mod transport;
mod upload;

pub use blob::{BlobDescriptor, BlobStream, Retry};
pub use config::{ConfigError, Mirror, Proxies, RegistryConfig, RetryPolicy, Timeouts};
pub use credentials::Credentials;
pub use digest::{DigestMismatch, sha256};
pub use download::{Download, shown_url};
pub use error::{Detail, RegistryError, Result};
pub use host::InsecureHost;
pub use manifest::{MAX_MANIFEST, ManifestReference, RawManifest};
pub use oci_spec::image::{Descriptor, Digest, ImageIndex, Platform};
pub use platform::{
    NoSuchPlatform, PlatformError, choose_platform, describe_platform, parse_platform, suits,
};
pub use registry::{LoginStatus, Registry, SearchResult};
pub use repository::Repository;
pub use tls::TlsError;
pub use upload::BlobSource;
