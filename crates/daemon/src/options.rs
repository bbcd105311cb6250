//! The command line, and what holds where it is silent.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{env, fs};

use anyhow::Context;
use clap::Parser;
use engine::{ClientFiles, InsecureHost, Mirror, RegistryConfig, RegistryConfigError, binary_size};
use ipnet::IpNet;

use crate::config_file::{ConfigFile, ConfigFileError};
use crate::host::Host;
use crate::logging::{LogLevel, LogSpec};
use crate::time_limit::TimeLimit;
use crate::tls::{TcpPolicy, TlsOptions};

/// What the layers in the build cache may take where nothing is said, in bytes.
const BUILD_CACHE_LIMIT: u64 = 20 << 30;

/// Runs containers, each inside a microVM of its own, behind the Docker Engine API.
#[derive(Debug, Parser)]
#[command(name = "hulld", version)]
pub(crate) struct Options {
    /// Folder of the state: containers, images, volumes [default: /var/lib/hull, or ~/.local/share/hull without root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Folder of sockets and locks [default: /run/hull, or $XDG_RUNTIME_DIR/hull without root]
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,

    /// Address of the API, as unix://PATH, tcp://ADDRESS[:PORT], or fd:// for the sockets of a systemd socket unit; may be
    /// given several times [default: hull.sock in the runtime folder]
    #[arg(short = 'H', long = "host", value_name = "URL")]
    hosts: Vec<String>,

    #[command(flatten)]
    tls: TlsOptions,

    /// Folder with hull-vmm, vmlinux and initramfs.cpio [default: $HULL_LIB, or the folder of this program]
    #[arg(long, value_name = "DIR")]
    lib: Option<PathBuf>,

    /// Folder beneath which clients' paths are found: the host's files, in a helper VM [default: /]
    #[arg(long, value_name = "DIR")]
    host_root: Option<PathBuf>,

    /// Folder with registries' certificates, HOST[:PORT]/*.crt and so on; may be given several times [default:
    /// /etc/hull/certs.d and /etc/docker/certs.d]
    #[arg(long = "certs-dir", value_name = "DIR")]
    certs_dirs: Vec<PathBuf>,

    /// Configuration file in JSON, with keys of Docker's daemon.json: "hosts", "tlsverify", "tlscacert", "tlscert",
    /// "tlskey", "insecure-registries", "registry-mirrors", and hull's own "build-time-limit" and "build-cache-limit"
    /// [default: /etc/hull/hulld.json, or ~/.config/hull/hulld.json without root]
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,

    /// Registry that may be spoken to without TLS: HOST[:PORT] or a network; may be given several times
    #[arg(long = "insecure-registry", value_name = "HOST")]
    insecure_registries: Vec<String>,

    /// Mirror of Docker Hub; may be given several times
    #[arg(long = "registry-mirror", value_name = "URL")]
    registry_mirrors: Vec<String>,

    /// Socket on which the ports that containers publish are asked of the host: the machine-agent's, in a helper VM
    #[arg(long, value_name = "PATH")]
    host_ports: Option<PathBuf>,

    /// Network, ADDRESS/BITS, that containers must not reach; may be given several times
    #[arg(long = "forbid", value_name = "NET")]
    forbidden: Vec<IpNet>,

    /// What the layers in the build cache may take, such as 500MiB or 20GiB, or none for any number of bytes; what was used
    /// longest ago is removed after a build that is above it [default: 20GiB]
    #[arg(long, value_name = "SIZE")]
    build_cache_limit: Option<String>,

    /// Address for Prometheus, HOST:PORT: counters at /metrics
    #[arg(long, value_name = "ADDRESS")]
    metrics_addr: Option<String>,

    /// How long a build may take, such as 30m or 1h30m [default: no limit]
    #[arg(long, value_name = "DURATION")]
    build_time_limit: Option<TimeLimit>,

    /// How much is logged [default: info]
    #[arg(short = 'l', long, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,

