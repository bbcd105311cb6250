//! A client of registries that speak the OCI distribution protocol.
mod config;
mod credentials;
mod digest;
mod error;
mod host;
mod platform;
mod tls;

pub use config::{ConfigError, Mirror, Proxies, RegistryConfig, RetryPolicy, Timeouts};
pub use credentials::Credentials;
pub use digest::{DigestMismatch, sha256};
pub use error::{Detail, RegistryError, Result};
pub use host::InsecureHost;
pub use oci_spec::image::{Descriptor, Digest, ImageIndex, Platform};
pub use platform::{NoSuchPlatform, PlatformError, choose_platform, parse_platform};
pub use tls::TlsError;
