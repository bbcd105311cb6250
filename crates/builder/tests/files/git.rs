//! Repositories that the test makes with the git that is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use builder::{GitError, GitOptions, GitReference, fetch_git, resolve_git};
use tempfile::TempDir;

use crate::support::listing;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = [
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@example.com",
        "-c",
        "init.defaultBranch=main",
    ];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with two commits, a branch and a tag.
fn repository() -> (TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    git(path, &["init", "-q", "."]);
    fs::create_dir_all(path.join("sub/dir")).unwrap();
    fs::write(path.join("first"), "1").unwrap();
    fs::write(path.join("sub/run"), "#!/bin/sh").unwrap();
    fs::set_permissions(path.join("sub/run"), fs::Permissions::from_mode(0o777)).unwrap();
    symlink("../../../etc/passwd", path.join("sub/dir/link")).unwrap();
    fs::write(path.join("secret"), "kept").unwrap();
    fs::write(
        path.join(".gitattributes"),
        "secret export-ignore\nfirst export-subst\n",
    )
    .unwrap();
    git(path, &["add", "."]);
    git(path, &["commit", "-q", "-m", "one"]);
    let one = git(path, &["rev-parse", "HEAD"]);
    git(path, &["tag", "-a", "-m", "t", "v1"]);
    git(path, &["branch", "old"]);
    fs::write(path.join("first"), "$Format:%H$").unwrap();
    git(path, &["commit", "-q", "-a", "-m", "two"]);
    let two = git(path, &["rev-parse", "HEAD"]);
    (folder, one, two)
}

fn options() -> GitOptions {
    GitOptions {
        allow_local: true,
        ..GitOptions::default()
    }
}

fn reference(folder: &TempDir, fragment: &str) -> GitReference {
    format!("file://{}#{fragment}", folder.path().display())
        .parse()
        .unwrap()
}

fn fetched(reference: &GitReference, options: &GitOptions) -> Result<builder::Context, GitError> {
    let folder = tempfile::tempdir().unwrap();
    let commit = resolve_git(reference, options, folder.path())?;
    let context = fetch_git(reference, &commit, options, folder.path());
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something is left"
    );
    context
}

#[test]
fn a_commit_becomes_a_context() {
    let (repository, one, two) = repository();
    let folder = tempfile::tempdir().unwrap();
    for (fragment, commit) in [
        ("", &two),
        ("main", &two),
        ("v1", &one),
        ("old", &one),
        (&one, &one),
        ("refs/heads/old", &one),
    ] {
        let resolved = resolve_git(&reference(&repository, fragment), &options(), folder.path()).unwrap();
        assert_eq!(&resolved, commit, "{fragment}");
    }
    let attributes = "secret export-ignore\nfirst export-subst\n";
    let lines = |first: &str| {
        vec![
            format!("f 644 0:0 /.gitattributes = {attributes}"),
            format!("f 644 0:0 /first = {first}"),
            "f 644 0:0 /secret = kept".to_owned(),
            "d 755 0:0 /sub".to_owned(),
            "d 755 0:0 /sub/dir".to_owned(),
            "l 777 0:0 /sub/dir/link -> ../../../etc/passwd".to_owned(),
            "f 755 0:0 /sub/run = #!/bin/sh".to_owned(),
        ]
    };
    let context = fetched(&reference(&repository, ""), &options()).unwrap();
    assert_eq!(listing(&context), lines("$Format:%H$"));
    let context = fetched(&reference(&repository, &one), &options()).unwrap();
    assert_eq!(listing(&context), lines("1"));
    let context = fetched(&reference(&repository, "v1:sub/dir"), &options()).unwrap();
    assert_eq!(listing(&context), ["l 777 0:0 /link -> ../../../etc/passwd"]);
    let time = git(repository.path(), &["show", "-s", "--format=%ct", &one]);
    let root = builder::FileTree::root(&context).unwrap();
    let link = builder::FileTree::child(&context, &root, b"link")
        .unwrap()
        .unwrap();
    assert_eq!(link.attributes.mtime.seconds.to_string(), time);
}

#[test]
fn the_repository_may_come_along() {
    let (repository, _, two) = repository();
    let options = GitOptions {
        keep_git_dir: true,
        ..options()
    };
    let context = fetched(&reference(&repository, "main"), &options).unwrap();
    let unpacked = tempfile::tempdir().unwrap();
    let root = builder::FileTree::root(&context).unwrap();
    write_out(&context, &root, unpacked.path());
    assert_eq!(git(unpacked.path(), &["rev-parse", "HEAD"]), two);
    assert_eq!(git(unpacked.path(), &["status", "--porcelain"]), "");
}

/// As a client would unpack it.
fn write_out(tree: &dyn builder::FileTree, directory: &builder::Node, folder: &Path) {
    for name in tree.names(directory).unwrap() {
        let node = tree.child(directory, &name).unwrap().unwrap();
        let path = folder.join(String::from_utf8(name).unwrap());
        match node.kind {
            builder::NodeKind::Directory => {
                fs::create_dir(&path).unwrap();
                write_out(tree, &node, &path);
            }
            builder::NodeKind::Symlink => {
                symlink(
                    String::from_utf8(tree.link_target(&node).unwrap()).unwrap(),
                    &path,
                )
                .unwrap();
            }
            _ => {
                let mut file = fs::File::create(&path).unwrap();
                std::io::copy(&mut tree.open(&node).unwrap(), &mut file).unwrap();
                file.set_permissions(fs::Permissions::from_mode(node.attributes.mode.into()))
                    .unwrap();
            }
        }
    }
}

#[test]
fn what_cannot_be_had_is_told() {
    let (repository, ..) = repository();
    let none = reference(&repository, "none");
    let error = fetched(&none, &options()).unwrap_err();
    assert!(
        error.to_string().ends_with("has no branch, tag or commit none"),
        "{error}"
    );
    let unknown = reference(&repository, &"0a".repeat(20));
    assert!(fetched(&unknown, &options()).is_err());
    assert!(fetched(&reference(&repository, "main:none"), &options()).is_err());
    let nowhere: GitReference = "file:///nowhere/at/all".parse().unwrap();
    let error = fetched(&nowhere, &options()).unwrap_err();
    assert!(matches!(error, GitError::Failed { .. }), "{error}");
    let error = fetched(&reference(&repository, ""), &GitOptions::default()).unwrap_err();
    assert!(matches!(error, GitError::Local(_)), "{error}");
    let hasty = GitOptions {
        time: Duration::ZERO,
        ..options()
    };
    assert!(matches!(
        fetched(&reference(&repository, ""), &hasty),
        Err(GitError::TooSlow { .. })
    ));
    let small = GitOptions {
        max_bytes: 20,
        ..options()
    };
    let error = fetched(&reference(&repository, ""), &small).unwrap_err();
    assert!(
        matches!(error, GitError::Context(_) | GitError::Failed { .. }),
        "{error}"
    );
}

#[test]
fn a_large_tree_is_refused_for_its_size() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q", "."]);
    // It packs to almost nothing.
    fs::write(folder.path().join("zeros"), vec![0; 4 << 20]).unwrap();
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-q", "-m", "one"]);
    let options = GitOptions {
        max_bytes: 1 << 20,
        ..options()
    };
    let error = fetched(&reference(&folder, ""), &options).unwrap_err();
    assert!(
        matches!(error, GitError::Context(builder::ContextError::TooLarge { .. })),
        "{error}"
    );
}
