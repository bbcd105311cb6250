//! The same COPY instructions by buildah and by hull. Where the two differ (buildah drops set-id bits), BuildKit decides: see
//! `copy.rs`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use builder::{Context, ContextLimits, CopyOptions};

use crate::support::{Stage, copied, host_listing, listing, source, to};

/// Sources, the destination, and `--chown` as numbers.
type Instruction = (&'static [&'static str], &'static str, &'static str);

const CASES: &[&[Instruction]] = &[
    &[(&["a.txt"], "/", "")],
    &[(&["a.txt"], "/x", "")],
    &[(&["a.txt"], "/x/", "")],
    &[(&["a.txt"], "/x/y/z", "")],
    &[(&["a.txt"], "/x/y/z/", "")],
    &[(&["a.txt"], "/x/", ""), (&["b.txt"], "/x", "")],
    &[(&["a.txt", "b.txt"], "/x/", "")],
    &[(&["a.txt", "d"], "/x/", "")],
    &[(&["d"], "/", "")],
    &[(&["d"], "/d", "")],
    &[(&["d/"], "/new/d/", "")],
    &[(&["d/."], "/new", "")],
    &[(&["d/e"], "/new", ""), (&["d"], "/new", "")],
    &[(&["d"], "/new", ""), (&["d/e"], "/new/e", "")],
    &[(&["."], "/all", "")],
    &[(&["d/x"], "/x", ""), (&["a.txt"], "/x", "")],
    &[(&["links"], "/l", "")],
    &[(&["links/to-a"], "/l", "")],
    &[(&["links/to-d"], "/l", "")],
    &[(&["a.txt"], "/x/y", "5:6")],
    &[(&["d"], "/x", "5:6")],
    &[(&["d"], "/x", "5:6"), (&["d"], "/x", "7:8")],
    &[
        (&["usr"], "/usr", ""),
        (&["links/lib"], "/", ""),
        (&["a.txt"], "/usr/lib/", ""),
    ],
    &[(&["rooted"], "/", ""), (&["a.txt"], "/lib/", "")],
    &[(&["rooted"], "/", ""), (&["d"], "/lib", "")],
    &[(&["rooted"], "/", ""), (&["a.txt"], "/lib/new/x", "")],
    &[(&["special"], "/s", "")],
    &[(&["deep"], "/deep", ""), (&["deep/1/2"], "/deep/1/2/3/4", "")],
];

fn make_context(folder: &Path) {
    for directory in [
        "d/e",
        "usr/lib",
        "links",
        "rooted/usr/lib",
        "deep/1/2/3",
        "special/empty",
        "special/new\nline",
    ] {
        fs::create_dir_all(folder.join(directory)).unwrap();
    }
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (path, content) in [
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("d/x", "x"),
        ("d/e/y", "y"),
        ("usr/lib/libc", "c"),
        ("deep/1/2/3/f", "f"),
        ("special/several", "s"),
        ("special/none", ""),
        ("special/\u{e4} b", "umlaut"),
    ] {
        fs::write(folder.join(path), content).unwrap();
    }
    for (path, bits) in [
        ("b.txt", 0o640),
        ("d/e", 0o750),
        ("special/several", 0o711),
        ("deep/1", 0o1777),
    ] {
        mode(path, bits);
    }
    symlink("../a.txt", folder.join("links/to-a")).unwrap();
    symlink("../d", folder.join("links/to-d")).unwrap();
    symlink("nowhere", folder.join("links/dangling")).unwrap();
    symlink("usr/lib", folder.join("links/lib")).unwrap_or(());
    symlink("usr/lib", folder.join("rooted/lib")).unwrap();
    fs::hard_link(folder.join("special/several"), folder.join("special/same")).unwrap();
}

fn buildah(state: &Path, arguments: &[&str]) -> Output {
    let root = state.join("root");
    let run = state.join("run");
    Command::new("buildah")
        .args(["--storage-driver", "vfs", "--root"])
        .arg(root)
        .arg("--runroot")
        .arg(run)
        .args(arguments)
        .output()
        .unwrap()
}

fn by_buildah(state: &Path, context: &Path, case: &[Instruction]) -> Option<Vec<String>> {
    let mut dockerfile = "FROM scratch\n".to_owned();
    for (sources, destination, owner) in case {
        let chown = if owner.is_empty() {
            String::new()
        } else {
            format!("--chown={owner} ")
        };
        dockerfile.push_str(&format!("COPY {chown}{} {destination}\n", sources.join(" ")));
    }
    let file = state.join("Dockerfile");
    fs::write(&file, &dockerfile).unwrap();
    let text = |output: Output| {
        let is_good = output.status.success();
        is_good.then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let (file, context) = (file.to_str().unwrap(), context.to_str().unwrap());
    let build = [
        "bud",
        "--isolation",
        "chroot",
        "--no-cache",
        "-q",
        "-t",
        "case",
        "-f",
        file,
        context,
    ];
    let image = text(buildah(state, &build))?;
    let container = text(buildah(state, &["from", &image])).unwrap();
    let mounted = text(buildah(state, &["mount", &container])).unwrap();
    let listing = host_listing(Path::new(&mounted));
    assert!(buildah(state, &["rm", &container]).status.success());
    Some(listing)
}

fn by_hull(context: &Context, case: &[Instruction]) -> Option<Vec<String>> {
    let mut stage = Stage::new();
    for (sources, destination, owner) in case {
        let tree = stage.tree();
        let owner = (!owner.is_empty()).then(|| builder::resolve_owner(&tree, owner).unwrap());
        let options = CopyOptions {
            owner,
            ..to(destination)
        };
        let sources: Vec<_> = sources.iter().map(|path| source(context, path)).collect();
        let (_, archive) = copied(&tree, &sources, &options).ok()?;
        stage.add(&archive);
    }
    Some(listing(&stage.tree()))
}

#[test]
fn both_make_the_same_of_copy() {
    let state = tempfile::tempdir().unwrap();
    let is_root = is_root();
    let is_there = Command::new("buildah").arg("--version").output().is_ok();
    if !is_root || !is_there {
        eprintln!("not compared: buildah cannot be run here");
        return;
    }
    let folder = state.path().join("context");
    fs::create_dir(&folder).unwrap();
    make_context(&folder);
    let tar = Command::new("tar")
        .arg("-C")
        .arg(&folder)
        .args(["--format=posix", "-c", "."])
        .output()
        .unwrap();
    let context = Context::from_tar(tar.stdout.as_slice(), state.path(), ContextLimits::default()).unwrap();
    let mut different = Vec::new();
    for case in CASES {
        let (theirs, ours) = (by_buildah(state.path(), &folder, case), by_hull(&context, case));
        if theirs != ours {
            different.push(format!("{case:?}\n  buildah: {theirs:#?}\n  hull:    {ours:#?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("Uid:"));
    line.is_some_and(|line| line.split_whitespace().nth(2) == Some("0"))
}
