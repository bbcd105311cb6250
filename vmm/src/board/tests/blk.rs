//! The disk, driven as a driver would, and as one should not.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use vm_memory::{Bytes, GuestAddress};

use super::driver::{DATA, Descriptor, Driver, INDIRECT, NEEDS_RESET, NEXT, QUEUE_SIZE, WRITE};
use super::{Bench, disk, spec, start};

/// Request types and statuses.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;
/// What the tests put where a status is to come.
const NO_STATUS: u8 = 0xaa;

const SECTOR: usize = 512;
const SECTORS: u64 = 256;

/// Where the parts of a request lie.
const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 0x1000;
const BUFFER: u64 = DATA + 0x10_0000;

fn disk_file() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SECTORS * SECTOR as u64).unwrap();
    file
}

fn bench(file: &File) -> Bench {
    start(spec(vec![disk(file, false)]))
}

/// Sends a request whose data is `buffers` and returns its status and the length the device says it wrote.
fn request(driver: &mut Driver<'_>, kind: u32, sector: u64, buffers: &[(u64, u32, u16)]) -> (u8, u32) {
    write_header(driver, kind, sector);
    let mut chain: Vec<Descriptor> = vec![(HEADER, 16, NEXT, 1)];
    for (address, len, flags) in buffers {
        chain.push((*address, *len, flags | NEXT, chain.len() as u16 + 1));
    }
    chain.push((STATUS, 1, WRITE, 0));
    let written = driver.submit(&chain);
    (driver.memory().read_obj(GuestAddress(STATUS)).unwrap(), written)
}

fn write_header(driver: &Driver<'_>, kind: u32, sector: u64) {
    let memory = driver.memory();
    memory.write_obj(kind, GuestAddress(HEADER)).unwrap();
    memory.write_obj(sector, GuestAddress(HEADER + 8)).unwrap();
    memory.write_obj(NO_STATUS, GuestAddress(STATUS)).unwrap();
}

fn write_range(driver: &Driver<'_>, sector: u64, sectors: u32, flags: u32) {
    let memory = driver.memory();
    memory.write_obj(sector, GuestAddress(BUFFER)).unwrap();
    memory.write_obj(sectors, GuestAddress(BUFFER + 8)).unwrap();
    memory.write_obj(flags, GuestAddress(BUFFER + 12)).unwrap();
}

#[test]
fn what_is_written_reads_back_from_several_buffers() {
    let file = disk_file();
    let bench = bench(&file);
    let mut driver = Driver::started(&bench.guest, 0);
    let content: Vec<u8> = (0..SECTOR * 3)
        .map(|index| index as u8 ^ (index >> 8) as u8)
        .collect();
    driver
        .memory()
        .write_slice(&content, GuestAddress(BUFFER))
        .unwrap();
    let parts = [(BUFFER, 100, 0), (BUFFER + 100, 1436, 0)];
    assert_eq!(request(&mut driver, OUT, 7, &parts), (OK, 1));
    assert_eq!(request(&mut driver, FLUSH, 0, &[]), (OK, 1));
    let mut on_disk = vec![0; content.len()];
    file.read_exact_at(&mut on_disk, 7 * SECTOR as u64).unwrap();
    assert_eq!(on_disk, content);

    let (first, second) = (BUFFER + 0x1_0000, BUFFER + 0x2_0000);
    let parts = [(first, 512, WRITE), (second, 1024, WRITE)];
    assert_eq!(request(&mut driver, IN, 7, &parts), (OK, 1536 + 1));
    let mut read = vec![0; content.len()];
    driver
        .memory()
        .read_slice(&mut read[..512], GuestAddress(first))
        .unwrap();
    driver
        .memory()
        .read_slice(&mut read[512..], GuestAddress(second))
        .unwrap();
    assert_eq!(read, content);
}

