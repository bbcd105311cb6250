//! Where hull's other programs are.

use std::env;
use std::io;
use std::path::PathBuf;

/// Overrides where the other programs are looked for.
pub(crate) const LIB_VARIABLE: &str = "HULL_LIB";

/// `lib/hull` beside the `bin` that this program is in.
///
/// # Errors
/// The program's own path cannot be found out.
pub(crate) fn lib_dir() -> io::Result<PathBuf> {
    if let Some(lib) = env::var_os(LIB_VARIABLE).filter(|lib| !lib.is_empty()) {
        return Ok(lib.into());
    }
    let program = env::current_exe()?.canonicalize()?;
    let prefix = program.parent().and_then(|bin| bin.parent());
    Ok(prefix.unwrap_or(&program).join("lib/hull"))
}
