//! What stands in the stead of something, in one layer or above it.

use tar::EntryType;

use super::{Case, Tar, one, several, with_mode};

pub(super) fn cases() -> Vec<Case> {
    vec![
        one(
            "a file twice",
            Tar::new().file("f", b"first").file("f", b"second"),
        ),
        one(
            "a directory twice",
            Tar::new()
                .dir("d/")
                .file("d/f", b"")
                .raw(with_mode(EntryType::Directory, "d/", 0o700), b""),
        ),
        one(
            "a file in the stead of an empty directory",
            Tar::new().dir("d/").file("d", b"file"),
        ),
        one(
            "a directory in the stead of a file",
            Tar::new().file("d", b"file").dir("d/").file("d/f", b""),
        ),
        one(
            "a symbolic link in the stead of a file",
            Tar::new().file("f", b"x").symlink("f", "g"),
        ),
        one(
            "one name of a linked file replaced",
            Tar::new().file("a", b"old").hard_link("b", "a").file("a", b"new"),
        ),
        several(
            "a file over a file",
            [Tar::new().file("f", b"below"), Tar::new().file("f", b"above")],
        ),
        several(
            "a file over a directory",
            [
                Tar::new().dir("d/").file("d/f", b"x"),
                Tar::new().file("d", b"file"),
            ],
        ),
        several(
            "a directory over a file",
            [
                Tar::new().file("d", b"file"),
                Tar::new().dir("d/").file("d/f", b"x"),
            ],
        ),
        several(
            "a directory over a directory",
            [
                Tar::new().dir("d/").file("d/below", b"x"),
                Tar::new()
                    .raw(with_mode(EntryType::Directory, "d/", 0o700), b"")
                    .file("d/above", b"y"),
            ],
        ),
    ]
}
