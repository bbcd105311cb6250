//! The merged view of layers, against what overlayfs shows of the same images.

use std::io::{Read, Seek, SeekFrom};
use std::process::Command;

use crate::support::{Archive, Stage, content, listing};
use builder::{FileTree, LastLink, LayerTree, Owner, TreeError, lookup, resolve_owner};
use tar_stream::{Device, EntryKind, Xattr};
use tokio_util::sync::CancellationToken;

fn layers() -> Vec<Vec<u8>> {
    let lowest = Archive::new()
        .dir("etc", 0o755)
        .file("etc/passwd", "root:x:0:0::/:/bin/sh")
        .dir("usr/lib", 0o755)
        .file("usr/lib/libc", "c")
        .link("lib", "usr/lib")
        .dir("gone", 0o755)
        .file("gone/file", "x")
        .dir("opaque", 0o700)
        .file("opaque/lower", "x")
        .dir("turns/into/file", 0o755)
        .file("turns/into/file/x", "x")
        .file("was-file", "x")
        .file("both", "lower")
        .dir("attributes", 0o700)
        .owner(1, 1)
        .file("attributes/lower", "l")
        .hard("libc-too", "usr/lib/libc")
        .kind("pipe", EntryKind::Fifo);
    let middle = Archive::new()
        .file(".wh.gone", "")
        .dir("opaque", 0o755)
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/middle", "m")
        .file("turns/into/file", "now a file")
        .file(".wh.was-file", "")
        .dir("was-file", 0o755)
        .file("was-file/x", "now a directory")
        .dir("attributes", 0o1777)
        .owner(7, 8)
        .file("both", "middle")
        .file("usr/lib/.wh.libc", "");
    let upper = Archive::new()
        .dir("gone", 0o711)
        .file("gone/again", "back")
        .dir("turns/into/file", 0o755)
        .file("turns/into/file/y", "a directory again")
        .file("both", "upper")
        .file("opaque/.wh.middle", "")
        .file("opaque/upper", "u")
        .file("usr/lib/libc", "new");
    [lowest, middle, upper].iter().map(Archive::tar).collect()
}

#[test]
fn layers_are_merged() {
    let stage = Stage::of(&layers());
    let lines = listing(&stage.tree());
    for expected in [
        "d 711 0:0 /gone",
        "f 644 0:0 /gone/again = back",
        "f 644 0:0 /opaque/upper = u",
        "d 1777 7:8 /attributes",
        "f 644 0:0 /attributes/lower = l",
        "f 644 0:0 /turns/into/file/y = a directory again",
        "f 644 0:0 /was-file/x = now a directory",
        "f 644 0:0 /both = upper",
        "f 644 0:0 /usr/lib/libc = new",
        "f 644 0:0 /libc-too = c",
        "p 644 0:0 /pipe",
    ] {
        assert!(
            lines.iter().any(|line| line == expected),
            "{expected} is not in {lines:#?}"
        );
    }
    for gone in [
        "/gone/file",
        "/opaque/lower",
        "/opaque/middle",
        "/turns/into/file/x",
    ] {
        assert!(
            !lines.iter().any(|line| line.contains(gone)),
            "{gone} is in {lines:#?}"
        );
    }
}

