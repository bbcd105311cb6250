//! The controlling terminal of a process.

use std::os::fd::{AsFd, OwnedFd};

use guest_protocol::WindowSize;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::mounts;
use crate::os_error::{During, OsError};
use crate::root::Root;

/// Both sides of a new terminal.
pub(crate) struct Terminal {
    /// What the host reads and writes.
    pub(crate) controller: OwnedFd,
    /// What the process has as its stdin, stdout and stderr.
    pub(crate) process: OwnedFd,
}

impl Terminal {
    /// Makes one in the `/dev/pts` of the container that this process is in, so that its name means something there.
    pub(crate) fn open(size: WindowSize, owner: u32) -> Result<Self, OsError> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let controller = open(c"/dev/pts/ptmx", flags, Mode::empty()).during("open", "/dev/pts/ptmx")?;
        unlockpt(&controller).during("unlock", "the terminal")?;
        resize(&controller, size).during("resize", "the terminal")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let process =
            ioctl_tiocgptpeer(&controller, flags).during("open", "the process's side of the terminal")?;
        // The group stays tty, as devpts has it.
        fchown(&process, Some(Uid::from_raw(owner)), None::<Gid>)
            .during("change the owner of", "the terminal")?;
        Ok(Self { controller, process })
    }

    /// Shows the terminal as `/dev/console` too.
    pub(crate) fn mount_as_console(&self, root: &Root) -> Result<(), OsError> {
        let name = ptsname(&self.controller, Vec::new()).during("name", "the terminal")?;
        let terminal = root
            .find(&name.to_string_lossy())
            .during("find", name.to_string_lossy())?;
        let mount = mounts::bind(&terminal).during("bind", name.to_string_lossy())?;
        let console = root.file("/dev/console")?;
        mounts::attach(&mount, &console).during("mount", "/dev/console")
    }
}

/// Tells a terminal its size.
pub(crate) fn resize(terminal: impl AsFd, size: WindowSize) -> Result<(), Errno> {
    tcsetwinsize(
        terminal,
        Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}
