//! `--iidfile`: the image's ID in a file, which is there only when the build has succeeded.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tempfile::Builder;

/// The mode of a file that is no secret, before the umask.
const MODE: u32 = 0o666;

/// Takes away what an earlier build wrote, so that nobody takes it for this one's.
pub(super) fn clear(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the image ID file {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes the ID; the file appears with all of it.
pub(super) fn write(path: &Path, id: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the image ID file {}", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = Builder::new()
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
        .with_context(cannot)?;
    file.write_all(id.as_bytes()).with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        clear(&path).unwrap();
        write(&path, "sha256:00").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "sha256:00");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        clear(&path).unwrap();
        assert!(!path.exists());
        assert!(clear(folder.path()).is_err());
        assert!(write(&path.join("x"), "").is_err());
    }
}
