//! Names, and how they are written.

use tar::EntryType;

use super::{Case, Tar, header, one};

pub(super) fn cases() -> Vec<Case> {
    let long = "d/".repeat(120) + "name";
    let nul = |name: &str| [name.as_bytes(), b"\0"].concat();
    let name_255 = "n".repeat(255);
    let deep = (0..45).fold(Tar::new(), |tar, depth| tar.dir(&"d/".repeat(depth + 1)));
    let mut prefix = header(EntryType::Regular, "name", "", 0);
    prefix.as_ustar_mut().unwrap().prefix[..9].copy_from_slice(b"some/path");
    let mut bytes = header(EntryType::Regular, "x", "", 0);
    bytes.as_old_mut().name[..4].copy_from_slice(b"\xff\xfe\x80z");
    vec![
        one("nothing", Tar::new()),
        one(
            "directories that no entry describes",
            Tar::new().file("a/b/c", b"c").symlink("x/y", "z"),
        ),
        one(
            "long names in GNU's form",
            Tar::new()
                .entry(EntryType::GNULongName, "././@LongLink", "", &nul(&long))
                .file("cut", b"1")
                .entry(EntryType::GNULongLink, "././@LongLink", "", &nul(&long))
                .symlink("link", "cut"),
        ),
        one(
            "long names in pax",
            Tar::new()
                .pax(&[("path", long.as_bytes())])
                .file("cut", b"1")
                .pax(&[("linkpath", "t/".repeat(1000).as_bytes())])
                .symlink("link", "cut"),
        ),
        one(
            "a name of 255 bytes",
            Tar::new().pax(&[("path", name_255.as_bytes())]).file("cut", b""),
        ),
        one(
            "many directories deep",
            deep.file(&("d/".repeat(40) + "file"), b"deep"),
        ),
        one("a prefix in the header", Tar::new().raw(prefix, b"")),
        one("names that are not text", Tar::new().raw(bytes, b"")),
        one(
            "names with spaces, newlines, colons",
            Tar::new()
                .file("a b", b"1")
                .file("a\nb", b"2")
                .file("a:b\\c\t", b"3")
                .file("ä€😀", b"4"),
        ),
        one(
            "absolute names and needless slashes",
            Tar::new()
                .dir("/etc/")
                .file("/etc/a", b"a")
                .file(".//etc//./b", b"b")
                .file("./c", b"c"),
        ),
        one(
            "names that look like options and whiteouts",
            Tar::new().file("-rf", b"").file("a.wh.b", b""),
        ),
    ]
}
