//! The minimal init that stands in front of a command: it reaps zombies, passes signals on, and ends as the command
//! does.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, getpgrp, setpgid, wait};
use rustix::stdio::stdin;
use rustix::termios::tcsetpgrp;

use crate::sys::{self, HeldSignals};

/// Forks. Returns in the child, which goes on to become the command; the parent stays behind as its init.
pub(crate) fn supervise(has_terminal: bool) -> Result<(), Errno> {
    let signals = HeldSignals::hold();
    match sys::fork()? {
        None => {
            // A group of its own, so that a Ctrl-C reaches the command once and not again through its init.
            setpgid(None, None)?;
            if has_terminal {
                tcsetpgrp(stdin(), getpgrp())?;
            }
            signals.release();
            Ok(())
        }
        Some(command) => {
            // Streams end when the command closes them; the report socket must not outlive its exec.
            let _ = sys::close_from(0, false);
            sys::exit(watch_over(command, &signals))
        }
    }
}

/// Serves until the command has ended; its exit code.
fn watch_over(command: Pid, signals: &HeldSignals) -> i32 {
    loop {
        match signals.next() {
            libc::SIGCHLD => {
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    if pid == command {
                        return exit_code(status);
                    }
                }
            }
            // These are about this process's own use of the terminal.
            libc::SIGTTIN | libc::SIGTTOU | libc::SIGTSTP => {}
            signal if signal > 0 => {
                let _ = sys::kill(command, signal);
            }
            _ => {}
        }
    }
}

/// The exit code of a process that has ended: its own, or 128 and the number of the signal that ended it.
pub(crate) fn exit_code(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::zombie_processes, reason = "it is reaped by its pid")]
    fn code_of(script: &str) -> i32 {
        let child = std::process::Command::new("sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let (_, status) = rustix::process::waitpid(pid, WaitOptions::empty())
            .unwrap()
            .unwrap();
        exit_code(status)
    }

    #[test]
    fn an_exit_code_tells_a_signal_from_an_exit() {
        assert_eq!(code_of("exit 3"), 3);
        assert_eq!(code_of("kill -KILL $$"), 137);
        assert_eq!(code_of("ulimit -c 0; kill -SEGV $$"), 139);
    }
}
