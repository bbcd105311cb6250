//! The socket of the API.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::UnixListener;

/// The longest path of a unix socket in bytes (`sun_path` without its final zero).
const PATH_MAX: usize = 107;

/// How long a connection to a socket that nobody serves may stay open: much longer than an exec takes.
const DROPPED_WITHIN: Duration = Duration::from_millis(500);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Somebody answers there.
    #[error("cannot listen on {}: another program does so already", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("cannot listen on {}: it exists and is no socket; remove it or choose another with --host", .0.display())]
    NoSocket(PathBuf),
    /// The kernel cannot take the path.
    #[error("cannot listen on {}: a unix socket's path has at most {PATH_MAX} bytes; choose another with --host", .0.display())]
    PathTooLong(PathBuf),
    /// The system refused.
    #[error("cannot listen on {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket, removed when this is dropped. Only its owner and group may connect.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    path: PathBuf,
}

impl ApiSocket {
    /// Binds a socket; takes the place of one that nobody listens on.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        if path.as_os_str().len() > PATH_MAX {
            return Err(SocketError::PathTooLong(path.to_owned()));
        }
        remove_stale(path)?;
        // The mode is right from the first moment: changing it later would leave a gap.
        let before = umask(Mode::from_raw_mode(0o117));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(|source| SocketError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok((
            Self {
                path: path.to_owned(),
            },
            listener,
        ))
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(connection) if stays_open(&connection) => Err(SocketError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether somebody is at the other end. A program that a daemon was about to run when it was killed has the daemon's
/// listening socket until its exec, which then drops the connection; a server waits for a request.
fn stays_open(mut connection: &UnixStream) -> bool {
    let waits = connection.set_read_timeout(Some(DROPPED_WITHIN));
    let read = waits.and_then(|()| connection.read(&mut [0]));
    !matches!(read, Ok(0)) && !read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn only_owner_and_group_may_connect_and_the_socket_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let (socket, _listener) = ApiSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a closed listener leaves its socket");
        let (_socket, _listener) = ApiSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_in_use_and_a_file_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let (_socket, _listener) = ApiSocket::bind(&path).unwrap();
        assert!(matches!(ApiSocket::bind(&path), Err(SocketError::InUse(_))));
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(ApiSocket::bind(&file), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_whose_last_listener_is_just_going_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let going = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let next = std::thread::spawn({
            let path = path.clone();
            move || remove_stale(&path)
        });
        // The connection waits in the backlog; closing the listener resets it.
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(&going, rustix::event::PollFlags::IN)],
            None,
        )
        .unwrap();
        drop(going);
        next.join().unwrap().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_the_kernel_cannot_take_is_refused_by_its_length() {
        let path = Path::new("/tmp").join("x".repeat(PATH_MAX));
        let error = ApiSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("at most 107 bytes"), "{error}");
    }
}