    /// Log as --log-level debug does
    #[arg(short = 'D', long, conflicts_with = "log_level")]
    debug: bool,
}

/// Where everything is. All paths are absolute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) root: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) hosts: Vec<Host>,
    pub(crate) tcp: TcpPolicy,
    pub(crate) metrics: Option<String>,
    pub(crate) log: LogSpec,
    /// The configuration file, whether or not it is there.
    pub(crate) config_file: Option<PathBuf>,
    /// Whether it has to be there.
    pub(crate) config_file_needed: bool,
    pub(crate) lib: PathBuf,
    pub(crate) host_root: Option<PathBuf>,
    /// Empty for the usual ones.
    pub(crate) certs_dirs: Vec<PathBuf>,
    pub(crate) insecure_registries: Vec<InsecureHost>,
    pub(crate) registry_mirrors: Vec<Mirror>,
    pub(crate) host_ports: Option<PathBuf>,
    pub(crate) forbidden: Vec<IpNet>,
    pub(crate) build_time_limit: Option<Duration>,
    /// In bytes; `None` is any number.
    pub(crate) build_cache_limit: Option<u64>,
}

impl Settings {
    /// What the configuration file says now.
    pub(crate) fn read_config(&self) -> Result<ConfigFile, ConfigFileError> {
        read_config(self.config_file.as_deref(), self.config_file_needed)
    }

    /// The files that clients mean by a path.
    pub(crate) fn client_files(&self) -> ClientFiles {
        self.host_root
            .clone()
            .map_or_else(ClientFiles::default, ClientFiles::beneath)
    }

    /// How registries are reached.
    pub(crate) fn registries(&self) -> RegistryConfig {
        let mut config = RegistryConfig {
            insecure: self.insecure_registries.clone(),
            mirrors: self.registry_mirrors.clone(),
            ..RegistryConfig::default()
        };
        if !self.certs_dirs.is_empty() {
            config.certs_dirs.clone_from(&self.certs_dirs);
        }
        config
    }
}

