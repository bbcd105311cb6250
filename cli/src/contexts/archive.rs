//! A context as a tar archive: `meta.json`, and `tls/docker` with its certificates.

use std::io::{self, Read, Write};

use tar_stream::{Entry, EntryKind, Reader, Writer};

use super::{ContextError, Meta, Store, TLS_FILES};
use crate::contexts::store::TlsContent;

/// The largest archive that is read, in bytes (Docker's bound).
const MAX_BYTES: u64 = 10 << 20;

/// Writes a context, its secrets included.
pub(crate) fn export<W: Write>(store: &Store, name: &str, to: W) -> anyhow::Result<W> {
    let meta = serde_json::to_vec(&store.get(name)?)?;
    let tls = store.tls_content(name)?;
    let mut writer = Writer::new(to);
    add(&mut writer, "meta.json", EntryKind::Regular, 0o644, &meta)?;
    add(&mut writer, "tls", EntryKind::Directory, 0o700, &[])?;
    if !tls.is_empty() {
        add(&mut writer, "tls/docker", EntryKind::Directory, 0o700, &[])?;
    }
    for (file, content) in tls {
        add(
            &mut writer,
            &format!("tls/docker/{file}"),
            EntryKind::Regular,
            0o600,
            &content,
        )?;
    }
    Ok(writer.finish()?)
}

fn add<W: Write>(
    writer: &mut Writer<W>,
    path: &str,
    kind: EntryKind,
    mode: u16,
    content: &[u8],
) -> anyhow::Result<()> {
    let mut entry = Entry::new(path, kind);
    entry.mode = mode;
    entry.size = content.len() as u64;
    writer.begin(&entry)?;
    Ok(writer.write(content)?)
}

/// Reads a context that somebody exported: a stranger's archive, of which nothing but known names is taken.
pub(crate) fn import(from: &str, archive: impl Read) -> Result<(Meta, TlsContent), ContextError> {
    let refuse = |reason: String| ContextError::Archive {
        from: from.to_owned(),
        reason,
    };
    let mut reader = Reader::new(archive.take(MAX_BYTES));
    let (mut meta, mut tls) = (None, TlsContent::new());
    while let Some(entry) = reader.next().map_err(|error| refuse(error.to_string()))? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        if entry.kind == EntryKind::Directory {
            continue;
        }
        if entry.kind != EntryKind::Regular {
            return Err(refuse(format!("{path:?} is no file")));
        }
        let mut content = Vec::new();
        let read = reader.content(&entry).read_to_end(&mut content);
        read.map_err(|error: io::Error| refuse(error.to_string()))?;
        if path == "meta.json" {
            let parsed = serde_json::from_slice::<Meta>(&content);
            meta = Some(parsed.map_err(|error| refuse(format!("its meta.json: {error}")))?);
            continue;
        }
        let name = path.strip_prefix("tls/docker/");
        let file = TLS_FILES.iter().find(|file| Some(**file) == name);
        let file = file.ok_or_else(|| refuse(format!("{path:?} has no place in one")))?;
        tls.push((file, content));
    }
    let meta = meta.ok_or_else(|| refuse(format!("it has no meta.json in its first {MAX_BYTES} bytes")))?;
    Ok((meta, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_imported_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let mut meta = Meta {
            name: "one".into(),
            ..Meta::default()
        };
        meta.describe("what it is");
        store.put(&meta).unwrap();
        let tls = vec![("ca.pem", b"ca".to_vec()), ("key.pem", b"key".to_vec())];
        store.put_tls("one", &tls).unwrap();
        let archive = export(&store, "one", Vec::new()).unwrap();
        assert_eq!(import("x", archive.as_slice()).unwrap(), (meta, tls));
    }

    fn archive(path: &str, kind: EntryKind, content: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        add(&mut writer, path, kind, 0o644, content).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn an_archive_that_is_none_of_a_context_is_refused_by_what_is_wrong() {
        for (archive, reason) in [
            (
                archive("tls/docker/../../x", EntryKind::Regular, b"x"),
                "has no place",
            ),
            (archive("meta.json", EntryKind::Fifo, b""), "is no file"),
            (archive("meta.json", EntryKind::Regular, b"{"), "its meta.json"),
            (archive("tls", EntryKind::Directory, b""), "it has no meta.json"),
            (vec![b'x'; 4096], "the archive x is no context"),
        ] {
            let error = import("x", archive.as_slice()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
