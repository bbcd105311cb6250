//! Seccomp profiles of users, in the form that Docker and the OCI have for them, as programs for the guest's kernel.
//!
//! libseccomp is no crate, and seccompiler has one action for all rules of a filter and one instruction set, where a
//! profile has an error for each rule and 32-bit programs beside the others. So the program is put together here.

mod names;
mod profile;
mod program;

use sandbox::{FilterInstruction, MAX_INSTRUCTIONS};

pub(crate) use self::profile::ProfileError;

/// The longest text of a profile.
const MAX_TEXT: usize = 256 * 1024;
/// The kernel of the microVMs, `kernel-config`.
const GUEST_KERNEL: (u32, u32) = (6, 12);

/// The program of a profile for processes with these capabilities.
pub(crate) fn program(
    profile: &str,
    capabilities: &[String],
) -> Result<Vec<FilterInstruction>, ProfileError> {
    if profile.len() > MAX_TEXT {
        return Err(ProfileError::TooLong(profile.len()));
    }
    let rules = profile::read(profile, capabilities, GUEST_KERNEL)?;
    let program = program::compile(&rules);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(ProfileError::TooManyInstructions(program.len()));
    }
    Ok(program)
}

#[cfg(test)]
mod tests;
