//! Looking for damage, and taking out what is damaged, so that it can be brought again.

use crate::catalog::{BlobRow, ImageLayerRow, ImageRow, LayerRow};
use crate::digest::{Digest, Hasher};
use crate::manifest::{ConfigContents, ManifestContents};
use crate::store::{ImageStore, Result, Shared};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Images in the catalog.
    pub images: u64,
    /// Manifests, configurations and layers as they came.
    pub blobs: u64,
    /// File system images.
    pub layers: u64,
    /// Bytes that were read, holes included.
    pub bytes: u64,
    /// What is wrong. Empty: the store is clean.
    pub problems: Vec<Problem>,
}

/// Something damaged. It was taken out of the store: pulling or loading one of its images again heals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is damaged.
    pub object: DamagedObject,
    /// What is wrong with it.
    pub what: String,
    /// The images that need it: their names, or identifiers of those without one.
    pub images: Vec<String>,
}

/// An object of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DamagedObject {
    /// A manifest, configuration or layer as it came.
    Blob(Digest),
    /// A layer's file system image, by the digest of its uncompressed archive.
    Layer(Digest),
    /// The catalog itself.
    Catalog,
}

impl ImageStore {
    /// Reads everything in the store and compares it with its digests and checksums. Other uses go on meanwhile.
    pub fn check(&self) -> Result<CheckReport> {
        let shared = &self.shared;
        let mut report = CheckReport::default();
        for what in shared.catalog.problems()? {
            report.problems.push(Problem {
                object: DamagedObject::Catalog,
                what,
                images: Vec::new(),
            });
        }
        for blob in shared.catalog.blobs()? {
            report.blobs += 1;
            report.bytes += blob.size;
            if let Err(what) = shared.check_blob(&blob)
                && shared.take_out_blob(&blob.digest)?
            {
                let object = DamagedObject::Blob(blob.digest);
                report.add(object, what, shared.users_of(&blob.digest)?);
            }
        }
        for layer in shared.catalog.layers()? {
            report.layers += 1;
            report.bytes += layer.image_size;
            if let Err(what) = shared.check_layer(&layer)
                && shared.take_out_layer(&layer.diff_id)?
            {
                let object = DamagedObject::Layer(layer.diff_id);
                report.add(object, what, shared.users_of(&layer.diff_id)?);
            }
        }
        for (image, layers) in shared.catalog.contents()? {
            report.images += 1;
            shared.check_image(&image, &layers, &mut report)?;
        }
        Ok(report)
    }
}

impl CheckReport {
    /// What was found missing because it was found damaged just before is told once.
    fn add(&mut self, object: DamagedObject, what: String, images: Vec<String>) {
        if self.problems.iter().all(|problem| problem.object != object) {
            self.problems.push(Problem { object, what, images });
        }
    }
}

