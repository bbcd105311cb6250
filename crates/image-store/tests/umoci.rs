//! What the layers of an image become, compared entry by entry with what `umoci unpack` makes of them.

mod corpus;
mod fixture;

use erofs::{FileType, Reader};
use fixture::{Layout, Store, open_layer, with_name};
use image_store::{Digest, Image};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// What a file is. Directories have no link count: file systems count differently.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    /// `None` for a directory that no entry described: it is as old as its unpacking.
    mtime: Option<(i64, i64)>,
    links: Option<u64>,
    device: Option<(u32, u32)>,
    content: Option<Digest>,
    target: Option<Vec<u8>>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

type Tree = BTreeMap<Vec<u8>, Entry>;

const WHITEOUT: Option<(u32, u32)> = Some((0, 0));
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Cases that umoci refuses, though they are in POSIX or GNU tar's manual and other tools read them. What
/// becomes of them here is in the tests of layers.
const REFUSED: [&str; 3] = ["sparse, old GNU form", "global records", "a contiguous file"];

/// The files of one layer, as overlayfs would show them on top of `tree`.
fn apply(tree: &mut Tree, reader: &mut Reader<File>) {
    let root = reader.root().unwrap();
    let mut pending = vec![(Vec::new(), root.nid)];
    while let Some((path, nid)) = pending.pop() {
        let inode = reader.inode(nid).unwrap();
        let is_directory = inode.file_type == FileType::Directory;
        let mut entry = Entry {
            kind: u32::from(inode.file_type.mode_bits()),
            mode: u32::from(inode.metadata.mode),
            owner: (inode.metadata.uid, inode.metadata.gid),
            mtime: Some((
                inode.metadata.mtime.seconds,
                inode.metadata.mtime.nanoseconds.into(),
            )),
            links: (!is_directory).then(|| inode.links.into()),
            device: inode.device.map(|device| (device.major, device.minor)),
            content: None,
            target: None,
            xattrs: BTreeMap::new(),
        };
        if is_directory && entry.mtime == Some((0, 0)) {
            entry.mtime = None;
        }
        for xattr in &inode.metadata.xattrs {
            entry.xattrs.insert(xattr.name.to_vec(), xattr.value.to_vec());
        }
        match inode.file_type {
            FileType::Regular => {
                let mut content = Vec::new();
                reader.file(&inode).read_to_end(&mut content).unwrap();
                entry.content = Some(Digest::of(&content));
            }
            FileType::Symlink => entry.target = Some(reader.read(&inode).unwrap()),
            _ => {}
        }
        let below = |path: &[u8]| [path, b"/"].concat();
        let hides = !is_directory || entry.xattrs.remove(OPAQUE).is_some();
        let was_directory = tree.get(&path).is_some_and(|old| old.kind == 0o040_000);
        if hides || !was_directory {
            tree.retain(|other, _| !other.starts_with(&below(&path)) || path.is_empty());
        }
        if entry.kind == 0o020_000 && entry.device == WHITEOUT {
            tree.remove(&path);
            continue;
        }
        if is_directory {
            for child in reader.read_dir(&inode).unwrap() {
                let path = match path.is_empty() {
                    true => child.name.clone(),
                    false => [below(&path).as_slice(), &child.name].concat(),
                };
                pending.push((path, child.nid));
            }
            // A directory that is implied changes nothing of the one below.
            if entry.mtime.is_none() && was_directory {
                continue;
            }
        }
        tree.insert(path, entry);
    }
}

fn tree_of(image: &Image) -> Tree {
    let mut tree = Tree::new();
    for index in 0..image.layers.len() {
        apply(&mut tree, &mut open_layer(image, index));
    }
    tree
}

