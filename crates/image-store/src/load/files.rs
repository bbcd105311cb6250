//! The files of an archive as they pass: layers into the store, documents into memory.

use super::documents::{blob_path, digest_in_path};
use super::{LayerProgress, LoadError};
use crate::blob::{BlobId, ExpectedBlob};
use crate::compression::Compression;
use crate::digest::Digest;
use crate::ingest::{Ingest, StoredLayer};
use crate::layer_file::Keep;
use crate::limits::Limits;
use crate::manifest::MAX_JSON;
use crate::store::Result;
use std::collections::HashMap;
use std::io::{self, BufReader, Cursor, Read};
use tar_stream::{EntryKind, Reader};

/// All documents of an archive together, in bytes.
pub(crate) const MAX_DOCUMENTS: u64 = 24 << 20;
/// What an entry costs besides its content when documents are counted.
const ENTRY_COST: u64 = 256;
/// Links that lead to a file through each other.
const MAX_LINKS: usize = 8;
/// A tar header.
const HEADER: usize = 512;

/// What an archive held.
#[derive(Debug, Default)]
pub(super) struct ArchiveFiles {
    documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, StoredLayer>,
    links: HashMap<String, String>,
}

/// Reads an archive to its end.
pub(super) fn read_files(
    ingest: &Ingest,
    input: impl Read,
    limits: &Limits,
    tell: &mut dyn FnMut(LayerProgress<'_>),
) -> Result<ArchiveFiles> {
    let mut files = ArchiveFiles::default();
    let mut archive = Reader::new(BufReader::with_capacity(128 * 1024, input));
    let mut documents = 0;
    while let Some(entry) = archive.next().map_err(LoadError::Archive)? {
        let path = clean(&entry.path);
        documents += ENTRY_COST;
        match entry.kind {
            EntryKind::Regular => {
                let mut content = archive.content(&entry);
                documents += files.take(ingest, path, entry.size, &mut content, limits, tell)?;
            }
            EntryKind::Symlink => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let target = clean(&[folder.as_bytes(), b"/", &entry.link].concat());
                files.links.insert(path, target);
            }
            EntryKind::HardLink => {
                files.links.insert(path, clean(&entry.link));
            }
            _ => {}
        }
        if documents > MAX_DOCUMENTS {
            return Err(LoadError::TooManyDocuments.into());
        }
    }
    Ok(files)
}

impl ArchiveFiles {
    /// Takes a file; how many bytes of it stay in memory.
    fn take(
        &mut self,
        ingest: &Ingest,
        path: String,
        size: u64,
        content: &mut dyn Read,
        limits: &Limits,
        tell: &mut dyn FnMut(LayerProgress<'_>),
    ) -> Result<u64> {
        let mut start = Vec::new();
        content
            .take(HEADER as u64)
            .read_to_end(&mut start)
            .map_err(LoadError::Read)?;
        if is_layer(&path, &start) {
            let mut content = ToldReader::new(Cursor::new(start).chain(content), &path, size, tell);
            let layer = match digest_in_path(&path) {
                Some(digest) if size <= limits.blob_bytes => {
                    ingest.bring_layer(&mut content, BlobId { digest, size }, None)?.0
                }
                digest => {
                    let expected = ExpectedBlob {
                        name: path.clone(),
                        size: Some(size),
                        digest,
                    };
                    ingest.store_layer(&mut content, &expected, None, Keep::Compressed)?
                }
            };
            content.stored();
            self.layers.insert(path, layer);
            return Ok(0);
        }
        if size > MAX_JSON {
            // Neither a layer nor a document: if something needs it, it will be missed.
            return Ok(0);
        }
        content.read_to_end(&mut start).map_err(LoadError::Read)?;
        if let Some(expected) = digest_in_path(&path) {
            let actual = Digest::of(&start);
            if actual != expected {
                return Err(LoadError::Digest { file: path, actual }.into());
            }
        }
        let kept = start.len() as u64;
        self.documents.insert(path, start);
        Ok(kept)
    }

    /// A document by its path.
    pub(super) fn document(&self, path: &str, needed_by: &str) -> Result<&[u8], LoadError> {
        let path = self.resolve(path)?;
        let document = self.documents.get(path).map(Vec::as_slice);
        document.ok_or_else(|| missing(path, needed_by))
    }

    /// Whether there is such a document.
    pub(super) fn find_document(&self, path: &str) -> Option<&[u8]> {
        self.documents.get(path).map(Vec::as_slice)
    }

    /// A document by its digest.
    pub(super) fn blob(&self, digest: &Digest, needed_by: &str) -> Result<&[u8], LoadError> {
        self.document(&blob_path(digest), needed_by)
    }

    /// A layer by its path.
    pub(super) fn layer(&self, path: &str, needed_by: &str) -> Result<StoredLayer, LoadError> {
        let path = self.resolve(path)?;
        self.layers
            .get(path)
            .copied()
            .ok_or_else(|| missing(path, needed_by))
    }

    /// Where links lead from `path`.
    fn resolve<'a>(&'a self, path: &'a str) -> Result<&'a str, LoadError> {
        let mut current = path;
        for _ in 0..=MAX_LINKS {
            match self.links.get(current) {
                Some(target) => current = target,
                None => return Ok(current),
            }
        }
        Err(LoadError::Link {
            file: path.to_owned(),
        })
    }
}

/// Tells how far a layer is while it is read.
struct ToldReader<'a, R> {
    input: R,
    layer: &'a str,
    size: u64,
    read: u64,
    tell: &'a mut dyn FnMut(LayerProgress<'_>),
}