/// What overlayfs shows of the very images: `find` in a mount namespace of its own.
///
/// In a directory that one layer alone has, overlayfs lists a whiteout like any other name, and then denies that it is there.
fn overlay_listing(stage: &Stage) -> Option<Vec<String>> {
    let script = r#"
        set -e
        mount -t tmpfs tmpfs "$1"; shift_to="$1"; shift; lower=
        n=0
        for image in "$@"; do
            mkdir "$shift_to/$n"; mount -t erofs -o loop,ro "$image" "$shift_to/$n"
            lower="$shift_to/$n${lower:+:$lower}"; n=$((n + 1))
        done
        mkdir "$shift_to/all"; mount -t overlay overlay -o "lowerdir=$lower" "$shift_to/all"
        cd "$shift_to/all"
        find . -mindepth 1 \( -type f -printf 'f %m %U:%G /%P = ' -exec cat {} \; -printf '\n' \) \
            -o \( -type l -printf 'l %m %U:%G /%P -> %l\n' \) -o -printf '%y %m %U:%G /%P\n' 2>"$shift_to/errors" \
            || ! grep -v 'No such file or directory' "$shift_to/errors" >&2
    "#;
    let folder = tempfile::tempdir().unwrap();
    let images = images_of(stage);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .args(images)
        .output()
        .ok()?;
    if !output.status.success() {
        eprintln!(
            "not compared with overlayfs: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return None;
    }
    Some(
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

fn images_of(stage: &Stage) -> Vec<std::path::PathBuf> {
    let layers = stage.folder.path().join("store/layers");
    let path = |layer: &std::sync::Arc<builder::Layer>| {
        layers.join(format!("sha256-{}.erofs", layer.diff_id().hex()))
    };
    stage.tree().layers().iter().map(path).collect()
}

#[test]
fn the_view_is_that_of_overlayfs() {
    let mut stage = Stage::of(&layers());
    for _ in 0..2 {
        let Some(mut theirs) = overlay_listing(&stage) else {
            return;
        };
        let mut ours = listing(&stage.tree());
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        // A layer whose root is opaque: the kernel does not look at it there.
        stage.add(&Archive::new().file(".wh..wh..opq", "").file("top", "t").tar());
    }
}

/// Numbers that look random and are the same in each run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A layer of few names, so that layers meet.
fn random_layer(numbers: &mut Numbers, path: &str, depth: u64, mut archive: Archive) -> Archive {
    for name in ["a", "b", "c"] {
        let path = format!("{path}{name}");
        archive = match numbers.below(8) {
            0 => archive.file(&path, &format!("{}", numbers.below(1000))),
            1 => archive.link(&path, "a/b"),
            2 => archive.file(&format!("{}.wh.{name}", &path[..path.len() - 1]), ""),
            3..6 if depth > 0 => {
                let mode = 0o700 + numbers.below(64) as u16;
                let mut archive = archive.dir(&path, mode).owner(numbers.below(3) as u32, 0);
                if numbers.below(4) == 0 {
                    archive = archive.file(&format!("{path}/.wh..wh..opq"), "");
                }
                random_layer(numbers, &format!("{path}/"), depth - 1, archive)
            }
            _ => archive,
        };
    }
    archive
}

#[test]
fn the_view_of_any_layers_is_that_of_overlayfs() {
    let mut numbers = Numbers(1);
    for round in 0..12 {
        let mut stage = Stage::new();
        for _ in 0..2 + round % 4 {
            stage.add(&random_layer(&mut numbers, "", 3, Archive::new().dir("d", 0o755)).tar());
        }
        let Some(mut theirs) = overlay_listing(&stage) else {
            return;
        };
        let mut ours = listing(&stage.tree());
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "round {round}");
    }
}

#[test]
fn an_empty_stage_has_a_root_and_nothing_in_it() {
    let tree = LayerTree::default();
    let root = tree.root().unwrap();
    assert_eq!((root.attributes.mode, root.attributes.uid), (0o755, 0));
    assert!(tree.names(&root).unwrap().is_empty());
    assert!(tree.child(&root, b"x").unwrap().is_none());
    assert!(lookup(&tree, b"/x", LastLink::Follow).unwrap().is_none());
}

#[test]
fn links_are_followed_beneath_the_root() {
    let mut archive = Archive::new()
        .file("dir/file", "found")
        .link("dir/up", "../../../../dir")
        .link("absolute", "/dir/file")
        .link("relative", "dir/../dir/up/file")
        .link("dangling", "/nowhere")
        .link("loop", "loop2")
        .link("loop2", "loop")
        .link("host", "/etc/hostname");
    for n in 0..41 {
        archive = archive.link(&format!("chain{}", n + 1), &format!("chain{n}"));
    }
    archive = archive.link("chain0", "dir/file");
    let stage = Stage::of(&[archive.tar()]);
    let tree = stage.tree();
    let find = |path: &str| lookup(&tree, path.as_bytes(), LastLink::Follow);
    for path in [
        "absolute",
        "/relative",
        "dir/up/up/file",
        "../../dir/file",
        "dir/./file/",
        "chain39",
    ] {
        let found = find(path)
            .unwrap()
            .unwrap_or_else(|| panic!("{path} is not found"));
        assert_eq!(content(&tree, &found.node), "found", "{path}");
        assert_eq!(found.path, b"dir/file", "{path}");
    }
    for path in ["dangling", "host", "dir/file/x", "absolute/x"] {
        assert!(find(path).unwrap().is_none(), "{path}");
    }
    for path in ["loop", "loop/x", "chain41"] {
        assert!(
            matches!(find(path), Err(TreeError::TooManyLinks { .. })),
            "{path}"
        );
    }
    let kept = lookup(&tree, b"dir/up/../absolute", LastLink::Keep).unwrap();
    assert!(kept.is_none(), "the path is cleaned before links are followed");
    let kept = lookup(&tree, b"absolute", LastLink::Keep).unwrap().unwrap();
    assert_eq!(tree.link_target(&kept.node).unwrap(), b"/dir/file");
}

#[test]
fn content_is_read_from_any_offset_and_has_a_digest() {
    let text: String = (0..40_000).map(|n| format!("{n} ")).collect();
    let stage = Stage::of(&[Archive::new()
        .file("a", &text)
        .hard("b", "a")
        .file("empty", "")
        .tar()]);
    let tree = stage.tree();
    let node = |path: &[u8]| lookup(&tree, path, LastLink::Follow).unwrap().unwrap().node;
    let a = node(b"a");
    assert_eq!(content(&tree, &a), text);
    assert_eq!(a.id, node(b"b").id);
    assert_ne!(a.id, node(b"empty").id);
    assert_eq!((a.links, a.size), (2, text.len() as u64));
    let mut reader = tree.open(&a).unwrap();
    for offset in [100_000, 3, text.len() - 5] {
        reader.seek(SeekFrom::Start(offset as u64)).unwrap();
        let mut some = [0; 5];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(some, text.as_bytes()[offset..offset + 5]);
    }
    for _ in 0..2 {
        assert_eq!(
            tree.content_digest(&a, &CancellationToken::new()).unwrap(),
            builder::Digest::of(text.as_bytes())
        );
    }
}

#[test]
fn a_tree_with_one_layer_more_shares_what_is_open() {
    let mut stage = Stage::of(&[Archive::new().file("a", "1").tar()]);
    let tree = stage.tree();
    stage.add(&Archive::new().file("b", "2").file(".wh.a", "").tar());
    let top = stage.tree().layers()[1].clone();
    let more = tree.with(top);
    assert_eq!(listing(&tree), ["f 644 0:0 /a = 1"]);
    assert_eq!(listing(&more), ["f 644 0:0 /b = 2"]);
}

#[test]
fn layers_stay_open_for_the_next_build() {
    let stage = Stage::of(&[Archive::new().file("a", "1").tar()]);
    let diff_id = stage.tree().layers()[0].diff_id();
    let path = images_of(&stage).remove(0);
    let layers = builder::Layers::default();
    let first = layers.open(diff_id, &path).unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &first,
        &layers.open(diff_id, &path).unwrap()
    ));
    layers.close_unused();
    std::fs::remove_file(&path).unwrap();
    // It is in use: what was removed meanwhile can be read.
    assert_eq!(
        listing(&LayerTree::new(vec![layers.open(diff_id, &path).unwrap()])),
        ["f 644 0:0 /a = 1"]
    );
    drop(first);
    layers.close_unused();
    assert!(matches!(
        layers.open(diff_id, &path),
        Err(TreeError::OpenLayer { .. })
    ));
}

