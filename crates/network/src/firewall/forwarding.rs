//! The host as a router (Documentation/networking/ip-sysctl.rst), in the network namespace of the calling thread.

use std::path::{Path, PathBuf};
use std::{fs, io};

use thiserror::Error;

const IPV4: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6_INTERFACES: &str = "/proc/sys/net/ipv6/conf";

/// The host will not forward.
#[derive(Debug, Error)]
#[error("cannot {action} {}, without which containers reach nothing beyond the host: {source}; it takes root and a writable /proc/sys", path.display())]
pub struct ForwardingError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Has the host forward IPv4, and IPv6 if `v6`. Where a host forwards already, nothing changes.
///
/// A host that forwards IPv6 takes no notice of routers, unless its interfaces are told to do it all the same (`accept_ra=2`): those
/// that did before still do.
///
/// # Errors
/// If a setting cannot be read or written, for instance because the kernel has no IPv6.
// Settings are those of the calling thread's network namespace, so that no other thread may write them.
pub async fn enable_forwarding(v6: bool) -> Result<(), ForwardingError> {
    set(Path::new(IPV4), "1")?;
    let interfaces = Path::new(IPV6_INTERFACES);
    let all = interfaces.join("all/forwarding");
    if !v6 || get(&all)? == "1" {
        return Ok(());
    }
    keep_listening_to_routers(interfaces)?;
    set(&all, "1")
}

fn keep_listening_to_routers(interfaces: &Path) -> Result<(), ForwardingError> {
    let failed = |source| failed("list", interfaces)(source);
    for interface in fs::read_dir(interfaces).map_err(failed)? {
        let interface = interface.map_err(failed)?;
        // What is to come is not the host's way to the world, but bridges of containers.
        if matches!(interface.file_name().to_str(), Some("all" | "default")) {
            continue;
        }
        let setting = interface.path().join("accept_ra");
        match get(&setting) {
            Ok(value) if value == "1" => set(&setting, "2")?,
            // An interface may go meanwhile.
            Err(error) if error.source.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn get(path: &Path) -> Result<String, ForwardingError> {
    let value = fs::read_to_string(path).map_err(failed("read", path))?;
    Ok(value.trim().to_owned())
}

/// Writes only what changes: even the same value resets others that depend on it.
fn set(path: &Path, value: &str) -> Result<(), ForwardingError> {
    if get(path)? == value {
        return Ok(());
    }
    fs::write(path, value).map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ForwardingError + use<> {
    let path = path.to_owned();
    move |source| ForwardingError { action, path, source }
}
