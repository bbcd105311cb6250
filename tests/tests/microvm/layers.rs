//! What the layers of an image become, seen through their mount in a microVM: entry by entry the same as `umoci` unpacks.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use system_tests::{Hull, Outcome, hull};

#[path = "../../../crates/image-store/tests/corpus/mod.rs"]
mod corpus;

/// What umoci refuses, though it is no mistake.
const REFUSED: [&str; 3] = ["sparse, old GNU form", "global records", "a contiguous file"];

/// A file of a tree. Link counts of directories are not compared: file systems count differently.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: Option<u64>,
    content: Option<[u8; 32]>,
    target: Option<PathBuf>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of the names that lead to the same file the first.
    first_name: Option<PathBuf>,
}

type Tree = BTreeMap<PathBuf, Entry>;

/// All below a folder. The folder itself is not compared: as with Docker it is in no export.
fn tree_in(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let paths_in = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?;
        Ok(entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?)
    };
    let mut pending = paths_in(root)?;
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(root)?.to_owned();
        let is_device = matches!(metadata.mode() & 0o170_000, 0o020_000 | 0o060_000);
        if metadata.is_dir() {
            pending.extend(paths_in(&path)?);
        } else {
            let first = names.entry(metadata.ino()).or_insert_with(|| name.clone());
            if name < *first {
                first.clone_from(&name);
            }
        }
        let entry = Entry {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            device: is_device.then(|| metadata.rdev()),
            content: metadata.is_file().then(|| digest(&path)).transpose()?,
            target: metadata.is_symlink().then(|| fs::read_link(&path)).transpose()?,
            xattrs: xattrs(&path)?,
            first_name: (!metadata.is_dir()).then(|| metadata.ino().to_string().into()),
        };
        tree.insert(name, entry);
    }
    for entry in tree.values_mut() {
        let inode = entry
            .first_name
            .as_ref()
            .and_then(|inode| inode.to_str()?.parse().ok());
        entry.first_name = inode.and_then(|inode: u64| names.get(&inode).cloned());
    }
    Ok(tree)
}

fn digest(path: &Path) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, CString::new(name)?, &mut value)?;
            Ok((name.to_vec(), value[..length].to_vec()))
        })
        .collect()
}

/// Whether it is a directory that the topmost layer which has it only implies, by an entry or a whiteout below. There
/// overlayfs shows that layer's, as it does with Docker; umoci has one tree only, and keeps what a layer below said.
fn is_implied(entry: &Entry) -> bool {
    (entry.mode, entry.owner, entry.mtime) == (0o040_755, (0, 0), (0, 0))
}

/// What differs, in words.
fn differences(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let further = theirs.keys().filter(|path| !ours.contains_key(*path));
    let mut found = Vec::new();
    for path in ours.keys().chain(further) {
        let (mine, mut other) = (ours.get(path).cloned(), theirs.get(path).cloned());
        if let (Some(mine), Some(other)) = (&mine, &mut other)
            && is_implied(mine)
        {
            other.clone_from(mine);
        }
        if mine != other {
            found.push(format!(
                "{}:\n  ours   {mine:?}\n  theirs {other:?}",
                path.display()
            ));
        }
    }
    found
}

