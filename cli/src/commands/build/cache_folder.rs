//! A cache in a folder here, as an OCI image layout: it is sent with the context, and written when the build is done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tar_stream::{Entry, EntryKind, Writer};

use crate::api::{Client, Target};
use crate::commands::cp::{receive, unpack::Unpacker};
use crate::commands::local_file::fill;
use crate::failure::complain;

const PIECE: usize = 128 << 10;
/// The largest index or manifest, in bytes.
const MOST_JSON: u64 = 4 << 20;
const INDEX: &str = "index.json";
const VERSION: &str = "oci-layout";
const BLOBS: &str = "blobs/sha256";

/// Caches that are sent.
#[derive(Debug, Clone, Default)]
pub(super) struct CacheFolders(Vec<CacheFolder>);

/// One that was found.
#[derive(Debug, Clone)]
struct CacheFolder {
    path: PathBuf,
    index: Vec<u8>,
    /// The blobs that it needs, without the algorithm of their digests.
    blobs: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

impl Descriptor {
    /// Its digits, which are the name of a file and nothing else.
    fn hex(&self) -> anyhow::Result<String> {
        let hex = self.digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            bail!("{} is no digest of a blob", self.digest.escape_debug());
        }
        Ok(hex.to_owned())
    }
}

impl CacheFolders {
    /// Looks at the folders. One that cannot be used is told, and left out: the first build has none.
    pub(super) fn find<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let found = paths.filter_map(|path| match CacheFolder::find(path) {
            Ok(folder) => Some(folder),
            Err(error) => {
                complain(format_args!(
                    "warning: the build cache {} is not used: {error:#}",
                    path.display()
                ));
                None
            }
        });
        Self(found.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes one archive of all, which the context follows; nothing without any.
    pub(super) fn pack(&self, to: &mut impl Write) -> anyhow::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut archive = Writer::new(to);
        let mut sent = BTreeSet::new();
        for folder in &self.0 {
            for blob in &folder.blobs {
                if sent.insert(blob) {
                    folder.pack_blob(&mut archive, blob)?;
                }
            }
            let mut entry = Entry::new(folder.path.join(INDEX).display().to_string(), EntryKind::Regular);
            entry.size = folder.index.len() as u64;
            archive.begin(&entry)?;
            archive.write(&folder.index)?;
        }
        archive.finish()?;
        Ok(())
    }
}

impl CacheFolder {
    fn find(path: &Path) -> anyhow::Result<Self> {
        let index = read(&path.join(INDEX))?;
        Ok(Self {
            path: path.to_owned(),
            blobs: blobs_of(path, &index)?,
            index,
        })
    }

    fn pack_blob(&self, archive: &mut Writer<impl Write>, blob: &str) -> anyhow::Result<()> {
        let path = self.path.join(BLOBS).join(blob);
        let cannot = || format!("cannot read the build cache: {}", path.display());
        let mut file = match File::open(&path) {
            // The daemon carries out the step that made it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.with_context(cannot)?,
        };
        let metadata = file.metadata().with_context(cannot)?;
        if !metadata.is_file() {
            bail!("cannot read the build cache: {} is not a file", path.display());
        }
        let mut entry = Entry::new(format!("{BLOBS}/{blob}"), EntryKind::Regular);
        entry.size = metadata.len();
        archive.begin(&entry)?;
        fill(archive, &mut file, &path, &mut vec![0; PIECE])
    }
}

/// The blobs that the manifest of an index needs, itself among them.
fn blobs_of(folder: &Path, index: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    let index: Index = parse(index, INDEX)?;
    let Some(newest) = index.manifests.last() else {
        bail!("{INDEX} names nothing");
    };
    let own = newest.hex()?;
    let manifest: Manifest = parse(&read(&folder.join(BLOBS).join(&own))?, "its manifest")?;
    let mut blobs = BTreeSet::from([own, manifest.config.hex()?]);
    for layer in &manifest.layers {
        blobs.insert(layer.hex()?);
    }
    Ok(blobs)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(MOST_JSON + 1)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    if bytes.len() as u64 > MOST_JSON {
        bail!("{} has more than {MOST_JSON} bytes", path.display());
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{what} is not understood"))
}

/// Writes the cache of the build that made an image to a folder, in place of the one that is there.
pub(super) async fn write(
    client: &Client,
    id: &str,
    folder: &Path,
    mode: Option<&str>,
) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the build cache to {}", folder.display());
    fs::create_dir_all(folder.join(BLOBS)).with_context(cannot)?;
    let new = tempfile::Builder::new().prefix(".hull-cache-").tempdir_in(folder);
    let new = new.with_context(cannot)?;
    let unpacker = Unpacker::new(new.path(), "/", "/", false)?;
    let target = Target::new(&["hull", "images", id, "cache"]).option("mode", mode);
    let mut response = client.begin(Method::GET, target).await?;
    receive(&mut response, unpacker).await.with_context(cannot)?;
    publish(new.path(), folder).with_context(cannot)
}