#[test]
fn the_config_tells_capacity_and_limits_and_the_id_is_padded() {
    let bench = bench(&disk_file());
    let mut driver = Driver::started(&bench.guest, 0);
    assert_eq!((driver.read(0x100), driver.read(0x104)), (SECTORS as u32, 0));
    assert_eq!(driver.read(0x10c), 254, "seg_max");
    assert_eq!(driver.read(0x100 + 60), 0, "beyond its end");
    driver
        .memory()
        .write_slice(&[0xff; 20], GuestAddress(BUFFER))
        .unwrap();
    assert_eq!(request(&mut driver, GET_ID, 0, &[(BUFFER, 20, WRITE)]), (OK, 21));
    let mut id = [0; 20];
    driver.memory().read_slice(&mut id, GuestAddress(BUFFER)).unwrap();
    assert_eq!(&id, b"disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn discarded_and_zeroed_ranges_read_as_zeros_and_discard_frees_blocks() {
    let file = disk_file();
    file.write_all_at(&[7; SECTOR * SECTORS as usize], 0).unwrap();
    let before = file.metadata().unwrap().blocks();
    let bench = bench(&file);
    let mut driver = Driver::started(&bench.guest, 0);
    write_range(&driver, 64, 128, 0);
    assert_eq!(request(&mut driver, DISCARD, 0, &[(BUFFER, 16, 0)]), (OK, 1));
    assert!(file.metadata().unwrap().blocks() < before);
    for (sector, unmap) in [(8, 0), (16, 1)] {
        write_range(&driver, sector, 8, unmap);
        assert_eq!(request(&mut driver, WRITE_ZEROES, 0, &[(BUFFER, 16, 0)]), (OK, 1));
    }
    let mut content = vec![0; SECTOR * SECTORS as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    let zeroed = |sector: usize| (8..24).contains(&sector) || (64..192).contains(&sector);
    for (sector, bytes) in content.chunks(SECTOR).enumerate() {
        let expected = if zeroed(sector) { 0 } else { 7 };
        assert!(bytes.iter().all(|byte| *byte == expected), "sector {sector}");
    }
    assert_eq!(
        file.metadata().unwrap().len(),
        SECTORS * SECTOR as u64,
        "the disk keeps its size"
    );
}

#[test]
fn requests_beyond_the_disk_or_of_odd_size_fail_and_change_nothing() {
    let file = disk_file();
    let bench = bench(&file);
    let mut driver = Driver::started(&bench.guest, 0);
    driver
        .memory()
        .write_slice(&[1; 4096], GuestAddress(BUFFER))
        .unwrap();
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 55] {
        assert_eq!(
            request(&mut driver, OUT, sector, &[(BUFFER, 1024, 0)]),
            (IOERR, 1),
            "{sector}"
        );
        assert_eq!(
            request(&mut driver, IN, sector, &[(BUFFER, 1024, WRITE)]),
            (IOERR, 1),
            "{sector}"
        );
    }
    assert_eq!(request(&mut driver, OUT, 0, &[(BUFFER, 511, 0)]), (IOERR, 1));
    assert_eq!(request(&mut driver, 99, 0, &[(BUFFER, 512, 0)]), (UNSUPPORTED, 1));
    for (sector, sectors, flags, status) in [
        (SECTORS, 1, 0, IOERR),
        (u64::MAX, u32::MAX, 0, IOERR),
        (0, u32::MAX, 0, IOERR),
        (0, 8, 2, UNSUPPORTED),
    ] {
        for kind in [DISCARD, WRITE_ZEROES] {
            write_range(&driver, sector, sectors, flags);
            assert_eq!(
                request(&mut driver, kind, 0, &[(BUFFER, 16, 0)]).0,
                status,
                "{sector} {sectors} {flags}"
            );
        }
    }
    for len in [0, 15, 17, 16 * 17] {
        assert_eq!(
            request(&mut driver, DISCARD, 0, &[(BUFFER, len, 0)]),
            (IOERR, 1),
            "{len}"
        );
    }
    let mut content = vec![0; SECTOR * SECTORS as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    assert!(content.iter().all(|byte| *byte == 0));
}

#[test]
fn a_read_only_disk_says_so_and_refuses_to_change() {
    let file = disk_file();
    let bench = start(spec(vec![disk(&file, true)]));
    let mut driver = Driver::started(&bench.guest, 0);
    assert_eq!(
        driver.features() & (1 << 5 | 1 << 13 | 1 << 14),
        1 << 5,
        "read-only, no discard"
    );
    driver
        .memory()
        .write_slice(&[1; 512], GuestAddress(BUFFER))
        .unwrap();
    assert_eq!(request(&mut driver, OUT, 0, &[(BUFFER, 512, 0)]), (IOERR, 1));
    write_range(&driver, 0, 8, 0);
    assert_eq!(request(&mut driver, DISCARD, 0, &[(BUFFER, 16, 0)]), (IOERR, 1));
    assert_eq!(request(&mut driver, IN, 0, &[(BUFFER, 512, WRITE)]), (OK, 513));
}

/// Chains that no driver makes, what the status byte holds afterwards, and why.
fn hostile_chains() -> Vec<(&'static str, Vec<Descriptor>, u8)> {
    const NOWHERE: u64 = 0x7fff_ffff_f000;
    let header = (HEADER, 16, NEXT, 1);
    let status = (STATUS, 1, WRITE, 0);
    vec![
        ("a loop", vec![header, (BUFFER, 512, NEXT | WRITE, 1)], NO_STATUS),
        (
            "a loop to the header",
            vec![header, (BUFFER, 512, NEXT | WRITE, 0)],
            NO_STATUS,
        ),
        (
            "a next index beyond the table",
            vec![header, (BUFFER, 512, NEXT, QUEUE_SIZE)],
            NO_STATUS,
        ),
        ("nothing but a header", vec![(HEADER, 16, 0, 0)], NO_STATUS),
        (
            "a header the device may write",
            vec![(HEADER, 16, NEXT | WRITE, 1), status],
            NO_STATUS,
        ),
        ("a short header", vec![(HEADER, 15, NEXT, 1), status], NO_STATUS),
        (
            "a header in no memory",
            vec![(NOWHERE, 16, NEXT, 1), status],
            NO_STATUS,
        ),
        (
            "a header at the end of the address space",
            vec![(u64::MAX - 8, 16, NEXT, 1), status],
            NO_STATUS,
        ),
        (
            "a status of no length",
            vec![header, (STATUS, 0, WRITE, 0)],
            NO_STATUS,
        ),
        (
            "a status the device may not write",
            vec![header, (STATUS, 1, 0, 0)],
            NO_STATUS,
        ),
        (
            "a status in no memory",
            vec![header, (NOWHERE, 1, WRITE, 0)],
            NO_STATUS,
        ),
        (
            "data in no memory",
            vec![header, (NOWHERE, 512, NEXT | WRITE, 2), status],
            IOERR,
        ),
        (
            "data beyond the end of memory",
            vec![header, ((64 << 20) - 256, 512, NEXT | WRITE, 2), status],
            IOERR,
        ),
        (
            "data that wraps around",
            vec![header, (u64::MAX - 255, 512, NEXT | WRITE, 2), status],
            IOERR,
        ),
        (
            "a huge buffer",
            vec![header, (BUFFER, 0xffff_fe00, NEXT | WRITE, 2), status],
            IOERR,
        ),
        (
            "more than 4 GiB",
            vec![header, (BUFFER, u32::MAX, NEXT | WRITE, 2), status],
            NO_STATUS,
        ),
        (
            "an empty buffer",
            vec![header, (BUFFER, 0, NEXT | WRITE, 2), status],
            OK,
        ),
        (
            "an indirect table of odd length",
            vec![(BUFFER, 17, INDIRECT, 0)],
            NO_STATUS,
        ),
        (
            "an indirect table in no memory",
            vec![(NOWHERE, 32, INDIRECT, 0)],
            NO_STATUS,
        ),
        (
            "an empty indirect table",
            vec![(BUFFER, 0, INDIRECT, 0)],
            NO_STATUS,
        ),
        (
            "an indirect table within itself",
            vec![(BUFFER + 0x1000, 16, INDIRECT, 0)],
            NO_STATUS,
        ),
    ]
}

#[test]
fn hostile_chains_are_returned_and_the_disk_goes_on() {
    let bench = bench(&disk_file());
    let mut driver = Driver::started(&bench.guest, 0);
    driver.write_descriptor(BUFFER + 0x1000, (BUFFER + 0x1000, 16, INDIRECT, 0));
    for (what, chain, expected) in hostile_chains() {
        write_header(&driver, IN, 0);
        let written = driver.submit(&chain);
        let status: u8 = driver.memory().read_obj(GuestAddress(STATUS)).unwrap();
        assert_eq!(status, expected, "{what}");
        assert_eq!(written, u32::from(expected != NO_STATUS), "{what}");
        assert_eq!(
            request(&mut driver, IN, 0, &[(BUFFER, 512, WRITE)]),
            (OK, 513),
            "after {what}"
        );
    }
}

#[test]
fn an_indirect_table_longer_than_a_queue_is_returned_untouched() {
    let bench = bench(&disk_file());
    let mut driver = Driver::started(&bench.guest, 0);
    let table = DATA + 0x20_0000;
    let count = 4000;
    driver.write_descriptor(table, (HEADER, 16, NEXT, 1));
    for index in 1..count - 1 {
        let next = u16::try_from(index + 1).unwrap();
        driver.write_descriptor(table + index * 16, (BUFFER, 0, NEXT | WRITE, next));
    }
    driver.write_descriptor(table + (count - 1) * 16, (STATUS, 1, WRITE, 0));
    write_header(&driver, IN, 0);
    assert_eq!(driver.submit(&[(table, count as u32 * 16, INDIRECT, 0)]), 0);
    assert_eq!(
        driver.memory().read_obj::<u8>(GuestAddress(STATUS)).unwrap(),
        NO_STATUS
    );
}

#[test]
fn an_impossible_ring_index_stops_the_device_until_it_is_reset() {
    let bench = bench(&disk_file());
    let mut driver = Driver::started(&bench.guest, 0);
    driver.set_available(QUEUE_SIZE + 1);
    driver.kick();
    driver.wait_for_status(NEEDS_RESET);
    driver.start();
    assert_eq!(request(&mut driver, IN, 0, &[(BUFFER, 512, WRITE)]), (OK, 513));
}