#[test]
fn overlayfs_own_attributes_and_marks_cannot_be_forged() {
    let opaque = Xattr {
        name: b"trusted.overlay.opaque".to_vec(),
        value: b"y".to_vec(),
    };
    let capability = Xattr {
        name: b"security.capability".to_vec(),
        value: vec![1, 0, 0, 2],
    };
    let lower = Archive::new().file("dir/lower", "l").tar();
    let upper = Archive::new()
        .dir("dir", 0o755)
        .with(|entry| entry.xattrs = vec![opaque, capability.clone()])
        .file("dir/upper", "u");
    let stage = Stage::of(&[lower, upper.tar()]);
    let tree = stage.tree();
    let dir = lookup(&tree, b"dir", LastLink::Keep).unwrap().unwrap().node;
    assert_eq!(dir.attributes.xattrs, [capability]);
    assert_eq!(tree.names(&dir).unwrap(), [b"lower", b"upper"]);
    let null = Device { major: 1, minor: 3 };
    let stage = Stage::of(&[Archive::new().kind("null", EntryKind::CharDevice(null)).tar()]);
    assert_eq!(listing(&stage.tree()), ["? 644 0:0 /null"]);
}

#[test]
fn owners_are_found_as_docker_finds_them() {
    let passwd = "root:x:0:0::/:/bin/sh\nbroken\nwww:x:33:34:w:/var:/bin/sh\n7:x:70:71::/:\nbad:x:y:z::/:\n";
    let group = "root:x:0:\nstaff:x:50:www\n";
    let archive = Archive::new()
        .file("usr/etc/passwd", passwd)
        .link("etc", "usr/etc")
        .file("usr/etc/group", group);
    let stage = Stage::of(&[archive.tar()]);
    let tree = stage.tree();
    let find = |text: &str| {
        resolve_owner(&tree, text)
            .map(|Owner { uid, gid }| (uid, gid))
            .map_err(|error| error.to_string())
    };
    for (text, uid, gid) in [
        ("www", 33, 34),
        ("www:staff", 33, 50),
        ("www:7", 33, 7),
        ("1000", 1000, 1000),
        ("1000:staff", 1000, 50),
        ("7", 7, 7),
        ("www:", 33, 34),
        (":staff", 0, 50),
    ] {
        assert_eq!(find(text), Ok((uid, gid)), "{text}");
    }
    for (text, message) in [
        ("foo", "unable to find user foo: invalid user"),
        ("bad", "unable to find user bad: invalid user"),
        ("www:foo", "unable to find group foo: invalid group"),
        ("a:b:c", "invalid chown string format: a:b:c"),
        ("4294967295", "unable to find user 4294967295: invalid user"),
    ] {
        assert_eq!(find(text), Err(message.to_owned()), "{text}");
    }
    let scratch = LayerTree::default();
    assert_eq!(resolve_owner(&scratch, "5:6").unwrap(), Owner { uid: 5, gid: 6 });
    assert!(resolve_owner(&scratch, "www").is_err());
}