/// Puts a whole cache where another may be. The index is moved last: until then the old one is what is there.
fn publish(new: &Path, folder: &Path) -> anyhow::Result<()> {
    let old = read(&folder.join(INDEX))
        .and_then(|index| blobs_of(folder, &index))
        .unwrap_or_default();
    let needed = blobs_of(new, &read(&new.join(INDEX))?)?;
    for blob in &needed {
        let to = folder.join(BLOBS).join(blob);
        fs::rename(new.join(BLOBS).join(blob), &to)
            .with_context(|| format!("cannot make {}", to.display()))?;
    }
    for name in [VERSION, INDEX] {
        fs::rename(new.join(name), folder.join(name)).with_context(|| format!("cannot make {name}"))?;
    }
    for blob in old.difference(&needed) {
        // What stays only takes room.
        let _ = fs::remove_file(folder.join(BLOBS).join(blob));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tar_stream::Reader;

    fn name(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    /// A cache with a manifest, a configuration and layers that are named by one digit each.
    fn cache(folder: &Path, manifest: char, config: char, layers: &str) {
        let blobs = folder.join(BLOBS);
        fs::create_dir_all(&blobs).unwrap();
        let descriptor = |digit: char| json!({ "digest": format!("sha256:{}", name(digit)) });
        for digit in layers.chars().chain([config]) {
            fs::write(blobs.join(name(digit)), format!("content {digit}")).unwrap();
        }
        let layers: Vec<_> = layers.chars().map(descriptor).collect();
        let document = json!({ "config": descriptor(config), "layers": layers });
        fs::write(blobs.join(name(manifest)), document.to_string()).unwrap();
        let index = json!({ "manifests": [descriptor(manifest)] });
        fs::write(folder.join(INDEX), index.to_string()).unwrap();
        fs::write(folder.join(VERSION), "{}").unwrap();
    }

    fn blobs(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder.join(BLOBS)).unwrap();
        let mut names: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap()[..1].to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_cache_takes_the_place_of_the_one_before_and_of_nothing_else() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        cache(old.path(), 'a', 'b', "12");
        fs::write(old.path().join(BLOBS).join("else"), "somebody's").unwrap();
        cache(new.path(), 'c', 'd', "23");
        publish(new.path(), old.path()).unwrap();
        assert_eq!(blobs(old.path()), ["2", "3", "c", "d", "e"]);
        let found = CacheFolder::find(old.path()).unwrap();
        assert!(found.blobs.contains(&name('c')));
    }

    #[test]
    fn what_a_cache_names_is_sent_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        cache(folder.path(), 'a', 'b', "12");
        fs::write(folder.path().join(BLOBS).join(name('9')), "unused").unwrap();
        fs::remove_file(folder.path().join(BLOBS).join(name('2'))).unwrap();
        let missing = folder.path().join("missing");
        let folders = CacheFolders::find([folder.path(), &missing].into_iter());
        let mut archive = Vec::new();
        folders.pack(&mut archive).unwrap();
        let mut reader = Reader::new(archive.as_slice());
        let mut paths = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            paths.push(String::from_utf8(entry.path).unwrap());
        }
        let blob = |digit| format!("{BLOBS}/{}", name(digit));
        let index = folder.path().join(INDEX).display().to_string();
        assert_eq!(paths, [blob('1'), blob('a'), blob('b'), index]);
        let mut nothing = Vec::new();
        CacheFolders::default().pack(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn a_digest_that_is_a_path_is_no_blob() {
        let folder = tempfile::tempdir().unwrap();
        let index = json!({ "manifests": [{ "digest": "sha256:../../../secret" }] });
        fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
        let error = CacheFolder::find(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no digest of a blob"), "{error}");
    }
}
