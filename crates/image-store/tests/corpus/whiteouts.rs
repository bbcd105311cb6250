//! What a layer removes of those below it.

use super::{Case, Tar, several};

pub(super) fn cases() -> Vec<Case> {
    let base = || {
        Tar::new()
            .dir("d/")
            .file("d/a", b"a")
            .dir("d/sub/")
            .file("d/sub/b", b"b")
            .file("f", b"f")
            .symlink("l", "d")
    };
    vec![
        several(
            "a file removed",
            [base(), Tar::new().file("d/.wh.a", b"").file(".wh.f", b"")],
        ),
        several("a directory removed", [base(), Tar::new().file(".wh.d", b"")]),
        several("a symbolic link removed", [base(), Tar::new().file(".wh.l", b"")]),
        several(
            "what does not exist removed",
            [base(), Tar::new().file(".wh.nothing", b"")],
        ),
        several(
            "a directory emptied",
            [base(), Tar::new().dir("d/").file("d/.wh..wh..opq", b"")],
        ),
        several(
            "a directory emptied and filled",
            [
                base(),
                Tar::new()
                    .dir("d/")
                    .file("d/.wh..wh..opq", b"")
                    .file("d/new", b"n"),
            ],
        ),
        several(
            "a directory filled and emptied",
            [
                base(),
                Tar::new()
                    .dir("d/")
                    .file("d/new", b"n")
                    .file("d/.wh..wh..opq", b""),
            ],
        ),
        several(
            "removed and made again above",
            [
                base(),
                Tar::new().file(".wh.f", b""),
                Tar::new().file("f", b"again"),
            ],
        ),
        several(
            "a removed directory made again above",
            [
                base(),
                Tar::new().file(".wh.d", b""),
                Tar::new().dir("d/").file("d/only", b"o"),
            ],
        ),
        several(
            "a deep directory emptied",
            [
                base(),
                Tar::new().dir("d/").dir("d/sub/").file("d/sub/.wh..wh..opq", b""),
            ],
        ),
    ]
}