impl Options {
    /// Fills in what the command line does not say.
    pub(crate) fn settle(self) -> anyhow::Result<Settings> {
        let runtime = absolute(self.runtime.unwrap_or_else(default_runtime))?;
        let root = match self.root {
            Some(root) => absolute(root)?,
            None => absolute(default_root()?)?,
        };
        let lib = match self.lib.or_else(|| folder_from_env("HULL_LIB")) {
            Some(lib) => absolute(lib)?,
            None => own_folder()?,
        };
        let host_root = self.host_root.map(absolute).transpose()?;
        let config_file_needed = self.config_file.is_some();
        let config_file = match self.config_file {
            Some(file) => Some(absolute(file)?),
            None => default_config_file(host_root.as_deref()),
        };
        let file = read_config(config_file.as_deref(), config_file_needed)?;
        let log = LogSpec {
            command_line: self.log_level.or(self.debug.then_some(LogLevel::Debug)),
            file: file.log_level(),
        };
        let tcp = self.tls.or(&file).policy()?;
        let hosts = if self.hosts.is_empty() {
            file.hosts
        } else {
            self.hosts
        };
        let mut hosts = hosts
            .iter()
            .map(|host| settle_host(host))
            .collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            hosts.push(Host::Unix(runtime.join("hull.sock")));
        }
        Ok(Settings {
            root,
            runtime,
            hosts,
            tcp,
            log,
            config_file,
            config_file_needed,
            metrics: self.metrics_addr.or(file.metrics_addr),
            lib,
            host_root,
            insecure_registries: parse_all(file.insecure_registries, self.insecure_registries)?,
            registry_mirrors: parse_all(file.registry_mirrors, self.registry_mirrors)?,
            host_ports: self.host_ports.map(absolute).transpose()?,
            forbidden: self.forbidden,
            build_time_limit: self
                .build_time_limit
                .or(file.build_time_limit)
                .map(Duration::from),
            build_cache_limit: build_cache_limit(
                self.build_cache_limit.or(file.build_cache_limit).as_deref(),
            )?,
            certs_dirs: self
                .certs_dirs
                .into_iter()
                .map(absolute)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn read_config(file: Option<&Path>, needed: bool) -> Result<ConfigFile, ConfigFileError> {
    file.map_or_else(
        || Ok(ConfigFile::default()),
        |file| ConfigFile::read(file, !needed),
    )
}

/// What the file and the command line name, in this order.
fn parse_all<T: FromStr<Err = RegistryConfigError>>(
    file: Vec<String>,
    command_line: Vec<String>,
) -> anyhow::Result<Vec<T>> {
    let all = file.iter().chain(&command_line);
    Ok(all.map(|text| text.parse()).collect::<Result<_, _>>()?)
}

/// `none` is no limit.
fn build_cache_limit(text: Option<&str>) -> anyhow::Result<Option<u64>> {
    match text {
        None => Ok(Some(BUILD_CACHE_LIMIT)),
        Some("none") => Ok(None),
        Some(text) => {
            let size = binary_size(text);
            let size = size.with_context(|| {
                format!("build-cache-limit {text:?} is no size: write one such as 20GiB, or none")
            });
            Ok(Some(size?))
        }
    }
}

fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("cannot make {} absolute", path.display()))
}

fn settle_host(host: &str) -> anyhow::Result<Host> {
    Ok(match host.parse()? {
        Host::Unix(path) => Host::Unix(absolute(path)?),
        other => other,
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn folder_from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn default_root() -> anyhow::Result<PathBuf> {
    if is_root() {
        return Ok("/var/lib/hull".into());
    }
    let data = folder_from_env("XDG_DATA_HOME")
        .or_else(|| Some(folder_from_env("HOME")?.join(".local/share")))
        .context("cannot tell where the state is: set HOME or give --root")?;
    Ok(data.join("hull"))
}

/// The host's, in a helper VM.
fn default_config_file(host_root: Option<&Path>) -> Option<PathBuf> {
    const NAME: &str = "hull/hulld.json";
    if is_root() {
        return Some(host_root.unwrap_or(Path::new("/")).join("etc").join(NAME));
    }
    let config =
        folder_from_env("XDG_CONFIG_HOME").or_else(|| Some(folder_from_env("HOME")?.join(".config")))?;
    Some(config.join(NAME))
}

fn default_runtime() -> PathBuf {
    if is_root() {
        return "/run/hull".into();
    }
    match folder_from_env("XDG_RUNTIME_DIR") {
        Some(runtime) => runtime.join("hull"),
        None => format!("/tmp/hull-{}", rustix::process::geteuid().as_raw()).into(),
    }
}

/// The folder of this program, behind all symbolic links.
fn own_folder() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()
        .and_then(fs::canonicalize)
        .context("cannot find the path of hulld")?;
    program
        .parent()
        .map(Path::to_owned)
        .context("the path of hulld has no folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(arguments: &[&str]) -> anyhow::Result<Settings> {
        Options::try_parse_from([&["hulld"], arguments].concat())?.settle()
    }

    #[test]
    fn the_command_line_wins_and_the_socket_follows_the_runtime_folder() {
        let settings = settle(&["--root", "/r", "--runtime", "/t", "--lib", "/l"]).unwrap();
        let expected = Settings {
            root: "/r".into(),
            runtime: "/t".into(),
            hosts: vec![Host::Unix("/t/hull.sock".into())],
            tcp: TcpPolicy::Undecided,
            metrics: None,
            log: LogSpec::default(),
            config_file: settings.config_file.clone(),
            config_file_needed: false,
            lib: "/l".into(),
            host_root: None,
            certs_dirs: Vec::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            host_ports: None,
            forbidden: Vec::new(),
            build_time_limit: None,
            build_cache_limit: Some(20 << 30),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn the_limit_of_the_build_cache_has_units() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"build-cache-limit":"1.5GiB"}"#).unwrap();
        let path = file.path().display().to_string();
        let limit = |more: &[&str]| {
            let arguments = [&["--root", "/r", "--config-file", &path], more].concat();
            settle(&arguments).map(|settings| settings.build_cache_limit)
        };
        assert_eq!(limit(&[]).unwrap(), Some(3 << 29));
        assert_eq!(limit(&["--build-cache-limit", "500m"]).unwrap(), Some(500 << 20));
        assert_eq!(limit(&["--build-cache-limit", "none"]).unwrap(), None);
        let error = limit(&["--build-cache-limit", "much"]).unwrap_err().to_string();
        assert!(error.contains("20GiB"), "{error}");
    }

    #[test]
    fn hosts_of_the_command_line_stand_for_those_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"hosts":["unix:///f.sock","fd://"]}"#).unwrap();
        let path = file.path().display().to_string();
        let hosts = |more: &[&str]| {
            let arguments = [&["--root", "/r", "--config-file", &path], more].concat();
            settle(&arguments).unwrap().hosts
        };
        assert_eq!(hosts(&[]), [Host::Unix("/f.sock".into()), Host::Inherited]);
        let named = hosts(&["-H", "unix:///s/x.sock", "--host", "fd://"]);
        assert_eq!(named, [Host::Unix("/s/x.sock".into()), Host::Inherited]);
    }

    #[test]
    fn folders_of_certificates_are_kept_in_their_order() {
        let settings = settle(&["--root", "/r", "--certs-dir", "/b", "--certs-dir", "/a"]).unwrap();
        assert_eq!(settings.certs_dirs, [Path::new("/b"), Path::new("/a")]);
    }

    #[test]
    fn what_the_helper_vm_says_of_its_network_is_kept() {
        let settings = settle(&[
            "--root",
            "/r",
            "--host-ports",
            "/p.sock",
            "--forbid",
            "198.18.0.2/32",
            "--forbid",
            "fec0::2/128",
        ])
        .unwrap();
        assert_eq!(settings.host_ports, Some("/p.sock".into()));
        let forbidden = ["198.18.0.2/32", "fec0::2/128"].map(|net| net.parse().unwrap());
        assert_eq!(settings.forbidden, forbidden);
        assert!(settle(&["--root", "/r", "--forbid", "gateway"]).is_err());
    }

    #[test]
    fn registries_come_from_the_file_and_the_command_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"insecure-registries":["a:5000"]}"#).unwrap();
        let path = file.path().display().to_string();
        let settings = settle(&[
            "--root",
            "/r",
            "--config-file",
            &path,
            "--insecure-registry",
            "10.0.0.0/8",
            "--registry-mirror",
            "https://mirror.example",
        ])
        .unwrap();
        let registries = settings.registries();
        assert_eq!(
            registries.insecure,
            ["a:5000".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]
        );
        assert_eq!(registries.mirrors, ["https://mirror.example".parse().unwrap()]);
        assert!(settle(&["--root", "/r", "--registry-mirror", "mirror.example"]).is_err());
        assert!(settle(&["--root", "/r", "--config-file", "/nonexistent/hulld.json"]).is_err());
    }

    #[test]
    fn the_limit_of_builds_comes_from_the_file_unless_the_command_line_has_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"build-time-limit":"1h30m"}"#).unwrap();
        let path = file.path().display().to_string();
        let limit = |more: &[&str]| {
            let arguments = [&["--root", "/r", "--config-file", &path], more].concat();
            settle(&arguments).map(|settings| settings.build_time_limit.unwrap().as_secs())
        };
        assert_eq!(limit(&[]).unwrap(), 5400);
        assert_eq!(limit(&["--build-time-limit", "90s"]).unwrap(), 90);
        assert!(limit(&["--build-time-limit", "90"]).is_err());
    }

    #[test]
    fn relative_folders_become_absolute() {
        let settings = settle(&["--root", "r", "--runtime", "t", "--lib", "l"]).unwrap();
        assert!(settings.root.is_absolute() && settings.runtime.is_absolute() && settings.lib.is_absolute());
    }
}
