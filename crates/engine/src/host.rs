//! What the host has.

use std::fs;
use std::path::Path;

/// The host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) name: String,
    pub(crate) kernel: String,
    pub(crate) machine: String,
    pub(crate) operating_system: String,
}

impl Host {
    /// Looks around.
    pub(crate) fn look() -> Host {
        let names = rustix::system::uname();
        let memory = rustix::system::sysinfo();
        let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
        Host {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.totalram as u64 * u64::from(memory.mem_unit),
            name: text(names.nodename()),
            kernel: text(names.release()),
            machine: text(names.machine()),
            operating_system: operating_system().unwrap_or_else(|| text(names.sysname())),
        }
    }
}

/// The release of a Linux kernel, from the banner in its image: `Linux version RELEASE (...`.
pub(crate) fn kernel_release(image: &Path) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let image = fs::read(image).ok()?;
    let releases = image
        .windows(BANNER.len())
        .enumerate()
        .filter(|(_, window)| *window == BANNER);
    // Format strings have the same beginning.
    releases
        .filter_map(|(at, _)| release(&image[at + BANNER.len()..]))
        .next()
}

/// The release at the beginning of a text.
fn release(text: &[u8]) -> Option<String> {
    const LONGEST: usize = 64;
    let end = text.iter().take(LONGEST).position(|&byte| byte == b' ')?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    release
        .starts_with(|first: char| first.is_ascii_digit())
        .then(|| release.to_owned())
}

/// `PRETTY_NAME` of os-release(5).
fn operating_system() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release")
        .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
        .ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_release_is_in_its_banner() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("vmlinux");
        fs::write(
            &image,
            b"\x7fELF\0Linux version %s\0Linux version 6.12.1-x (me@here) #1\n\0",
        )
        .unwrap();
        assert_eq!(kernel_release(&image).unwrap(), "6.12.1-x");
        fs::write(&image, b"Linux version 6.12").unwrap();
        assert_eq!(kernel_release(&image), None);
        assert_eq!(kernel_release(Path::new("/nonexistent")), None);
    }
}