/// A layout with many images, which umoci reads, and hull as an archive.
struct Layout {
    folder: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self {
            folder,
            manifests: Vec::new(),
        })
    }

    fn blob(&self, kind: &str, content: &[u8]) -> Result<Value> {
        let digits: String = Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        fs::write(self.folder.join("blobs/sha256").join(&digits), content)?;
        Ok(json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{digits}"),
            "size": content.len(),
        }))
    }

    /// Adds an image of uncompressed layers under a tag.
    fn image(&mut self, tag: &str, archives: &[Vec<u8>]) -> Result<()> {
        let layers: Result<Vec<Value>> = archives
            .iter()
            .map(|archive| self.blob("layer.v1.tar", archive))
            .collect();
        let layers = layers?;
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            // Images of the same files are images of their own.
            "author": tag,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.blob("config.v1+json", config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        let mut descriptor = self.blob("manifest.v1+json", manifest.to_string().as_bytes())?;
        descriptor["annotations"] = json!({
            "org.opencontainers.image.ref.name": tag,
            "io.containerd.image.name": format!("localhost/odd:{tag}"),
        });
        self.manifests.push(descriptor);
        Ok(())
    }

    /// Has hull load all of them.
    fn load(&self, hull: &Hull) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        fs::write(self.folder.join("index.json"), index.to_string())?;
        let archive = self.folder.with_extension("tar");
        let mut tar = Command::new("tar");
        run(tar.arg("-cf").arg(&archive).arg("-C").arg(&self.folder).arg("."))?;
        hull.hull(["load", "-q", "-i", &archive.display().to_string()])
            .ok();
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<()> {
    let outcome = Outcome::from(command.output().with_context(|| format!("{command:?}"))?);
    ensure!(outcome.code == 0, "{command:?}: {outcome}");
    Ok(())
}

/// The files that a container of this image sees.
fn seen(hull: &Hull, image: &str, name: &str, folder: &Path) -> Result<Tree> {
    let container = hull.container(name);
    let archive = folder.join(format!("{name}.tar"));
    hull.hull(["create", "--name", &container, image, "/none"]).ok();
    hull.hull(["export", "-o", &archive.display().to_string(), &container])
        .ok();
    let root = folder.join(format!("{name}.ours"));
    fs::create_dir(&root)?;
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"]);
    run(tar.arg(&archive).arg("-C").arg(&root))?;
    tree_in(&root)
}

/// The files that umoci makes of an image of a layout, or why it does not.
fn unpacked(layout: &Path, tag: &str, root: &Path) -> Result<Result<Tree, String>> {
    let image = format!("{}:{tag}", layout.display());
    let output = Command::new("umoci")
        .args(["raw", "unpack", "--image", &image])
        .arg(root)
        .output()
        .context("umoci cannot be run")?;
    if !output.status.success() {
        return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(Ok(tree_in(root)?))
}

/// Where devices and owners can be made, and attributes kept.
fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in("/var/tmp")?)
}

#[test]
fn odd_layers_are_in_a_microvm_what_umoci_makes_of_them() -> Result<()> {
    let hull = hull!();
    let folder = folder()?;
    let mut layout = Layout::new(folder.path().join("layout"))?;
    let cases = corpus::corpus();
    for (number, case) in cases.iter().enumerate() {
        layout.image(&number.to_string(), &case.layers)?;
    }
    layout.load(&hull)?;
    let (failures, next) = (Mutex::new(Vec::new()), Mutex::new(0..cases.len()));
    let compare = |number: usize, name: &str| -> Result<()> {
        let tag = number.to_string();
        let theirs = unpacked(&layout.folder, &tag, &folder.path().join(format!("{tag}.theirs")))?;
        let found = match theirs {
            Err(_) if REFUSED.contains(&name) => return Ok(()),
            Err(error) => vec![format!("umoci refuses it: {error}")],
            Ok(theirs) => {
                let ours = seen(
                    &hull,
                    &format!("localhost/odd:{tag}"),
                    &format!("odd-{tag}"),
                    folder.path(),
                )?;
                differences(&ours, &theirs)
            }
        };
        let mut failures = failures.lock().unwrap_or_else(|error| error.into_inner());
        failures.extend(found.into_iter().map(|it| format!("{name}: {it}")));
        Ok(())
    };
    let work = || -> Result<()> {
        loop {
            let number = next.lock().unwrap_or_else(|error| error.into_inner()).next();
            let Some(number) = number else { return Ok(()) };
            compare(number, cases[number].name)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a comparison panicked"))?
        })
    })?;
    let failures = failures.into_inner().unwrap_or_else(|error| error.into_inner());
    for tag in 0..cases.len() {
        hull.hull(["rmi", &format!("localhost/odd:{tag}")]);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    Ok(())
}

#[test]
fn debian_is_in_a_microvm_what_umoci_makes_of_it() -> Result<()> {
    let hull = hull!();
    let archive = hull.prefix().join("debian-bookworm.oci.tar");
    if let Err(error) = fs::metadata(&archive)
        && error.kind() == ErrorKind::NotFound
    {
        println!(
            "SKIPPED: there is no {}: run `make debian-image`",
            archive.display()
        );
        return Ok(());
    }
    let folder = folder()?;
    let layout = folder.path().join("layout");
    let source = format!("oci-archive:{}", archive.display());
    let target = format!("oci:{}:debian", layout.display());
    run(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &source, &target]))?;
    hull.hull(["load", "-q", "-i", &archive.display().to_string()])
        .ok();
    let theirs = unpacked(&layout, "debian", &folder.path().join("theirs"))?;
    let theirs = theirs.map_err(|error| anyhow::anyhow!("umoci refuses it: {error}"))?;
    let ours = seen(&hull, "localhost/debian:bookworm", "debian", folder.path())?;
    assert!(ours.len() > 1000);
    let found = differences(&ours, &theirs);
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}
