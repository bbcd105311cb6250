//! Connections: which client speaks to which host, with which trust, and what its failures mean.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::redirect::Policy;
use reqwest::{Client, NoProxy, Proxy};
use rustls::{AlertDescription, RootCertStore};

use crate::config::{ConfigError, RegistryConfig};
use crate::error::{RegistryError, Result};
use crate::host::Host;
use crate::resolve::{NameError, Resolver, innermost};
use crate::tls::{Certificates, client_config, system_authorities};

/// Clients that are kept for their connections; more than any daemon has registries.
const MAX_CLIENTS: usize = 64;
/// What needs no proxy, whatever the configuration says: as in Go, and so in Docker.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// What a connection that takes too long misses.
pub(crate) const NO_CONNECTION: &str = "no connection";

/// The clients of all registries. Hosts with equal certificates share one, and so its connections.
pub(crate) struct Transport {
    pub(crate) config: RegistryConfig,
    proxies: Vec<Proxy>,
    system: OnceLock<RootCertStore>,
    clients: Mutex<HashMap<Trust, Client>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Trust {
    certificates: Certificates,
    verify: bool,
}

/// How one host is spoken to.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) client: Client,
    /// Whether plain HTTP will do.
    pub(crate) plain: bool,
}

impl Transport {
    pub(crate) fn new(config: RegistryConfig) -> Result<Self> {
        let proxies = proxies(&config)?;
        Ok(Self {
            config,
            proxies,
            system: OnceLock::new(),
            clients: Mutex::default(),
        })
    }

    /// How to speak to `target` on behalf of `registry`; the same host, or one that it names (a redirect, a
    /// token server). Such a host is trusted by the registry's CAs too, but the registry's client certificate
    /// is not shown to it.
    pub(crate) async fn peer(self: &Arc<Self>, registry: &Host, target: &Host) -> Result<Peer> {
        let (transport, registry, target) = (self.clone(), registry.clone(), target.clone());
        let task = tokio::task::spawn_blocking(move || transport.find_peer(&registry, &target));
        task.await
            .map_err(|error| ConfigError::Client(error.to_string()))?
    }

    fn find_peer(&self, registry: &Host, target: &Host) -> Result<Peer> {
        let mut certificates = Certificates::load(&self.config.certs_dirs, target)?;
        let named = self.config.insecure.iter().any(|rule| rule.covers(target));
        let plain = named || (target.is_loopback() && certificates.is_empty());
        if registry != target {
            let of_registry = Certificates::load(&self.config.certs_dirs, registry)?;
            certificates.authorities.extend(of_registry.authorities);
        }
        let verify = !named && (!target.is_loopback() || !certificates.is_empty());
        let client = self.client(Trust { certificates, verify })?;
        Ok(Peer { client, plain })
    }

    fn client(&self, trust: Trust) -> Result<Client, ConfigError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&trust) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        let client = self.build(&trust)?;
        clients.insert(trust, client.clone());
        Ok(client)
    }

    fn build(&self, trust: &Trust) -> Result<Client, ConfigError> {
        let system = self.system.get_or_init(system_authorities);
        let tls = client_config(system, &trust.certificates, trust.verify)
            .map_err(|error| ConfigError::Client(error.to_string()))?;
        // Redirects are followed by `Session`, which knows what may go along.
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Resolver)
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(self.config.timeouts.connect)
            .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        for proxy in &self.proxies {
            builder = builder.proxy(proxy.clone());
        }
        builder
            .build()
            .map_err(|error| ConfigError::Client(innermost(&error)))
    }
}

fn proxies(config: &RegistryConfig) -> Result<Vec<Proxy>, ConfigError> {
    let none_for = match &config.proxies.none_for {
        Some(list) => format!("{LOOPBACK},{list}"),
        None => LOOPBACK.to_string(),
    };
    let mut proxies = Vec::new();
    if let Some(url) = &config.proxies.http {
        let refused = ConfigError::Proxy {
            variable: "HTTP_PROXY",
        };
        proxies.push(Proxy::http(url).map_err(|_| refused)?);
    }
    if let Some(url) = &config.proxies.https {
        let refused = ConfigError::Proxy {
            variable: "HTTPS_PROXY",
        };
        proxies.push(Proxy::https(url).map_err(|_| refused)?);
    }
    let with_exceptions = |proxy: Proxy| proxy.no_proxy(NoProxy::from_string(&none_for));
    Ok(proxies.into_iter().map(with_exceptions).collect())
}

/// What a request that got no answer means. The URL is left out: a redirect's query is as good as a password.
pub(crate) fn failure(
    what: &str,
    host: &Host,
    error: &reqwest::Error,
    config: &RegistryConfig,
) -> RegistryError {
    let (what, host) = (what.to_string(), host.to_string());
    if let Some(name) = find::<NameError>(error) {
        return RegistryError::Resolve {
            what,
            host: name.host.clone(),
            reason: name.reason.clone(),
        };
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        if wants_certificate(tls) {
            return RegistryError::ClientCertificate {
                what,
                host,
                reason: tls.to_string(),
            };
        }
        return RegistryError::Tls {
            what,
            host,
            reason: tls.to_string(),
        };
    }
    if find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        return RegistryError::Refused { what, host };
    }
    if error.is_connect() && error.is_timeout() {
        let (missing, waited) = (NO_CONNECTION, config.timeouts.connect);
        return RegistryError::TimedOut {
            what,
            registry: host,
            missing,
            waited,
        };
    }
    RegistryError::Connection {
        what,
        host,
        reason: innermost(error),
    }
}

/// The alerts with which a server says that the client's certificate is missing or not to its liking.
fn wants_certificate(error: &rustls::Error) -> bool {
    use AlertDescription::{AccessDenied, BadCertificate, CertificateRequired, UnknownCA};
    matches!(
        error,
        rustls::Error::AlertReceived(CertificateRequired | BadCertificate | UnknownCA | AccessDenied)
    )
}

/// The first cause of type `T`. An I/O error hides what it wraps from `source`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| find::<T>(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