impl<'a, R> ToldReader<'a, R> {
    fn new(input: R, path: &'a str, size: u64, tell: &'a mut dyn FnMut(LayerProgress<'_>)) -> Self {
        Self {
            input,
            layer: path.strip_prefix("blobs/sha256/").unwrap_or(path),
            size,
            read: 0,
            tell,
        }
    }

    /// It is in the store now. One of which nothing was read was there before.
    fn stored(mut self) {
        if self.read > 0 {
            self.tell(true);
        }
    }

    fn tell(&mut self, stored: bool) {
        (self.tell)(LayerProgress {
            layer: self.layer,
            read: self.read,
            size: self.size,
            stored,
        });
    }
}

impl<R: Read> Read for ToldReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        if count > 0 {
            self.read += count as u64;
            self.tell(false);
        }
        Ok(count)
    }
}

fn missing(file: &str, needed_by: &str) -> LoadError {
    LoadError::Missing {
        file: file.escape_debug().to_string(),
        needed_by: needed_by.to_owned(),
    }
}

/// Whether a file is a layer: by its name, or by what it begins with.
fn is_layer(path: &str, start: &[u8]) -> bool {
    path.ends_with(".tar") || Compression::of(start) != Compression::None || is_tar(start)
}

/// Whether a tar header stands here, or an archive's end mark.
fn is_tar(start: &[u8]) -> bool {
    let Ok(block) = <&[u8; HEADER]>::try_from(start) else {
        return false;
    };
    let header = tar::Header::from_byte_slice(block);
    let others = block[..148].iter().chain(&block[156..]);
    let sum = others.map(|byte| u32::from(*byte)).sum::<u32>() + 8 * u32::from(b' ');
    block.iter().all(|byte| *byte == 0) || header.cksum().is_ok_and(|stored| stored == sum)
}

/// A path from the archive's root, `.` and `..` resolved in it. Bytes that are no text become `?`: no document
/// names such a file.
fn clean(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    components.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_within_the_archive() {
        assert_eq!(clean(b"./a//b/../c/"), "a/c");
        assert_eq!(clean(b"/../../a"), "a");
        assert_eq!(clean(b"x/../../layer.tar"), "layer.tar");
    }

    #[test]
    fn layers_are_told_from_documents() {
        assert!(is_layer("x/layer.tar", b""));
        assert!(is_layer("blobs/sha256/00", &[0; 512]));
        assert!(is_layer("blobs/sha256/00", b"\x1f\x8b\x08"));
        assert!(!is_layer("blobs/sha256/00", b"{\"a\":1}"));
        assert!(!is_layer("VERSION", &[b'1'; 512]));
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let mut files = ArchiveFiles::default();
        files.links.insert("a".into(), "b".into());
        files.links.insert("b".into(), "a".into());
        assert!(matches!(files.document("a", "x"), Err(LoadError::Link { .. })));
    }
}
