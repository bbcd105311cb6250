//! Odd layers, and what they are about: every implementation has to make the same files of them. Self-contained
//! (crate `tar` only), so that other test programs can include it by its path.
#![allow(dead_code, reason = "each test program uses its part")]

#[allow(
    clippy::duplicate_mod,
    reason = "a program that has the fixture, too, has it twice"
)]
#[path = "../fixture/tar_builder.rs"]
mod tar_builder;

#[allow(unused_imports, reason = "other test programs build on it")]
pub(crate) use tar_builder::{Tar, header};

use tar::{EntryType, Header};

/// An image of odd layers.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Uncompressed archives, bottom first.
    pub(crate) layers: Vec<Vec<u8>>,
}

/// All cases.
pub(crate) fn corpus() -> Vec<Case> {
    [
        attributes(),
        names(),
        links(),
        contents(),
        replacements(),
        forms(),
        whiteouts(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn one(name: &'static str, tar: Tar) -> Case {
    Case {
        name,
        layers: vec![tar.finish()],
    }
}

fn several<const N: usize>(name: &'static str, layers: [Tar; N]) -> Case {
    Case {
        name,
        layers: layers.into_iter().map(Tar::finish).collect(),
    }
}

fn with_mode(kind: EntryType, path: &str, mode: u32) -> Header {
    let mut header = header(kind, path, "", 0);
    header.set_mode(mode);
    header
}

fn with_mtime(path: &str, mtime: u64) -> Header {
    let mut header = header(EntryType::Regular, path, "", 0);
    header.set_mtime(mtime);
    header
}

fn attributes() -> Vec<Case> {
    let modes = [0o4755, 0o2755, 0o1777, 0o0000, 0o7777, 0o0400];
    let files = modes.iter().fold(Tar::new(), |tar, mode| {
        tar.raw(with_mode(EntryType::Regular, &format!("f{mode:o}"), *mode), b"")
    });
    let all = modes.iter().fold(files, |tar, mode| {
        tar.raw(
            with_mode(EntryType::Directory, &format!("d{mode:o}/"), *mode),
            b"",
        )
    });
    let mut type_bits = header(EntryType::Regular, "with-type-bits", "", 0);
    type_bits.set_mode(0o100_640);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        one("modes with all bits", all),
        one("a mode that holds a file type", Tar::new().raw(type_bits, b"")),
        one(
            "the root has attributes",
            Tar::new().raw(with_mode(EntryType::Directory, "./", 0o1770), b""),
        ),
        one(
            "owners beyond 16 and 21 bits",
            Tar::new()
                .pax(&[("uid", b"4294967294"), ("gid", b"3000000")])
                .file("pax", b"")
                .raw(
                    {
                        let mut header = Header::new_gnu();
                        header.set_path("base256").unwrap();
                        header.set_mode(0o600);
                        header.set_uid(3_000_000_000);
                        header.set_gid(2_999_999);
                        header.set_mtime(1_600_000_000);
                        header.set_size(0);
                        header
                    },
                    b"",
                ),
        ),
        one(
            "times to the nanosecond",
            Tar::new()
                .pax(&[("mtime", b"1500000000.123456789")])
                .file("nine", b"")
                .pax(&[("mtime", b"1500000000.5")])
                .file("one", b"")
                .pax(&[("mtime", b"1500000000.000000001")])
                .symlink("link", "nine")
                .pax(&[("mtime", b"1500000000.25")])
                .dir("dir/")
                .file("dir/later", b""),
        ),
        one(
            "times before 1970",
            Tar::new()
                .pax(&[("mtime", b"-86400")])
                .file("whole", b"")
                .pax(&[("mtime", b"-1.5")])
                .file("half", b""),
        ),
        one(
            "times after 2038",
            Tar::new().raw(with_mtime("file", 4_000_000_000), b""),
        ),
        one("the epoch", Tar::new().raw(with_mtime("file", 0), b"")),
        one(
            "attributes of all kinds",
            Tar::new()
                .pax(&[
                    ("SCHILY.xattr.user.text", b"value"),
                    ("SCHILY.xattr.user.empty", b""),
                    ("SCHILY.xattr.user.binary", b"a\nb\0c=d\n"),
                ])
                .file("user", b"")
                .pax(&[("SCHILY.xattr.security.capability", &capability)])
                .file("capability", b"")
                .pax(&[("SCHILY.xattr.user.dir", b"1")])
                .dir("dir/"),
        ),
        one(
            "many attributes",
            Tar::new()
                .pax(&[
                    ("SCHILY.xattr.user.a", &[b'a'; 500]),
                    ("SCHILY.xattr.user.b", &[b'b'; 500]),
                    ("SCHILY.xattr.user.c", &[b'c'; 500]),
                    ("SCHILY.xattr.user.d", &[b'd'; 500]),
                ])
                .file("file", b"content"),
        ),
    ]
}

fn names() -> Vec<Case> {
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

fn links() -> Vec<Case> {
    vec![
        one(
            "hard links",
            Tar::new()
                .file("a", b"content")
                .hard_link("b", "a")
                .hard_link("dir/c", "/b")
                .hard_link("./d", "./dir/c"),
        ),
        one(
            "a hard link to a symbolic link",
            Tar::new().symlink("a", "nowhere").hard_link("b", "a"),
        ),
        one(
            "hard links to devices",
            Tar::new()
                .device(EntryType::Char, "null", 1, 3)
                .hard_link("zero", "null"),
        ),
        one(
            "a hard link with its own attributes",
            Tar::new().file("a", b"x").raw(
                {
                    let mut header = header(EntryType::Link, "b", "a", 0);
                    header.set_mode(0o600);
                    header.set_uid(7);
                    header
                },
                b"",
            ),
        ),
        one(
            "symbolic links of all kinds",
            Tar::new()
                .symlink("absolute", "/etc/passwd")
                .symlink("relative", "../../x")
                .symlink("self", "self")
                .symlink("dot", ".")
                .symlink("trailing", "dir/"),
        ),
        one(
            "an entry below a symbolic link",
            Tar::new()
                .dir("real/")
                .symlink("link", "real")
                .file("link/file", b"through"),
        ),
        one(
            "devices and pipes",
            Tar::new()
                .device(EntryType::Char, "null", 1, 3)
                .device(EntryType::Block, "sda1", 8, 1)
                .device(EntryType::Char, "large", 4095, 1_048_575)
                .entry(EntryType::Fifo, "pipe", "", b""),
        ),
    ]
}

/// Contents whose sizes lie around those that formats treat apart.
fn contents() -> Vec<Case> {
    let sizes = [
        0, 1, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 65_536, 1_000_000,
    ];
    let all = sizes.iter().fold(Tar::new(), |tar, size| {
        let content: Vec<u8> = (0..*size).map(|n: usize| (n % 251) as u8).collect();
        tar.file(&format!("f{size}"), &content)
    });
    let mut cases = vec![
        one("files of all sizes", all),
        one(
            "zeros",
            Tar::new()
                .file("zeros", &[0; 100_000])
                .file("mixed", &[[0; 5000], [1; 5000]].concat()),
        ),
    ];
    type Sparse = (&'static str, &'static [(&'static str, &'static [u8])], Vec<u8>);
    let map: [Sparse; 3] = [
        (
            "sparse, pax 0.0",
            &[
                ("GNU.sparse.size", b"20000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"512"),
                ("GNU.sparse.numbytes", b"512"),
                ("GNU.sparse.offset", b"10240"),
                ("GNU.sparse.numbytes", b"100"),
            ],
            vec![7; 612],
        ),
        (
            "sparse, pax 0.1",
            &[
                ("GNU.sparse.size", b"20000"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.map", b"512,512,10240,100"),
                ("GNU.sparse.name", b"real-name"),
            ],
            vec![7; 612],
        ),
        (
            "sparse, pax 1.0",
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"real-name"),
                ("GNU.sparse.realsize", b"20000"),
            ],
            {
                let mut data = b"2\n512\n512\n10240\n100\n".to_vec();
                data.resize(512, 0);
                data.extend_from_slice(&[7; 612]);
                data
            },
        ),
    ];
    for (name, records, data) in map {
        cases.push(one(name, Tar::new().pax(records).file("stored-name", &data)));
    }
    let mut gnu = Header::new_gnu();
    gnu.set_path("sparse").unwrap();
    gnu.set_entry_type(EntryType::GNUSparse);
    gnu.set_mode(0o644);
    gnu.set_uid(0);
    gnu.set_gid(0);
    gnu.set_mtime(1_700_000_000);
    gnu.set_size(600);
    let sparse = gnu.as_gnu_mut().unwrap();
    sparse.set_real_size(50_000);
    sparse.sparse[0].set_offset(4096);
    sparse.sparse[0].set_length(600);
    cases.push(one("sparse, old GNU form", Tar::new().raw(gnu, &[8; 600])));
    cases
}

fn replacements() -> Vec<Case> {
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

/// Archives that are written in unusual ways.
fn forms() -> Vec<Case> {
    let v7 = {
        let mut header = Header::new_old();
        header.set_path("v7").unwrap();
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(1_000_000_000);
        header.set_size(3);
        header
    };
    let mut v7_directory = v7.clone();
    v7_directory.as_old_mut().name[..4].copy_from_slice(b"dir/");
    v7_directory.as_old_mut().linkflag = [0];
    v7_directory.set_size(0);
    let mut cases = vec![
        one(
            "headers older than POSIX",
            Tar::new().raw(v7, b"abc").raw(v7_directory, b""),
        ),
        one(
            "global records",
            Tar::new()
                .entry(
                    EntryType::XGlobalHeader,
                    "pax_global_header",
                    "",
                    b"19 comment=nothing\n",
                )
                .file("f", b"x"),
        ),
        one(
            "a contiguous file",
            Tar::new().entry(EntryType::Continuous, "f", "", b"content"),
        ),
        one(
            "a size in pax",
            Tar::new()
                .pax(&[("size", b"5")])
                .raw(header(EntryType::Regular, "f", "", 5), b"hello"),
        ),
    ];
    let whole = Tar::new().file("f", b"content").finish();
    cases.push(Case {
        name: "no end mark",
        layers: vec![whole[..1024].to_vec()],
    });
    cases.push(Case {
        name: "zeros and more behind the end mark",
        layers: vec![[whole.as_slice(), &[0; 20_000]].concat()],
    });
    cases
}

fn whiteouts() -> Vec<Case> {
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
