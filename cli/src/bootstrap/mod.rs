//! Brings up a daemon when nobody listens at the default socket: on this host where its KVM is
//! good for it and the user is root, in the helper VM everywhere else.

mod daemon;

use std::io;
use std::path::{Path, PathBuf};

use machine::{HostReport, Machine, MachineDirs, MachineError, Placement, Renewal};
use thiserror::Error;

use crate::api::Directories;
use crate::failure::complain;
use crate::installation;

pub(crate) use daemon::{SESSION_ARGUMENT, become_session_leader};

/// No daemon could be started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// hull is not where its other parts are.
    #[error("cannot find hull's own programs: {source}")]
    Installation {
        /// Why.
        source: io::Error,
    },
    /// `hulld` is not where it should be.
    #[error("cannot start hulld: there is no {}; install hull with its daemon, or name a running one with --host", path.display())]
    NoDaemon {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something about files or processes.
    #[error("cannot start hulld: {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It ended instead of listening.
    #[error("hulld ended at once ({status}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines in it.
        tail: String,
    },
    /// The helper VM did not come up.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Starts what this host needs and returns when somebody listens at `socket`. Says on standard
/// error what is started and why.
pub(crate) async fn start_daemon(socket: &Path) -> Result<(), StartError> {
    let directories = Directories::of_this_user();
    let lib = installation::lib_dir().map_err(|source| StartError::Installation { source })?;
    let host = HostReport::gather(&directories.runtime);
    match host.placement() {
        Placement::Host => daemon::start(&directories, &lib),
        Placement::Machine { .. } => {
            let mut say = |line: &str| complain(line);
            let machine = machine_of(&directories, &lib, socket);
            machine.ensure_running(&host, &mut say).await?;
            Ok(())
        }
    }
}

fn machine_of(directories: &Directories, lib: &Path, socket: &Path) -> Machine {
    let Directories { state, runtime } = directories;
    Machine::new(MachineDirs::new(state, runtime, lib, socket))
}

/// Restarts a helper VM of an older build of hull when nothing goes on in it; says once of each build what to do when
/// something does.
pub(crate) async fn renew_machine(socket: &Path) -> Result<(), StartError> {
    let directories = Directories::of_this_user();
    let lib = installation::lib_dir().map_err(|source| StartError::Installation { source })?;
    let machine = machine_of(&directories, &lib, socket);
    let mut say = |line: &str| complain(line);
    let host = || HostReport::gather(&directories.runtime);
    if let Renewal::Postponed(Some(reason)) = machine.renew(host, &mut say).await? {
        complain(format_args!(
            "hull: the helper VM is of an older build of hull, and {reason}: `hull machine stop` ends it, the next command starts the new one"
        ));
    }
    Ok(())
}
