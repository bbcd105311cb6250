//! Finding the program of a command, with the answers Docker's users know.

use std::ffi::CString;

use guest_protocol::ErrorKind;
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

/// A command that cannot be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("no command specified")]
    Empty,
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    #[error("exec: {0:?}: stat {0}: no such file or directory")]
    NotFound(String),
    #[error("exec: {0:?}: is a directory")]
    Directory(String),
    #[error("exec: {0:?}: permission denied")]
    PermissionDenied(String),
    #[error("exec {program}: {}", describe(*source))]
    Refused { program: String, source: Errno },
}

impl CommandError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            CommandError::NotInPath(_) | CommandError::NotFound(_) => ErrorKind::CommandNotFound,
            // The program is there, but what it names as its interpreter is not.
            CommandError::Refused {
                source: Errno::NOENT, ..
            } => ErrorKind::CommandNotFound,
            CommandError::Empty => ErrorKind::Failed,
            _ => ErrorKind::CommandNotExecutable,
        }
    }
}

/// The words Docker's users know an error by.
fn describe(error: Errno) -> String {
    match error {
        Errno::NOENT => "no such file or directory".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::TOOBIG => "argument list too long".into(),
        error => error.to_string(),
    }
}

/// The path of the program that `command` names, as this process sees it: with a slash it is a path, otherwise it is
/// looked up in the directories of `path`, the value of `PATH`.
pub(crate) fn find(command: &str, path: &str) -> Result<CString, CommandError> {
    if command.is_empty() {
        return Err(CommandError::Empty);
    }
    if command.contains('/') {
        let program = CString::new(command).map_err(|_| CommandError::NotFound(command.into()))?;
        return match check(&program) {
            Ok(()) => Ok(program),
            Err(Errno::ISDIR) => Err(CommandError::Directory(command.into())),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(CommandError::NotFound(command.into())),
            Err(Errno::ACCESS) => Err(CommandError::PermissionDenied(command.into())),
            Err(source) => Err(CommandError::Refused {
                program: command.into(),
                source,
            }),
        };
    }
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .filter_map(|directory| CString::new(format!("{}/{command}", directory.trim_end_matches('/'))).ok())
        .find(|program| check(program).is_ok())
        .ok_or_else(|| CommandError::NotInPath(command.into()))
}

/// Whether this process may execute the file.
fn check(program: &CString) -> Result<(), Errno> {
    let status = stat(program)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    accessat(CWD, program, Access::EXEC_OK, AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// Two directories of `PATH`: `first/tool` is not executable, `second/tool` is, and `first/dir` is a directory.
    struct Programs(PathBuf);

    impl Programs {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("command-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("first/dir")).unwrap();
            fs::create_dir_all(root.join("second")).unwrap();
            for (file, mode) in [("first/tool", 0o644), ("second/tool", 0o755)] {
                fs::write(root.join(file), "").unwrap();
                fs::set_permissions(root.join(file), fs::Permissions::from_mode(mode)).unwrap();
            }
            Self(root)
        }

        fn path(&self) -> String {
            let root = self.0.display();
            format!("{root}/missing::{root}/first:{root}/second/")
        }

        fn file(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }
    }

    impl Drop for Programs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_first_executable_in_path_is_found() {
        let programs = Programs::new("path");
        let found = find("tool", &programs.path()).unwrap();
        assert_eq!(found.to_str().unwrap(), programs.file("second/tool"));
    }

    #[test]
    fn what_is_not_in_path_says_so_as_docker_does() {
        let programs = Programs::new("absent");
        for command in ["dir", "nothing"] {
            let error = find(command, &programs.path()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("exec: \"{command}\": executable file not found in $PATH")
            );
            assert_eq!(error.kind(), ErrorKind::CommandNotFound);
        }
        assert_eq!(find("tool", ""), Err(CommandError::NotInPath("tool".into())));
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        let programs = Programs::new("slash");
        assert_eq!(
            find(&programs.file("second/tool"), "").unwrap().to_str().unwrap(),
            programs.file("second/tool")
        );
        let missing = programs.file("nothing");
        let error = find(&missing, &programs.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("exec: \"{missing}\": stat {missing}: no such file or directory")
        );
        assert_eq!(error.kind(), ErrorKind::CommandNotFound);
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_code_126() {
        let programs = Programs::new("denied");
        let (file, directory) = (programs.file("first/tool"), programs.file("first/dir"));
        let error = find(&file, "").unwrap_err();
        assert_eq!(error.to_string(), format!("exec: \"{file}\": permission denied"));
        assert_eq!(error.kind(), ErrorKind::CommandNotExecutable);
        assert_eq!(
            find(&directory, ""),
            Err(CommandError::Directory(directory.clone()))
        );
    }

    #[test]
    fn an_empty_command_is_refused() {
        assert_eq!(find("", "/bin"), Err(CommandError::Empty));
    }
}
