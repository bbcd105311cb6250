//! What an image is, as text: an item for each file and for each part of its configuration, so that two images can be compared and
//! what is expected can be written down.
//!
//! `/etc/motd file 644 0:0 "hello\n"`, `/etc dir 755 0:0`, `/a link 0:0 -> b`, `config.User "nobody"`. A file of more than 100 bytes
//! is told by its size and digest, another name of a file by ` = /first/name`, an extended attribute by ` NAME=HEX`. Bytes that are no
//! printable ASCII, and spaces in names, are escaped. Times are left out: they are those of two different builds.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::sparse;

/// What an item is that is not there.
pub(super) const ABSENT: &str = "absent";
/// Longer contents are told by their digests.
const MOST_SHOWN: usize = 100;
/// What of a configuration a Dockerfile can say.
const CONFIGURATION: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// Items and what they are.
pub(super) type Listing = BTreeMap<String, String>;

/// A file, and the names that it has.
struct File {
    is: String,
    names: Vec<String>,
}

/// The files in an archive of a whole root file system.
pub(super) fn of_files(archive: impl Read) -> Result<Listing> {
    let mut files: Vec<File> = Vec::new();
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    let mut archive = Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let extensions = extensions(&mut entry)?;
        let name = match sparse::name(&extensions) {
            Some(name) => name_of(name),
            None => name_of(&entry.path_bytes()),
        };
        // The root itself is in no layer that COPY or RUN makes.
        if name == "/" {
            continue;
        }
        let index = match entry.header().entry_type() {
            EntryType::Link => {
                let target = entry.link_name_bytes().context("a hard link to nothing")?;
                let target = name_of(&target);
                *by_name
                    .get(&target)
                    .with_context(|| format!("{name} is a hard link to {target}, which is not there"))?
            }
            _ => {
                let is = describe(&mut entry, &extensions).with_context(|| name.clone())?;
                files.push(File {
                    is,
                    names: Vec::new(),
                });
                files.len() - 1
            }
        };
        files[index].names.push(name.clone());
        by_name.insert(name, index);
    }
    let told = files.into_iter().flat_map(|mut file| {
        file.names.sort();
        let first = file.names.first().cloned().unwrap_or_default();
        let tell = move |name: String| {
            let other = match name == first {
                true => String::new(),
                false => format!(" = {first}"),
            };
            (name, format!("{}{other}", file.is))
        };
        file.names.into_iter().map(tell).collect::<Vec<_>>()
    });
    Ok(told.collect())
}

type Extensions = BTreeMap<String, Vec<u8>>;

/// What the format of the archive has no field for.
fn extensions<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Extensions> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(Extensions::new());
    };
    let read = extensions.map(|extension| {
        let extension = extension?;
        Ok((extension.key()?.to_owned(), extension.value_bytes().to_vec()))
    });
    read.collect()
}

fn describe<R: Read>(entry: &mut tar::Entry<'_, R>, extensions: &Extensions) -> Result<String> {
    let header = entry.header().clone();
    let attributes = format!(
        "{:o} {}:{}",
        header.mode()? & 0o7777,
        header.uid()?,
        header.gid()?
    );
    let device = || {
        let (major, minor) = (header.device_major()?, header.device_minor()?);
        Ok::<_, anyhow::Error>(format!("{}:{}", major.unwrap_or(0), minor.unwrap_or(0)))
    };
    let mut is = match header.entry_type() {
        EntryType::Directory => format!("dir {attributes}"),
        EntryType::Symlink => {
            let target = entry.link_name_bytes().context("a link to nothing")?;
            // No mode of a link means anything.
            let owner = format!("{}:{}", header.uid()?, header.gid()?);
            format!("link {owner} -> {}", target.escape_ascii())
        }
        EntryType::Fifo => format!("fifo {attributes}"),
        EntryType::Char => format!("char {attributes} {}", device()?),
        EntryType::Block => format!("block {attributes} {}", device()?),
        kind if kind.is_file() && sparse::name(extensions).is_some() => {
            let whole = sparse::content(entry, extensions)?;
            format!("file {attributes} {}", content(whole.as_slice())?)
        }
        kind if kind.is_file() || kind.is_contiguous() => {
            format!("file {attributes} {}", content(&mut *entry)?)
        }
        kind => bail!("an entry of type {kind:?}"),
    };
    for (key, value) in extensions {
        // Others are the host's own (selinux, overlay).
        if let Some(name) = key.strip_prefix("SCHILY.xattr.")
            && (name.starts_with("user.") || name == "security.capability")
        {
            is += &format!(" {name}={}", hex(value));
        }
    }
    Ok(is)
}

