//! Large files that the daemon has from an earlier context: they are not sent again.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar_stream::Xattr;

use crate::api::{Client, Target};

/// Files from this size on, in bytes, are kept by the daemon for later contexts.
pub(super) const LEAST: u64 = 64 << 10;
/// The attribute that stands for the content of a file: its digest, a space and its size.
const ATTRIBUTE: &str = "hull.content";
const PIECE: usize = 128 << 10;

/// A large file of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LargeFile {
    pub(super) path: PathBuf,
    digest: String,
    size: u64,
}

impl LargeFile {
    /// Reads it.
    pub(super) fn read(path: &Path, mut file: &File) -> io::Result<Self> {
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match file.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            size += count as u64;
        }
        let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            path: path.to_owned(),
            digest: format!("sha256:{digits}"),
            size,
        })
    }
}

/// Those that the daemon has.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(HashMap<PathBuf, LargeFile>);

impl Known {
    /// Asks the daemon. One that does not understand the question has none.
    pub(super) async fn ask(client: &Client, files: Vec<LargeFile>) -> Self {
        if files.is_empty() {
            return Self::default();
        }
        let contents = files
            .iter()
            .map(|file| json!({ "Digest": file.digest, "Size": file.size }));
        let question = json!({ "Contents": contents.collect::<Vec<Value>>() });
        let target = Target::new(&["hull", "build", "contents"]);
        match client.post(target, &question).await {
            Ok(missing) => Self::without(files, &missing),
            Err(_) => Self::default(),
        }
    }

    fn without(files: Vec<LargeFile>, missing: &HashSet<String>) -> Self {
        let known = files.into_iter().filter(|file| !missing.contains(&file.digest));
        Self(known.map(|file| (file.path.clone(), file)).collect())
    }

    /// What stands for the content of a file, if the daemon has it. One whose size is another one by now has been changed.
    pub(super) fn attribute(&self, path: &Path, size: u64) -> Option<Xattr> {
        let file = self.0.get(path).filter(|file| file.size == size)?;
        Some(Xattr {
            name: ATTRIBUTE.into(),
            value: format!("{} {}", file.digest, file.size).into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_lacks_and_what_has_changed_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            LargeFile::read(&path, &File::open(&path).unwrap()).unwrap()
        };
        let (known, lacking) = (file("known", "abc"), file("lacking", "def"));
        assert_eq!(
            known.digest,
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let missing = HashSet::from([lacking.digest.clone()]);
        let all = Known::without(vec![known.clone(), lacking.clone()], &missing);
        let attribute = all.attribute(&known.path, 3).unwrap();
        assert_eq!(attribute.value, format!("{} 3", known.digest).into_bytes());
        assert_eq!(all.attribute(&known.path, 4), None);
        assert_eq!(all.attribute(&lacking.path, 3), None);
    }
}
