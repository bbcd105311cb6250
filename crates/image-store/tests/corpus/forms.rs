//! Archives that are written in unusual ways.

use tar::{EntryType, Header};

use super::{Case, Tar, header, one};

pub(super) fn cases() -> Vec<Case> {
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
