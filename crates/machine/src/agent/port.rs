//! The VM's end of the channel to the host.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify;

use super::PREAMBLE;

/// QEMU's command line gives the VM one virtio-serial device with one port, number 1.
const PORT: &str = "/dev/vport0p1";

/// Open the port and greet the host. Blocks until both the device and the host's end are there.
pub(super) fn open() -> io::Result<OwnedFd> {
    wait_for(Path::new(PORT))?;
    let mut port = OpenOptions::new().read(true).write(true).open(PORT)?;
    // A blocking write waits until the host has its end open; a read before that would look like its end.
    port.write_all(PREAMBLE)?;
    Ok(port.into())
}

/// Wait until `path` exists, without looking again and again.
pub(super) fn wait_for(path: &Path) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a path with a folder and a name");
    let (folder, name) = (
        path.parent().ok_or_else(invalid)?,
        path.file_name().ok_or_else(invalid)?,
    );
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(
        &watch,
        folder,
        inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO,
    )?;
    // Looked at only now: what is created later is seen by the watch.
    if path.exists() {
        return Ok(());
    }
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    loop {
        let event = reader.next()?;
        if event
            .file_name()
            .is_some_and(|created| created.to_bytes() == name.as_bytes())
        {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn waiting_ends_when_the_file_appears_and_not_before() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("socket");
        let (done, ended) = mpsc::channel();
        let waiting = path.clone();
        std::thread::spawn(move || done.send(wait_for(&waiting)));
        std::fs::write(tmp.path().join("another"), b"").unwrap();
        assert!(ended.recv_timeout(Duration::from_millis(200)).is_err());
        std::fs::write(&path, b"").unwrap();
        ended.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
        wait_for(&path).unwrap();
    }
}
