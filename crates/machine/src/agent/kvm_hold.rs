//! KVM, kept on in the helper VM.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::LIB;

/// An empty virtual machine, there as long as this is.
///
/// The first virtual machine to come and the last one to go make KVM patch the code of the helper VM's scheduler. On an emulated
/// processor a CPU may go on executing the breakpoint that stands in for code that is being patched: the helper VM hangs.
pub(super) struct KvmHold {
    /// Ends when its standard input is closed, which is when this is dropped.
    holder: Child,
}

impl KvmHold {
    /// Make the virtual machine.
    pub(super) fn take() -> io::Result<Self> {
        let mut holder = Command::new(Path::new(LIB).join("hull-vmm"));
        holder.arg("hold").stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(KvmHold {
            holder: holder.spawn()?,
        })
    }

    /// Process id of who holds it; `None` when that has ended.
    pub(super) fn pid(&self) -> Option<u32> {
        self.holder.id()
    }
}