fn tree_in(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.mode() & 0o170_000;
        let device = rustix::fs::major(metadata.rdev());
        tree.insert(
            path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(),
            Entry {
                kind,
                mode: metadata.mode() & 0o7777,
                owner: (metadata.uid(), metadata.gid()),
                mtime: Some((metadata.mtime(), metadata.mtime_nsec())),
                links: (kind != 0o040_000).then(|| metadata.nlink()),
                device: matches!(kind, 0o020_000 | 0o060_000)
                    .then(|| (device, rustix::fs::minor(metadata.rdev()))),
                content: metadata.is_file().then(|| Digest::of(&fs::read(&path).unwrap())),
                target: metadata
                    .is_symlink()
                    .then(|| fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()),
                xattrs: xattrs(&path),
            },
        );
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    tree
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, CString::new(name).unwrap(), &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Unpacks the image `test` of a layout; `None`, said as SKIPPED, where that is not possible.
fn unpack(layout: &Path, rootfs: &Path) -> Option<Result<(), String>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: unpacking devices and owners takes root");
        return None;
    }
    let mut image = layout.as_os_str().to_owned();
    image.push(":test");
    let output = Command::new("umoci")
        .args(["raw", "unpack", "--image"])
        .arg(image)
        .arg(rootfs)
        .output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: umoci is not installed");
            None
        }
        output => {
            let output = output.unwrap();
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            Some(output.status.success().then_some(()).ok_or(message))
        }
    }
}

/// What differs, in words.
fn differences(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for path in ours
        .keys()
        .chain(theirs.keys().filter(|path| !ours.contains_key(*path)))
    {
        let (ours, mut theirs) = (ours.get(path).cloned(), theirs.get(path).cloned());
        if let (Some(ours), Some(theirs)) = (&ours, &mut theirs)
            && ours.mtime.is_none()
        {
            theirs.mtime = None;
            // The root that no entry described is umoci's own.
            if path.is_empty() {
                theirs.mode = ours.mode;
            }
        }
        if ours != theirs {
            found.push(format!(
                "{}:\n  ours   {ours:?}\n  theirs {theirs:?}",
                path.escape_ascii()
            ));
        }
    }
    found
}

#[test]
fn the_corpus_is_what_umoci_makes_of_it() {
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in corpus::corpus() {
        let layout = Layout::new();
        layout.index(&[with_name(layout.image(&case.layers), "test")]);
        let store = Store::new();
        let image = store
            .store
            .import_oci_layout(layout.path(), "test")
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let ours = tree_of(&image);
        let rootfs = tempfile::tempdir_in("/var/tmp").unwrap();
        let Some(unpacked) = unpack(layout.path(), &rootfs.path().join("rootfs")) else {
            return;
        };
        compared += 1;
        match unpacked {
            Err(_) if REFUSED.contains(&case.name) => {}
            Err(error) => failures.push(format!("{}: umoci refuses it: {error}", case.name)),
            Ok(()) => {
                let theirs = tree_in(&rootfs.path().join("rootfs"));
                let found = differences(&ours, &theirs);
                failures.extend(found.into_iter().map(|it| format!("{}: {it}", case.name)));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared >= 40, "only {compared} cases");
}

#[test]
fn a_whole_distribution_is_what_umoci_makes_of_it() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/debian-bookworm.oci.tar");
    if !archive.exists() {
        eprintln!("SKIPPED: there is no {} (make debian-image)", archive.display());
        return;
    }
    let store = Store::new();
    let start = std::time::Instant::now();
    let loaded = store.store.load(File::open(&archive).unwrap()).unwrap();
    println!("loaded in {:?}", start.elapsed());
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let layout = dir.path().join("layout");
    let start = std::time::Instant::now();
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("oci:{}:test", layout.display()))
        .status();
    if !copied.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: skopeo is not installed");
        return;
    }
    let Some(unpacked) = unpack(&layout, &dir.path().join("rootfs")) else {
        return;
    };
    unpacked.unwrap();
    println!("copied and unpacked in {:?}", start.elapsed());
    let (ours, theirs) = (tree_of(&loaded[0].image), tree_in(&dir.path().join("rootfs")));
    assert!(ours.len() > 1000);
    let found = differences(&ours, &theirs);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
