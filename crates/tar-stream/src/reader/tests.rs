//! Archives that are damaged, and forms that the writer has not.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tar::{EntryType, Header};

use crate::{ArchiveError, Entry, EntryKind, Reader, Segment, Writer};

/// An archive with every kind of header that has a parser of its own.
fn archive() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut sparse = Entry::new("s", EntryKind::Regular);
    sparse.size = 1 << 20;
    let segments = vec![Segment {
        offset: 512,
        length: 5,
    }];
    assert!(sparse.set_segments(segments));
    writer.begin(&sparse).unwrap();
    writer.write(b"hello").unwrap();
    let mut long = Entry::new("l".repeat(300), EntryKind::Symlink);
    long.link = vec![b'x'; 200];
    writer.begin(&long).unwrap();
    let mut archive = writer.finish().unwrap();
    let mut gnu = Header::new_gnu();
    gnu.set_entry_type(EntryType::GNULongName);
    gnu.set_size(5);
    gnu.set_cksum();
    let mut block = [0; 512];
    block[..4].copy_from_slice(b"name");
    archive.splice(0..0, [gnu.as_bytes().as_slice(), &block].concat());
    archive
}

fn repair_checksums(archive: &mut [u8]) {
    for block in archive.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            let mut header = Header::from_byte_slice(block).clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
}

fn read_all(archive: &[u8]) -> Result<(), ArchiveError> {
    let mut reader = Reader::new(archive);
    let mut buffer = [0; 4096];
    while let Some(entry) = reader.next()? {
        let mut content = reader.content(&entry);
        while matches!(content.next_data(&mut buffer), Ok(Some((_, bytes))) if !bytes.is_empty()) {}
    }
    Ok(())
}

#[test]
fn numbers_left_blank_are_zero() {
    for blank in [0, b' '] {
        let mut header = Header::new_ustar();
        header.set_path("blank").unwrap();
        header.set_entry_type(EntryType::Regular);
        let old = header.as_old_mut();
        (old.mode, old.uid, old.gid) = ([blank; 8], [blank; 8], [blank; 8]);
        (old.size, old.mtime) = ([blank; 12], [blank; 12]);
        header.set_cksum();
        let entry = Reader::new(header.as_bytes().as_slice()).next().unwrap().unwrap();
        assert_eq!((entry.mode, entry.uid, entry.gid, entry.size), (0, 0, 0, 0));
        assert_eq!(entry.mtime.seconds, 0);
    }
}

#[test]
fn the_undamaged_archive_reads() {
    read_all(&archive()).unwrap();
}

proptest! {
    #[test]
    fn a_damaged_archive_is_an_error_and_no_panic(
        damage in vec((any::<Index>(), any::<u8>()), 0..20), cut in any::<Index>(),
    ) {
        let mut archive = archive();
        for (at, value) in damage {
            let at = at.index(archive.len());
            archive[at] = value;
        }
        repair_checksums(&mut archive);
        let _ = read_all(&archive);
        let _ = read_all(&archive[..cut.index(archive.len())]);
    }
}

#[test]
fn an_extended_header_over_the_limit_is_refused_before_memory_is_taken() {
    for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = Reader::new(header.as_bytes().as_slice()).next().unwrap_err();
        assert!(error.to_string().contains("1048576 are possible"), "{error}");
    }
}
