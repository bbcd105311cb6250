//! Layers that were made to do harm: refused by name or made harmless, and nothing is left of them.

mod fixture;

use fixture::{
    Layout, Store, TAR, Tar, content, find, gzip, header, import_layer, names, refuse, refuse_layer,
};
use image_store::{BlobDescriptor, Digest, ImageStore, Limits};
use std::io::Read;
use tar::{EntryType, Header};

#[test]
fn entries_below_what_is_no_directory() {
    let message = refuse_layer(Tar::new().file("a", b"").file("a/b", b"").finish());
    assert!(
        message.contains("entry `a/b` lies beneath `a`, which is not a directory"),
        "{message}"
    );
    let message = refuse_layer(
        Tar::new()
            .device(EntryType::Char, "null", 1, 3)
            .file("null/b", b"")
            .finish(),
    );
    assert!(message.contains("lies beneath `null`"), "{message}");
    let message = refuse_layer(
        Tar::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", b"")
            .finish(),
    );
    assert!(message.contains("symbolic links"), "{message}");
    // A link that climbs ends at the root of the image, as it does in the container.
    let mut reader = import_layer(
        Tar::new()
            .symlink("up", "../../../..")
            .file("up/file", b"inside")
            .finish(),
    );
    assert_eq!(content(&mut reader, "file"), b"inside");
}

#[test]
fn links_to_what_no_link_may_have() {
    let refused = |tar: Tar, expected: &str| {
        let message = refuse_layer(tar.finish());
        assert!(message.contains(expected), "{message}");
    };
    refused(
        Tar::new().hard_link("a", "nothing"),
        "points to `nothing`, which is not in this image",
    );
    refused(
        Tar::new().dir("d/").hard_link("a", "d"),
        "hard link `a` points to the directory `d`",
    );
    refused(
        Tar::new().hard_link("a", ""),
        "hard link `a` points to the directory",
    );
    refused(Tar::new().hard_link("a", "../../etc/passwd"), "climbs with `..`");
    refused(
        Tar::new().symlink("a", ""),
        "has a target that no system call accepts",
    );
    let long = "t".repeat(5000);
    refused(
        Tar::new().pax(&[("linkpath", long.as_bytes())]).symlink("a", "x"),
        "5000 bytes",
    );
}

#[test]
fn names_that_no_file_system_has() {
    let long = vec![b'n'; 100_000];
    let nul = [long.as_slice(), b"\0"].concat();
    let deep = "d/".repeat(50_000);
    let refused = |tar: Tar, expected: &str| {
        let message = refuse_layer(tar.finish());
        assert!(message.contains(expected), "{message}");
        assert!(message.len() < 2000, "a message of {} bytes", message.len());
    };
    refused(
        Tar::new().pax(&[("path", &long)]).file("x", b""),
        "a path of 100000 bytes",
    );
    refused(
        Tar::new()
            .entry(EntryType::GNULongName, "L", "", &nul)
            .file("x", b""),
        "a path of 100000 bytes",
    );
    refused(
        Tar::new().pax(&[("path", deep.as_bytes())]).dir("x"),
        "a path of 100000 bytes",
    );
    refused(
        Tar::new().pax(&[("path", &long[..300])]).file("x", b""),
        "a name of 300 bytes",
    );
    refused(Tar::new().pax(&[("path", b"a\0b")]).file("x", b""), "NUL byte");
    refused(Tar::new().file(".", b"x"), "names the root of the image");
    let huge = vec![b' '; (1 << 20) + 1];
    refused(
        Tar::new()
            .entry(EntryType::GNULongName, "L", "", &huge)
            .file("x", b""),
        "an extended header of",
    );
}

#[test]
fn whiteouts_of_what_cannot_be_removed() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", "/.wh."] {
        let message = refuse_layer(Tar::new().file(name, b"").finish());
        assert!(
            message.contains("without the name of a file"),
            "{name}: {message}"
        );
    }
    let message = refuse_layer(Tar::new().file("../.wh.x", b"").finish());
    assert!(message.contains("climbs with `..`"), "{message}");
    // The root emptied: what is below is hidden, and the layer is a layer.
    let mut reader = import_layer(Tar::new().file(".wh..wh..opq", b"").file("f", b"x").finish());
    assert_eq!(names(&mut reader, "/"), ["f"]);
    let root = find(&mut reader, "/");
    assert!(reader.xattr(&root, b"trusted.overlay.opaque").is_some());
    // A whiteout with a body, or as a directory, is still only a whiteout.
    let mut reader = import_layer(Tar::new().file(".wh.f", &[1; 5000]).dir(".wh.d/").finish());
    assert_eq!(names(&mut reader, "/"), ["d", "f"]);
}

