//! What comes on standard input: a Dockerfile, or an archive of a context.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, bail};
use dockerfile::limits::MAX_FILE;

use crate::stream;

const CANNOT: &str = "cannot read standard input";
/// A block of a tar archive.
const BLOCK: usize = 512;
/// Where a block has its checksum.
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// How gzip, bzip2, xz and zstd begin.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];

/// What there is on standard input.
#[derive(Debug)]
pub(super) enum Input {
    /// An archive, compressed or not: what was read of it, and the rest.
    Archive(Vec<u8>, File),
    /// The text of a Dockerfile.
    Dockerfile(Vec<u8>),
}

/// Looks at standard input. It waits for somebody to write, beside what else is to be done.
pub(super) async fn open() -> anyhow::Result<Input> {
    let opened = tokio::task::spawn_blocking(|| {
        let mut file = stream::stdin_file().context(CANNOT)?;
        let head = head(&mut file).context(CANNOT)?;
        if head.is_empty() {
            bail!("there is neither a Dockerfile nor an archive on standard input: it is empty");
        }
        if is_archive(&head) {
            return Ok(Input::Archive(head, file));
        }
        Ok(Input::Dockerfile(text(head, file)?))
    });
    opened.await?
}

/// The Dockerfile on standard input, where the context is another.
pub(super) async fn dockerfile() -> anyhow::Result<Vec<u8>> {
    match open().await? {
        Input::Dockerfile(text) => Ok(text),
        Input::Archive(..) => {
            bail!("there is an archive on standard input, where -f - asks for a Dockerfile")
        }
    }
}

fn head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BLOCK);
    input.take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn text(mut text: Vec<u8>, rest: impl Read) -> anyhow::Result<Vec<u8>> {
    rest.take(MAX_FILE as u64)
        .read_to_end(&mut text)
        .context(CANNOT)?;
    if text.len() > MAX_FILE {
        bail!(
            "what is on standard input is no archive, and a Dockerfile is not larger than {} KiB",
            MAX_FILE >> 10
        );
    }
    Ok(text)
}

fn is_archive(head: &[u8]) -> bool {
    COMPRESSED.iter().any(|magic| head.starts_with(magic)) || is_tar(head)
}

/// Whether a block begins an archive: it has a right checksum, or is the end of an empty one.
fn is_tar(head: &[u8]) -> bool {
    if head.len() < BLOCK {
        return false;
    }
    if head.iter().all(|byte| *byte == 0) {
        return true;
    }
    let stored = head
        .get(CHECKSUM)
        .and_then(|field| std::str::from_utf8(field).ok());
    let stored = stored.and_then(|field| u32::from_str_radix(field.trim_matches(['\0', ' ']), 8).ok());
    let counted = |(at, byte): (usize, &u8)| match CHECKSUM.contains(&at) {
        true => u32::from(b' '),
        false => u32::from(*byte),
    };
    stored == Some(head.iter().enumerate().map(counted).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar_stream::{Entry, EntryKind, Writer};

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for name in names {
            writer.begin(&Entry::new(*name, EntryKind::Directory)).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        for input in [
            archive(&["a/"]),
            archive(&[]),
            b"\x1f\x8b\x08".to_vec(),
            b"BZh9".to_vec(),
            b"\xfd7zXZ\0".to_vec(),
            b"\x28\xb5\x2f\xfd\0".to_vec(),
        ] {
            assert!(is_archive(&input[..input.len().min(BLOCK)]), "{input:?}");
        }
        let mut damaged = archive(&["a/"]);
        damaged[0] = b'b';
        let long = format!("FROM busybox\n{}", "#\n".repeat(BLOCK));
        for input in [&damaged, long.as_bytes(), b"FROM busybox", b"\0"] {
            assert!(!is_archive(&input[..input.len().min(BLOCK)]));
        }
    }

    #[test]
    fn a_text_has_an_end() {
        let long = "#".repeat(MAX_FILE);
        assert_eq!(
            text(b"a".to_vec(), &long.as_bytes()[1..]).unwrap().len(),
            MAX_FILE
        );
        assert!(text(b"a".to_vec(), long.as_bytes()).is_err());
    }
}
