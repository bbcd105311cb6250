//! Large images in little memory, and many images in little time.

mod fixture;

use fixture::{Layout, Store, TAR, Tar, header};
use image_store::BlobDescriptor;
use std::io::{self, Read};
use std::time::{Duration, Instant};
use tar::EntryType;

/// An archive of many files of one size, made as it is read. Its content does not compress to nothing.
struct LargeArchive {
    files: u32,
    size: usize,
    seed: u32,
    pending: Vec<u8>,
    at: usize,
}

impl LargeArchive {
    fn new(seed: u32, files: u32, size: usize) -> Self {
        Self {
            files,
            size,
            seed,
            pending: Vec::new(),
            at: 0,
        }
    }

    fn descriptor(mut self) -> BlobDescriptor {
        let mut bytes = Vec::new();
        // Hashing needs the whole archive only piece by piece.
        let mut hasher = sha2::Sha256::default();
        let mut size = 0;
        bytes.resize(1 << 20, 0);
        loop {
            let count = self.read(&mut bytes).unwrap();
            if count == 0 {
                break;
            }
            sha2::Digest::update(&mut hasher, &bytes[..count]);
            size += count as u64;
        }
        let digits: String = sha2::Digest::finalize(hasher)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        BlobDescriptor {
            media_type: TAR.to_owned(),
            digest: format!("sha256:{digits}").parse().unwrap(),
            size,
        }
    }
}

impl Read for LargeArchive {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.pending.len() {
            if self.files == 0 {
                return Ok(0);
            }
            self.files -= 1;
            let mut header = header(
                EntryType::Regular,
                &format!("d{}/f{}", self.files / 100, self.files),
                "",
                self.size as u64,
            );
            header.set_cksum();
            self.pending.clear();
            self.pending.extend_from_slice(header.as_bytes());
            let seed = self.seed.wrapping_add(self.files);
            self.pending
                .extend((0..self.size as u32).map(|n| (n.wrapping_mul(seed | 1) >> 13) as u8));
            let padding = self.size.wrapping_neg() % 512;
            self.pending.extend(std::iter::repeat_n(0, padding));
            self.at = 0;
        }
        let count = into.len().min(self.pending.len() - self.at);
        into[..count].copy_from_slice(&self.pending[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The most memory that this process has had, in bytes. Each test is a process of its own under nextest.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn large_layers_are_taken_in_with_little_memory() {
    // Four layers at once: two with much data, two with many small files.
    let layers = [
        (1, 400, 1 << 20),
        (2, 400, 1 << 20),
        (3, 40_000, 700),
        (4, 40_000, 900),
    ];
    let store = Store::new();
    let ingest = store.store.ingest().unwrap();
    std::thread::scope(|scope| {
        for (seed, files, size) in layers {
            let ingest = &ingest;
            scope.spawn(move || {
                let layer = LargeArchive::new(seed, files, size).descriptor();
                ingest
                    .put_layer(&layer, None, LargeArchive::new(seed, files, size))
                    .unwrap();
            });
        }
    });
    let peak = peak_memory();
    println!("at most {} KiB of memory", peak >> 10);
    assert!(peak < 64 << 20, "{peak} bytes of memory");
}

#[test]
fn a_layer_of_very_many_files_is_taken_in_with_little_memory() {
    const FILES: u32 = 300_000;
    let store = Store::new();
    let ingest = store.store.ingest().unwrap();
    let layer = LargeArchive::new(5, FILES, 100).descriptor();
    ingest
        .put_layer(&layer, None, LargeArchive::new(5, FILES, 100))
        .unwrap();
    let peak = peak_memory();
    println!("at most {} KiB of memory for {FILES} files", peak >> 10);
    assert!(peak < 40 << 20, "{peak} bytes of memory");
}

#[test]
fn ten_thousand_images_are_listed_nearly_as_fast_as_ten() {
    let store = Store::new();
    let layout = Layout::with_layers(&[Tar::new().file("file", b"x").finish()]);
    store.store.import_oci_layout(layout.path(), "a").unwrap();
    let catalog = rusqlite::Connection::open(store.dir.path().join("catalog.db")).unwrap();
    let fastest = |count: u32| {
        let rows = format!(
            "BEGIN;
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
             INSERT OR IGNORE INTO image SELECT 'sha256:' || printf('%064x', n), media_type,
                 'sha256:' || printf('%064x', n + 1000000), config_media_type, created, size,
                 '{{\"maintainer\":\"somebody\",\"version\":\"1.2.3\"}}', tagged FROM image, n WHERE config NOT LIKE '%00000000%';
             INSERT OR IGNORE INTO name SELECT 'registry.example/team/image:' || substr(manifest, 60), manifest FROM image;
             INSERT OR IGNORE INTO name SELECT 'registry.example/team/image@' || manifest, manifest FROM image;
             COMMIT;"
        );
        catalog.execute_batch(&rows).unwrap();
        let measure = || {
            let start = Instant::now();
            assert_eq!(store.store.summaries().unwrap().len(), count as usize + 1);
            let listed = start.elapsed();
            let name = format!("registry.example/team/image@sha256:{count:064x}");
            let start = Instant::now();
            let found = store.store.resolve(&name).unwrap_err();
            assert!(
                found.to_string().contains("is damaged"),
                "it has no files: {found}"
            );
            (listed, start.elapsed())
        };
        let times: Vec<(Duration, Duration)> = (0..5).map(|_| measure()).collect();
        (
            times.iter().map(|it| it.0).min().unwrap(),
            times.iter().map(|it| it.1).min().unwrap(),
        )
    };
    let (few, many) = (fastest(10), fastest(10_000));
    println!(
        "10: listed in {:?}, found in {:?}; 10,000: {:?}, {:?}",
        few.0, few.1, many.0, many.1
    );
    assert!(many.0 < few.0 + Duration::from_millis(200), "{few:?} {many:?}");
    assert!(many.1 < few.1 + Duration::from_millis(20), "{few:?} {many:?}");
}