#[test]
fn attributes_that_no_file_has() {
    let refused = |tar: Tar, expected: &str| {
        let message = refuse_layer(tar.finish());
        assert!(message.contains(expected), "{message}");
    };
    let large = vec![b'x'; 65_536];
    refused(
        Tar::new()
            .pax(&[("SCHILY.xattr.user.large", &large)])
            .file("f", b""),
        "attribute `user.large` has a value of 65536 bytes",
    );
    let half = vec![b'x'; 60_000];
    let many: Vec<(String, &[u8])> = (0..6)
        .map(|n| (format!("SCHILY.xattr.user.{n}"), half.as_slice()))
        .collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    refused(
        Tar::new().pax(&many).file("f", b""),
        "the extended attributes of one file take",
    );
    refused(
        Tar::new()
            .pax(&[("mtime", b"99999999999999999999")])
            .file("f", b""),
        "`mtime` is no time",
    );
    refused(
        Tar::new().pax(&[("mtime", b"1e9")]).file("f", b""),
        "`mtime` is no time",
    );
    refused(
        Tar::new().pax(&[("uid", b"4294967296")]).file("f", b""),
        "beyond 32 bits",
    );
    refused(
        Tar::new().pax(&[("uid", b"-1")]).file("f", b""),
        "`uid` is not a number",
    );
    refused(
        Tar::new().device(EntryType::Char, "d", 0o7_777_777, 0),
        "a number beyond 12 bits major",
    );
    refused(
        Tar::new().device(EntryType::Block, "d", 8, 0o7_777_777),
        "a number beyond 12 bits major",
    );
    // What can be stored is, however odd: a time far away, an attribute of an unknown kind is left out.
    let odd = Tar::new()
        .pax(&[("mtime", b"9223372036854775807"), ("SCHILY.xattr.nonsense", b"x")])
        .file("f", b"");
    let file = find(&mut import_layer(odd.finish()), "f");
    assert_eq!(
        (file.metadata.mtime.seconds, file.metadata.xattrs.len()),
        (i64::MAX, 0)
    );
}

fn sparse(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_path("sparse").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.as_gnu_mut().unwrap().set_real_size(size);
    header
}

#[test]
fn a_sparse_file_of_a_hundred_gigabytes() {
    let message = refuse_layer(Tar::new().raw(sparse(100 << 30), b"").finish());
    assert!(
        message.contains("`sparse` makes the image larger than the 68719476736 bytes"),
        "{message}"
    );
    let size = (100u64 << 30).to_string();
    let pax = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .file("sparse", &[b"0\n".as_slice(), &[0; 510]].concat());
    assert!(refuse_layer(pax.finish()).contains("makes the image larger than"));
    let pax = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"10"),
        ])
        .file("sparse", &[b"99999999\n".as_slice(), &[0; 503]].concat());
    assert!(refuse_layer(pax.finish()).contains("segments"));
}

#[test]
fn bombs_of_every_compression_end_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        archive_bytes: 4 << 20,
        ..Limits::default()
    };
    let store = ImageStore::open_with(dir.path(), limits).unwrap();
    let zeros = Tar::new().file("zeros", &vec![0; 64 << 20]).finish();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    std::io::Write::write_all(&mut xz, &zeros).unwrap();
    for bomb in [
        gzip(&zeros),
        zstd::encode_all(zeros.as_slice(), 1).unwrap(),
        xz.finish().unwrap(),
    ] {
        let layer = BlobDescriptor {
            media_type: TAR.to_owned(),
            digest: Digest::of(&bomb),
            size: bomb.len() as u64,
        };
        let ingest = store.ingest().unwrap();
        let error = ingest
            .put_layer(&layer, None, bomb.as_slice())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exceeds the 4194304 bytes that are allowed"),
            "{error}"
        );
        drop(ingest);
        assert!(
            fixture::files_in(dir.path())
                .iter()
                .all(|name| name.starts_with("catalog."))
        );
    }
}

#[test]
fn a_zstd_frame_with_a_huge_window_is_refused() {
    let archive = Tar::new().file("file", &vec![7; 1 << 20]).finish();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &archive).unwrap();
    let bytes = encoder.finish().unwrap();
    let layout = Layout::new();
    let layer = layout.blob(&format!("{TAR}+zstd"), &bytes);
    layout.index(&[layout.image_of(&[layer], &[Digest::of(&archive)], "amd64")]);
    let message = refuse(&layout);
    assert!(message.contains("too much memory"), "{message}");
}

/// Ten million empty files, made as they are read.
struct ManyFiles {
    next: u64,
    block: Vec<u8>,
    at: usize,
}

impl Read for ManyFiles {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.block.len() {
            if self.next == 10_000_000 {
                return Ok(0);
            }
            let mut header = header(
                EntryType::Regular,
                &format!("d{}/f{}", self.next / 1000, self.next),
                "",
                0,
            );
            header.set_cksum();
            self.block = header.as_bytes().to_vec();
            (self.next, self.at) = (self.next + 1, 0);
        }
        let count = into.len().min(self.block.len() - self.at);
        into[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[test]
fn ten_million_entries_are_refused_within_bounded_memory() {
    let store = Store::new();
    let layer = BlobDescriptor {
        media_type: TAR.to_owned(),
        digest: Digest::of(b"not known before its end"),
        size: 10_000_000 * 512,
    };
    let source = ManyFiles {
        next: 0,
        block: Vec::new(),
        at: 0,
    };
    let ingest = store.store.ingest().unwrap();
    let error = ingest.put_layer(&layer, None, source).unwrap_err().to_string();
    assert!(
        error.contains("is one too many: 1048576 files are allowed in one image"),
        "{error}"
    );
    drop(ingest);
    assert_eq!(store.files(), [""; 0]);
    let peak = peak_memory();
    assert!(peak < 512 << 20, "{peak} bytes of memory");
}

/// The most memory that this process has had, in bytes. Each test is a process of its own under nextest.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kibibytes = line.split_whitespace().nth(1).unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
}
