//! The Dockerfile of a local context, and the ignore file that goes with it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dockerfile::limits::MAX_FILE;
use dockerfile::pattern::Ignore;
use sha2::{Digest, Sha256};

const DEFAULT_NAME: &str = "Dockerfile";
const IGNORE_FILE: &str = ".dockerignore";

/// A Dockerfile, and how the context has it.
#[derive(Debug)]
pub(super) struct LocalDockerfile {
    /// Its path in the context.
    pub(super) name: String,
    /// Its text, if it is any.
    pub(super) text: Option<String>,
    /// Files that the context has in place of, or beside, those of its folder.
    pub(super) added: Vec<(String, Vec<u8>)>,
    /// What the ignore file leaves out.
    pub(super) ignore: Ignore,
    /// Files of the folder that are sent in any case.
    pub(super) always: Vec<String>,
}

struct IgnoreFile {
    text: String,
    patterns: Ignore,
}

impl LocalDockerfile {
    /// The Dockerfile that `-f` names, relative to the current directory, or that of the folder. The folder's path has no
    /// links in it.
    pub(super) fn find(folder: &Path, named: Option<&str>) -> anyhow::Result<Self> {
        let given = match named {
            Some(path) => PathBuf::from(path),
            None => default_path(folder),
        };
        let path = fs::canonicalize(&given).with_context(|| {
            format!(
                "unable to prepare context: cannot find the Dockerfile {} (name another one with -f)",
                given.display()
            )
        })?;
        let content = read(&path, "Dockerfile")?;
        let ignore = read_ignore(&[&append(&path, IGNORE_FILE), &folder.join(IGNORE_FILE)])?;
        let Ok(inside) = path.strip_prefix(folder) else {
            return Ok(Self::outside(content, ignore));
        };
        let Some(name) = inside.to_str() else {
            bail!(
                "the Dockerfile {} has a name that is not UTF-8: give it another",
                path.display()
            );
        };
        Ok(Self {
            text: String::from_utf8(content).ok(),
            added: Vec::new(),
            ignore: ignore.map(|file| file.patterns).unwrap_or_default(),
            // The daemon reads them again; it leaves them out of what is copied where they are ignored.
            always: vec![
                name.to_owned(),
                format!("{name}{IGNORE_FILE}"),
                IGNORE_FILE.to_owned(),
            ],
            name: name.to_owned(),
        })
    }

    /// A Dockerfile that came from standard input, for the files of a folder.
    pub(super) fn from_stdin(folder: &Path, content: Vec<u8>) -> anyhow::Result<Self> {
        let ignore = read_ignore(&[&folder.join(IGNORE_FILE)])?;
        Ok(Self::outside(content, ignore))
    }

    /// One that the folder does not have gets a name that follows from what it says, and is left out of what is copied.
    fn outside(content: Vec<u8>, ignore: Option<IgnoreFile>) -> Self {
        let digest = Sha256::digest(&content);
        let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
        let name = format!(".dockerfile.{hex}");
        let patterns = ignore.as_ref().map_or(IGNORE_FILE, |file| &file.text);
        let sent_ignore = format!("{patterns}\n{name}\n");
        Self {
            text: String::from_utf8(content.clone()).ok(),
            added: vec![
                (name.clone(), content),
                (IGNORE_FILE.to_owned(), sent_ignore.into_bytes()),
            ],
            ignore: ignore.map(|file| file.patterns).unwrap_or_default(),
            always: Vec::new(),
            name,
        }
    }
}

/// `Dockerfile`; in small letters where there is only that.
fn default_path(folder: &Path) -> PathBuf {
    let path = folder.join(DEFAULT_NAME);
    let small = folder.join(DEFAULT_NAME.to_ascii_lowercase());
    if !path.exists() && small.exists() {
        small
    } else {
        path
    }
}

fn append(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The first of these files that there is.
fn read_ignore(paths: &[&Path]) -> anyhow::Result<Option<IgnoreFile>> {
    let Some(path) = paths.iter().find(|path| path.exists()) else {
        return Ok(None);
    };
    let wrong = || format!("the ignore file {} is wrong", path.display());
    let text = String::from_utf8(read(path, "ignore file")?).with_context(wrong)?;
    let patterns = Ignore::parse(&text).with_context(wrong)?;
    Ok(Some(IgnoreFile { text, patterns }))
}

fn read(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read the {what} {}", path.display());
    let mut content = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    // One byte more than there may be, which is then too many.
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut content)
        .with_context(cannot)?;
    if content.len() > MAX_FILE {
        bail!(
            "the {what} {} is larger than {} KiB",
            path.display(),
            MAX_FILE >> 10
        );
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(folder.path()).unwrap();
        for (name, content) in files {
            fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            fs::write(path.join(name), content).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn the_folders_own_is_found_in_small_letters_too() {
        let (_kept, path) = folder(&[("dockerfile", "FROM a")]);
        assert_eq!(LocalDockerfile::find(&path, None).unwrap().name, "dockerfile");
        fs::write(path.join("Dockerfile"), "FROM b").unwrap();
        let found = LocalDockerfile::find(&path, None).unwrap();
        assert_eq!(
            (found.name.as_str(), found.text.as_deref()),
            ("Dockerfile", Some("FROM b"))
        );
        let (_kept, empty) = folder(&[]);
        let error = LocalDockerfile::find(&empty, None).unwrap_err().to_string();
        assert!(
            error.contains("cannot find the Dockerfile") && error.contains("-f"),
            "{error}"
        );
    }

    #[test]
    fn a_link_leads_to_the_file_that_is_read() {
        let (_kept, path) = folder(&[("sub/real", "FROM a"), ("sub/real.dockerignore", "x")]);
        symlink("sub/real", path.join("Dockerfile")).unwrap();
        let found = LocalDockerfile::find(&path, None).unwrap();
        assert_eq!(found.name, "sub/real");
        assert!(found.ignore.matches("x"));
    }

    #[test]
    fn an_ignore_file_of_its_own_comes_first() {
        let (_kept, path) = folder(&[
            (".dockerignore", "all"),
            ("a", ""),
            ("b", ""),
            ("b.dockerignore", "own"),
        ]);
        for (name, expected) in [("a", ["all", "own"]), ("b", ["own", "all"])] {
            let name = path.join(name);
            let ignore = LocalDockerfile::find(&path, name.to_str()).unwrap().ignore;
            assert!(ignore.matches(expected[0]) && !ignore.matches(expected[1]));
        }
    }

    #[test]
    fn one_from_elsewhere_is_added_and_ignored() {
        let (_kept, path) = folder(&[(".dockerignore", "x")]);
        let (_other, elsewhere) = folder(&[("D", "FROM a")]);
        let named = elsewhere.join("D");
        for found in [
            LocalDockerfile::find(&path, named.to_str()).unwrap(),
            LocalDockerfile::from_stdin(&path, b"FROM a".to_vec()).unwrap(),
        ] {
            assert!(found.name.starts_with(".dockerfile."), "{}", found.name);
            assert_eq!(found.added[0], (found.name.clone(), b"FROM a".to_vec()));
            let ignore = format!("x\n{}\n", found.name);
            assert_eq!(found.added[1], (".dockerignore".to_owned(), ignore.into_bytes()));
            assert!(found.ignore.matches("x"));
        }
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let (_kept, path) = folder(&[("Dockerfile", &"#".repeat(MAX_FILE + 1))]);
        let error = LocalDockerfile::find(&path, None).unwrap_err().to_string();
        assert!(error.contains("larger than 1024 KiB"), "{error}");
    }
}
