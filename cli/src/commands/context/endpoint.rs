//! `hull context create` and `update`: what `--docker` says of a daemon.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use super::check_free;
use crate::api::{Address, HostOptions, TlsSpec};
use crate::commands::print_line;
use crate::contexts::{ContextError, DEFAULT, Meta, Store, TLS_FILES};
use crate::failure::{CommandResult, complain};

/// What the default context is described as, and a context that is made of it.
pub(super) const DEFAULT_DESCRIPTION: &str = "Current HULL_HOST based configuration";

/// Docker endpoint config: from (copy that of a named context), host, ca, cert, key, skip-tls-verify.
#[derive(Debug, Args)]
#[command(override_usage = "hull context create [OPTIONS] CONTEXT")]
pub(super) struct CreateArguments {
    /// Description of the context
    #[arg(long)]
    description: Option<String>,

    /// Set the daemon, e.g. "host=tcp://myserver:2376,ca=ca.pem,cert=cert.pem,key=key.pem"
    #[arg(long, value_name = "NAME=VALUE,...")]
    docker: Vec<String>,

    /// Create context from a named context
    #[arg(long, value_name = "CONTEXT", conflicts_with = "docker")]
    from: Option<String>,

    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

/// Docker endpoint config: from (copy that of a named context), host, ca, cert, key, skip-tls-verify.
#[derive(Debug, Args)]
#[command(override_usage = "hull context update [OPTIONS] CONTEXT")]
pub(super) struct UpdateArguments {
    /// Description of the context
    #[arg(long)]
    description: Option<String>,

    /// Set the daemon, e.g. "host=tcp://myserver:2376,ca=ca.pem,cert=cert.pem,key=key.pem"
    #[arg(long, value_name = "NAME=VALUE,...")]
    docker: Vec<String>,

    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

/// A daemon, and the content of its files for TLS.
struct Daemon {
    host: String,
    skip_tls_verify: bool,
    tls: Vec<(&'static str, Vec<u8>)>,
    description: String,
}

/// What `--docker` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Config {
    from: Option<String>,
    host: Option<String>,
    files: [Option<PathBuf>; 3],
    skip_tls_verify: bool,
}

pub(super) fn create(store: &Store, options: &HostOptions, arguments: CreateArguments) -> CommandResult {
    let name = &arguments.name;
    check_free(store, name)?;
    let daemon = if arguments.docker.is_empty() {
        copy(store, options, arguments.from.as_deref().unwrap_or(DEFAULT))
    } else {
        daemon(store, options, &arguments.docker).context("unable to create docker endpoint config")
    }?;
    let mut meta = Meta {
        name: name.clone(),
        ..Meta::default()
    };
    meta.describe(arguments.description.as_deref().unwrap_or(&daemon.description));
    put(store, meta, &daemon)?;
    print_line(name)?;
    complain(format_args!("Successfully created context {name:?}"));
    Ok(())
}

pub(super) fn update(store: &Store, options: &HostOptions, arguments: UpdateArguments) -> CommandResult {
    let name = &arguments.name;
    crate::contexts::check_name(name)?;
    let mut meta = store.get(name)?;
    if let Some(description) = &arguments.description {
        meta.describe(description);
    }
    if arguments.docker.is_empty() {
        store.put(&meta)?;
    } else {
        let daemon =
            daemon(store, options, &arguments.docker).context("unable to create docker endpoint config")?;
        put(store, meta, &daemon)?;
    }
    print_line(name)?;
    complain(format_args!("Successfully updated context {name:?}"));
    Ok(())
}

fn put(store: &Store, mut meta: Meta, daemon: &Daemon) -> Result<(), ContextError> {
    meta.endpoints.docker.host.clone_from(&daemon.host);
    meta.endpoints.docker.skip_tls_verify = daemon.skip_tls_verify;
    store.put_tls(&meta.name, &daemon.tls)?;
    store.put(&meta)
}

/// The daemon of another context.
fn copy(store: &Store, options: &HostOptions, from: &str) -> anyhow::Result<Daemon> {
    if from == DEFAULT {
        return Ok(Daemon {
            host: options.default_endpoint()?.address.to_string(),
            skip_tls_verify: false,
            tls: Vec::new(),
            description: DEFAULT_DESCRIPTION.to_owned(),
        });
    }
    let meta = store.get(from)?;
    Ok(Daemon {
        description: meta.description().to_owned(),
        skip_tls_verify: meta.endpoints.docker.skip_tls_verify,
        host: meta.endpoints.docker.host,
        tls: store.tls_content(from)?,
    })
}

fn daemon(store: &Store, options: &HostOptions, docker: &[String]) -> anyhow::Result<Daemon> {
    let config = parse(docker)?;
    if let Some(from) = &config.from {
        return Ok(Daemon {
            description: String::new(),
            ..copy(store, options, from)?
        });
    }
    let host = config
        .host
        .ok_or_else(|| anyhow!("it has no host: write host=tcp://HOST:PORT or host=unix:///PATH"))?;
    Address::parse(&host)?;
    let [authorities, certificate, key] = &config.files;
    if config.files.iter().any(Option::is_some) {
        // What cannot be used is said now, and not by the first command that uses the context.
        TlsSpec {
            verify: !config.skip_tls_verify,
            authorities: authorities.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
        }
        .load()?;
    }
    let mut tls = Vec::new();
    for (file, path) in TLS_FILES.into_iter().zip(&config.files) {
        if let Some(path) = path {
            let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            tls.push((file, content));
        }
    }
    Ok(Daemon {
        host,
        skip_tls_verify: config.skip_tls_verify,
        tls,
        description: String::new(),
    })
}

fn parse(docker: &[String]) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let pairs = docker.iter().flat_map(|text| text.split(','));
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| anyhow!("{pair} must be formatted as key=value"))?;
        match key {
            "from" => config.from = Some(value.to_owned()),
            "host" => config.host = Some(value.to_owned()),
            "ca" => config.files[0] = Some(value.into()),
            "cert" => config.files[1] = Some(value.into()),
            "key" => config.files[2] = Some(value.into()),
            "skip-tls-verify" => {
                let parsed = value.to_ascii_lowercase().parse();
                config.skip_tls_verify =
                    parsed.map_err(|_| anyhow!("skip-tls-verify is true or false, not {value:?}"))?;
            }
            _ => bail!("unrecognized config key: {key}"),
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        parse(&[text.to_owned()])
    }

    #[test]
    fn an_endpoint_is_pairs_of_known_keys() {
        let config = read("host=tcp://h:1,ca=/a,skip-tls-verify=True").unwrap();
        assert_eq!(config.host.as_deref(), Some("tcp://h:1"));
        assert_eq!(config.files, [Some("/a".into()), None, None]);
        assert!(config.skip_tls_verify);
        let error = read("nosuch=1").unwrap_err().to_string();
        assert_eq!(error, "unrecognized config key: nosuch");
        for text in ["host", "skip-tls-verify=maybe"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