impl Shared {
    fn check_blob(&self, row: &BlobRow) -> Result<(), String> {
        let run = || -> io::Result<(u64, Digest)> {
            let mut file = File::open(self.state.blob(&row.digest))?;
            let (mut hasher, mut length) = (Hasher::default(), 0);
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok((length, hasher.finish())),
                    count => {
                        length += count as u64;
                        hasher.update(&buffer[..count]);
                    }
                }
            }
        };
        match run() {
            Err(error) => Err(format!("it cannot be read: {error}")),
            Ok((length, _)) if length != row.size => Err(wrong_length(length, row.size)),
            Ok((_, actual)) if actual != row.digest => Err(format!("its content has the digest {actual}")),
            Ok(_) => Ok(()),
        }
    }

    fn check_layer(&self, row: &LayerRow) -> Result<(), String> {
        let run = || -> io::Result<(u64, u32)> {
            let mut file = File::open(self.state.layer(&row.diff_id))?;
            let length = file.metadata()?.len();
            if length != row.image_size {
                return Ok((length, row.checksum));
            }
            let ranges = DataRanges::of(&file)?;
            Ok((length, erofs::checksum(&mut file, ranges)?))
        };
        match run() {
            Err(error) => Err(format!("it cannot be read: {error}")),
            Ok((length, _)) if length != row.image_size => Err(wrong_length(length, row.image_size)),
            Ok((_, actual)) if actual != row.checksum => {
                let expected = row.checksum;
                Err(format!(
                    "its content has the checksum {actual:08x}, {expected:08x} was written"
                ))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Whether everything that an image needs is there, and the catalog tells of it what its documents say.
    fn check_image(
        &self,
        image: &ImageRow,
        layers: &[ImageLayerRow],
        report: &mut CheckReport,
    ) -> Result<()> {
        let blobs = [image.manifest, image.config].into_iter();
        for blob in blobs.chain(layers.iter().map(|layer| layer.blob)) {
            if self.catalog.blob(&blob)?.is_none() && self.catalog.image(&image.manifest)?.is_some() {
                report.add(DamagedObject::Blob(blob), missing(), self.users_of(&blob)?);
            }
        }
        for layer in layers {
            let is_known = self.catalog.layer(&layer.diff_id)?.is_some();
            if !is_known && self.catalog.image(&image.manifest)?.is_some() {
                let users = self.users_of(&layer.diff_id)?;
                report.add(DamagedObject::Layer(layer.diff_id), missing(), users);
            }
        }
        let documents = (
            self.document(&image.manifest, &image.config),
            self.document(&image.config, &image.config),
        );
        let (Ok(manifest), Ok(config)) = documents else {
            return Ok(());
        };
        let says_the_same = || {
            let contents = ManifestContents::parse(&manifest, &image.manifest).ok()?;
            let config = ConfigContents::parse(&config, &image.config, contents.layers.len()).ok()?;
            let named = contents.layers.iter().map(|(id, _)| (id.digest, id.size));
            let known = layers.iter().map(|layer| (layer.blob, layer.blob_size));
            let diff_ids = layers.iter().map(|layer| layer.diff_id);
            Some(named.eq(known) && diff_ids.eq(config.diff_ids) && contents.config.digest == image.config)
        };
        if says_the_same() != Some(true) {
            let what = format!(
                "it tells something else of image {} than its manifest",
                image.config
            );
            report.problems.push(Problem {
                object: DamagedObject::Catalog,
                what,
                images: self.names_or_id(&image.config)?,
            });
        }
        Ok(())
    }

    /// The images that need a blob or a layer.
    fn users_of(&self, digest: &Digest) -> Result<Vec<String>> {
        let mut users = BTreeSet::new();
        for config in self.catalog.users_of(digest)? {
            users.extend(self.names_or_id(&config)?);
        }
        Ok(users.into_iter().collect())
    }

    fn names_or_id(&self, config: &Digest) -> Result<Vec<String>> {
        let (references, _) = crate::store::split_names(self.catalog.names_of(config)?);
        Ok(match references.is_empty() {
            true => vec![config.to_string()],
            false => references,
        })
    }
}

fn wrong_length(actual: u64, expected: u64) -> String {
    format!("it has {actual} bytes, {expected} were written")
}

fn missing() -> String {
    "it is missing: it was found damaged before, and taken out".to_owned()
}

/// The parts of a file that are no holes (`SEEK_DATA`, `SEEK_HOLE`).
struct DataRanges {
    file: File,
    offset: u64,
}

impl DataRanges {
    fn of(file: &File) -> io::Result<Self> {
        // The clone shares the file's offset; the reader seeks to the start of each range itself.
        Ok(Self {
            file: file.try_clone()?,
            offset: 0,
        })
    }
}

impl Iterator for DataRanges {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = match seek(&self.file, SeekFrom::Data(self.offset)) {
            Ok(start) => start,
            // No data behind this offset.
            Err(Errno::NXIO) => return None,
            Err(error) => return Some(Err(error.into())),
        };
        let end = match seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            Err(error) => return Some(Err(error.into())),
        };
        self.offset = end;
        Some(Ok(start..end))
    }
}
