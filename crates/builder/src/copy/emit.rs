//! The archive of a layer, in the order of its paths.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Read, Write};

use tar_stream::{Entry, EntryKind, Writer};
use tokio_util::sync::CancellationToken;

use super::staging::{SharedFile, Staged, StagedBody, StagedContent, Staging};
use super::{CopyError, CopySummary};
use crate::cancellation::check;
use crate::file_tree::{Attributes, NodeKind, TreeError, printable};
use crate::spool::{Spool, SpoolWriter};

/// What a directory hides what is below it with (OCI image specification, layer.md).
const OPAQUE: &[u8] = b".wh..wh..opq";

pub(super) fn emit<W: Write>(staging: Staging<'_>, output: W) -> Result<CopySummary, CopyError> {
    let token = staging.token.clone();
    let (entries, spool, folder) = staging.finish()?;
    let spool = spool.map(SpoolWriter::finish).transpose();
    let spool = spool.map_err(|source| CopyError::Temporary {
        folder: folder.display().to_string(),
        source,
    })?;
    let mut emission = Emission {
        archive: Writer::new(BufWriter::with_capacity(128 << 10, output)),
        spool,
        first_names: HashMap::new(),
        buffer: vec![0; 64 << 10],
        summary: CopySummary::default(),
        token,
    };
    for (path, staged) in depth_first(&entries) {
        check(&emission.token)?;
        emission.entry(path, staged)?;
    }
    emission.archive.finish()?;
    Ok(emission.summary)
}

/// All that is in a directory stands behind it, with nothing else between: who unpacks an archive may set the time of a directory
/// when the next one begins. In the order of the bytes `a.b` would stand between `a` and `a/b`.
fn depth_first<'e, 'a>(entries: &'e BTreeMap<Vec<u8>, Staged<'a>>) -> Vec<(&'e Vec<u8>, &'e Staged<'a>)> {
    let mut ordered: Vec<_> = entries.iter().collect();
    let names = |path: &'e Vec<u8>| path.split(|byte| *byte == b'/');
    ordered.sort_by(|(a, _), (b, _)| names(a).cmp(names(b)));
    ordered
}

struct Emission<W> {
    archive: Writer<W>,
    spool: Option<Spool>,
    /// The first name of each file, with what it has.
    first_names: HashMap<SharedFile, (Vec<u8>, Attributes)>,
    buffer: Vec<u8>,
    summary: CopySummary,
    token: CancellationToken,
}

impl<W: Write> Emission<W> {
    fn entry(&mut self, path: &[u8], staged: &Staged<'_>) -> Result<(), CopyError> {
        let mut entry = Entry::new(path, EntryKind::Regular);
        let attributes = &staged.attributes;
        (entry.mode, entry.uid, entry.gid) = (attributes.mode, attributes.uid, attributes.gid);
        (entry.mtime, entry.xattrs) = (attributes.mtime, attributes.xattrs.clone());
        self.summary.entries += 1;
        match &staged.body {
            StagedBody::Directory { is_opaque } => {
                entry.kind = EntryKind::Directory;
                entry.path = if path.is_empty() {
                    b"./".to_vec()
                } else {
                    [path, b"/"].concat()
                };
                self.archive.begin(&entry)?;
                if *is_opaque {
                    let marker = [path, b"/", OPAQUE].concat();
                    self.archive.begin(&Entry::new(marker, EntryKind::Regular))?;
                }
            }
            StagedBody::Symlink(target) => {
                entry.kind = EntryKind::Symlink;
                entry.link = target.clone();
                entry.mode = 0o777;
                self.archive.begin(&entry)?;
            }
            StagedBody::Special(kind) => {
                entry.kind = match kind {
                    NodeKind::CharDevice(device) => EntryKind::CharDevice(*device),
                    NodeKind::BlockDevice(device) => EntryKind::BlockDevice(*device),
                    _ => EntryKind::Fifo,
                };
                self.archive.begin(&entry)?;
            }
            StagedBody::Regular { size, content, file } => {
                if let Some((first, had)) = file.and_then(|file| self.first_names.get(&file))
                    && had == attributes
                {
                    entry.kind = EntryKind::HardLink;
                    entry.link = first.clone();
                    return Ok(self.archive.begin(&entry)?);
                }
                if let Some(file) = file {
                    self.first_names
                        .insert(*file, (path.to_vec(), attributes.clone()));
                }
                entry.size = *size;
                self.archive.begin(&entry)?;
                self.content(path, content)?;
                self.summary.content += size;
            }
        }
        Ok(())
    }

    fn content(&mut self, path: &[u8], content: &StagedContent<'_>) -> Result<(), CopyError> {
        let mut reader: Box<dyn Read + '_> = match (content, &self.spool) {
            (StagedContent::Tree(tree, node), _) => Box::new(tree.open(node)?),
            (StagedContent::Spool(extent), Some(spool)) => Box::new(spool.read(extent.offset, extent.length)),
            (StagedContent::Spool(_), None) => Box::new(std::io::empty()),
        };
        loop {
            check(&self.token)?;
            let count = match reader.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = format!("/{}", printable(path));
                    return Err(TreeError::Content { path, source }.into());
                }
            };
            self.archive.write(&self.buffer[..count])?;
        }
    }
}
