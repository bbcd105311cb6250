//! Contents whose sizes lie around those that formats treat apart, and sparse ones.

use tar::{EntryType, Header};

use super::{Case, Tar, one};

pub(super) fn cases() -> Vec<Case> {
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
