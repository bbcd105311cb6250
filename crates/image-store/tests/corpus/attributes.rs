//! What entries say of themselves: modes, owners, times, extended attributes.

use tar::{EntryType, Header};

use super::{Case, Tar, header, one, with_mode, with_mtime};

pub(super) fn cases() -> Vec<Case> {
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
