//! Links, and what is neither a file nor a directory.

use tar::EntryType;

use super::{Case, Tar, header, one};

pub(super) fn cases() -> Vec<Case> {
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