fn content(mut file: impl Read) -> Result<String> {
    let mut start = Vec::new();
    file.by_ref()
        .take(MOST_SHOWN as u64 + 1)
        .read_to_end(&mut start)?;
    if start.len() <= MOST_SHOWN {
        return Ok(format!("\"{}\"", start.escape_ascii()));
    }
    let mut hasher = Sha256::new_with_prefix(&start);
    let mut size = start.len();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{size} bytes {}", hex(&hasher.finalize()))),
            count => {
                hasher.update(&buffer[..count]);
                size += count;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An absolute path without a slash at its end.
fn name_of(path: &[u8]) -> String {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    let name: Vec<String> = parts.map(|part| part.escape_ascii().to_string()).collect();
    format!("/{}", name.join("/").replace(' ', "\\x20"))
}

/// A configuration as the API tells it (`Config`).
pub(super) fn of_configuration(config: &Value) -> Listing {
    let told = CONFIGURATION.iter().filter_map(|name| {
        let value = config.get(*name)?;
        // Docker tells what is not set in any of these ways.
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        (!is_empty).then(|| (format!("config.{name}"), value.to_string()))
    });
    told.collect()
}

#[test]
fn an_archive_is_told_item_by_item() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = r"
        umask 022; mkdir d; printf 'a\n' >d/f; chmod 4711 d/f; ln d/f 'd/e e'; ln -s f d/l; mkfifo d/p
        head -c 101 /dev/zero >d/z
    ";
    let mut command = std::process::Command::new("sh");
    command.args(["-euc", script]).current_dir(folder.path());
    assert!(command.status()?.success());
    let archive = super::context::pack(folder.path())?;
    let listing = of_files(archive.as_slice())?;
    let told: Vec<String> = listing.iter().map(|(item, is)| format!("{item} {is}")).collect();
    assert_eq!(
        told,
        [
            "/d dir 755 0:0",
            r#"/d/e\x20e file 4711 0:0 "a\n""#,
            r#"/d/f file 4711 0:0 "a\n" = /d/e\x20e"#,
            "/d/l link 0:0 -> f",
            "/d/p fifo 644 0:0",
            "/d/z file 644 0:0 101 bytes e08dd9962eedb16e12840ea2a977cc07bc5fa8d96259682edaa080573d525e4c",
        ]
    );
    Ok(())
}

#[test]
fn a_file_with_holes_is_told_like_any_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = "truncate -s 1M h; printf x | dd of=h bs=1 seek=500000 conv=notrunc 2>/dev/null; cp --sparse=never h whole; \
                  tar --create --sparse --sparse-version=1.0 --format=pax --file=a.tar h whole";
    let mut command = std::process::Command::new("sh");
    command.args(["-euc", script]).current_dir(folder.path());
    assert!(command.status()?.success());
    let archive = std::fs::read(folder.path().join("a.tar"))?;
    assert!(archive.windows(16).any(|bytes| bytes == b"GNU.sparse.major"));
    let listing = of_files(archive.as_slice())?;
    assert!(listing["/h"].contains(" 1048576 bytes "), "{listing:?}");
    assert_eq!(listing["/h"], listing["/whole"]);
    Ok(())
}
