//! One layer from a stream to its two files: the blob as it came, and its file system image.

use crate::blob::{BlobError, BlobId, ExpectedBlob, VerifyingReader};
use crate::compression::{Compression, decompress};
use crate::digest::{Digest, Hasher};
use crate::layer::{LayerError, convert};
use crate::limits::Limits;
use crate::read_ahead::read_ahead;
use erofs::{Options, Summary, Timestamp, Writer};
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

/// What is read of a layer that is refused already, to find out whether its blob is damaged, in bytes.
const MAX_DRAINED: u64 = 64 << 20;

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerFileError {
    /// The blob is not what its descriptor says.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It cannot be decompressed.
    #[error("cannot decompress layer {layer}: {source}")]
    Decompress {
        /// The layer.
        layer: String,
        /// What is wrong.
        source: io::Error,
    },
    /// It is malformed or asks for what no layer may have.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer.
        layer: String,
        /// What is wrong.
        source: LayerError,
    },
    /// Its archive is not the one that the configuration names.
    #[error("layer {layer} holds the archive {actual}, but the configuration says {expected}")]
    DiffId {
        /// The layer.
        layer: String,
        /// The digest in the configuration.
        expected: Digest,
        /// The digest of the archive.
        actual: Digest,
    },
    /// The system has no thread for it.
    #[error("cannot start a thread to unpack layer {layer}: {source}")]
    Thread {
        /// The layer.
        layer: String,
        /// What the system said.
        source: io::Error,
    },
    /// It is too large.
    #[error("layer {layer} exceeds the {limit} bytes that are allowed")]
    TooLarge {
        /// The layer.
        layer: String,
        /// The limit that it exceeds.
        limit: u64,
    },
}

/// What becomes of a layer's blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Its bytes are kept, so that its digest stays the one that a manifest names.
    AsItCame,
    /// No manifest names it: its archive is compressed with gzip.
    Compressed,
}

/// What was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLayer {
    /// The blob that was kept.
    pub(crate) blob: BlobId,
    /// The digest of the archive in it.
    pub(crate) diff_id: Digest,
    /// How the kept blob is compressed.
    pub(crate) compression: Compression,
    /// The file system image, if one was written.
    pub(crate) image: Option<Summary>,
}

/// Where the two files of a layer go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerOutput<'a> {
    pub(crate) keep: Keep,
    pub(crate) blob: &'a File,
    /// `None` when it is there already.
    pub(crate) image: Option<ImageOutput<'a>>,
}

/// Where a file system image goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageOutput<'a> {
    pub(crate) file: &'a File,
    /// An empty file for what does not stay in memory meanwhile.
    pub(crate) scratch: &'a File,
}

/// Reads a layer once: a blob and a file system image are written, and both digests are computed on the way.
/// `diff_id` is what the archive has to be.
pub(crate) fn read_layer(
    source: impl Read,
    expected: &ExpectedBlob,
    diff_id: Option<Digest>,
    output: LayerOutput<'_>,
    limits: &Limits,
) -> Result<ReadLayer, LayerFileError> {
    let limit = limits.blob_bytes;
    let too_large = || LayerFileError::TooLarge {
        layer: expected.name.clone(),
        limit,
    };
    if expected.size.is_some_and(|size| size > limit) {
        return Err(too_large());
    }
    let (copy, mut archive): (Box<dyn Write + '_>, _) = match output.keep {
        Keep::AsItCame => (Box::new(output.blob), ArchiveCopy::Nowhere),
        Keep::Compressed => (Box::new(io::sink()), ArchiveCopy::compressed(output.blob)),
    };
    let mut blob = VerifyingReader::new(source.take(limit.saturating_add(1)), copy, expected.clone());
    let unpacking = Unpacking {
        layer: &expected.name,
        expected: diff_id,
        image: output.image,
        limits,
    };
    let (compression, diff_id, image) = match unpacking.unpack(&mut blob, &mut archive) {
        Ok(unpacked) => unpacked,
        // A damaged blob is the reason for whatever went wrong with its content.
        Err(error) => return Err(blob.damage(MAX_DRAINED).map_or(error, LayerFileError::Blob)),
    };
    let (_, blob) = blob.finish()?;
    if blob.size > limit {
        return Err(too_large());
    }
    let copied = archive.finish().map_err(|source| BlobError::Copy {
        blob: expected.name.clone(),
        source,
    })?;
    let (blob, compression) = match copied {
        None => (blob, compression),
        Some(blob) => (blob, Compression::Gzip),
    };
    Ok(ReadLayer {
        blob,
        diff_id,
        compression,
        image,
    })
}

/// A layer whose archive is read, hashed and converted.
#[derive(Clone, Copy)]
struct Unpacking<'a> {
    layer: &'a str,
    /// What the archive has to be.
    expected: Option<Digest>,
    /// Where its files go, unless they are there.
    image: Option<ImageOutput<'a>>,
    limits: &'a Limits,
}

impl Unpacking<'_> {
    /// Decompresses the layer on this thread, and converts it on another.
    fn unpack(
        self,
        blob: impl Read,
        copy: &mut ArchiveCopy<'_>,
    ) -> Result<(Compression, Digest, Option<Summary>), LayerFileError> {
        let decompressed = decompress(blob, self.limits);
        let (compression, archive) = decompressed.map_err(|source| self.not_decompressed(source))?;
        let converted = read_ahead(archive, |archive| self.convert(archive, copy));
        let converted = converted.map_err(|source| LayerFileError::Thread {
            layer: self.layer.to_owned(),
            source,
        })?;
        converted.map(|(diff_id, summary)| (compression, diff_id, summary))
    }

    /// Computes the archive's digest and writes its files.
    fn convert(
        self,
        input: impl Read,
        copy: &mut ArchiveCopy<'_>,
    ) -> Result<(Digest, Option<Summary>), LayerFileError> {
        let limit = self.limits.archive_bytes;
        let mut plain = PlainReader {
            input,
            copy,
            hasher: Hasher::default(),
            read: 0,
            limit,
        };
        let files = self
            .image
            .map(|image| write_files(&mut plain, image, self.limits));
        let converted = files.transpose();
        let drained = match &converted {
            Ok(_) => io::copy(&mut plain, &mut io::sink()).map(drop),
            Err(_) => Ok(()),
        };
        if plain.read > limit {
            return Err(LayerFileError::TooLarge {
                layer: self.layer.to_owned(),
                limit,
            });
        }
        let writer = converted.map_err(|source| self.malformed(source))?;
        drained.map_err(|source| self.not_decompressed(source))?;
        let diff_id = plain.hasher.finish();
        if let Some(expected) = self.expected.filter(|expected| *expected != diff_id) {
            return Err(LayerFileError::DiffId {
                layer: self.layer.to_owned(),
                expected,
                actual: diff_id,
            });
        }
        let finished = writer.map(|mut writer| {
            writer.set_uuid(uuid(diff_id));
            writer.finish()
        });
        let summary = finished
            .transpose()
            .map_err(|error| self.malformed(error.into()))?;
        Ok((diff_id, summary.map(|(_, summary)| summary)))
    }

    fn not_decompressed(self, source: io::Error) -> LayerFileError {
        LayerFileError::Decompress {
            layer: self.layer.to_owned(),
            source,
        }
    }

    fn malformed(self, source: LayerError) -> LayerFileError {
        LayerFileError::Layer {
            layer: self.layer.to_owned(),
            source,
        }
    }
}

/// All files of the archive, in an image that is not finished.
fn write_files<'a>(
    plain: &mut impl Read,
    image: ImageOutput<'a>,
    limits: &Limits,
) -> Result<Writer<&'a File>, LayerError> {
    let options = Options {
        uuid: [0; 16],
        build_time: Timestamp::default(),
        limits: limits.image,
    };
    let scratch = image.scratch.try_clone().map_err(LayerError::Scratch)?;
    let mut writer = Writer::with_scratch(image.file, options, scratch);
    convert(
        tar_stream::Reader::new(BufReader::with_capacity(128 * 1024, plain)),
        &mut writer,
    )?;
    Ok(writer)
}

/// A UUID (RFC 9562, version 8) made of the digest's first bytes: equal layers give equal images.
fn uuid(diff_id: Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&diff_id.as_bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Hashes what it passes on, copies it, and ends with an error beyond its limit.
struct PlainReader<'c, 'f, R> {
    input: R,
    copy: &'c mut ArchiveCopy<'f>,
    hasher: Hasher,
    read: u64,
    limit: u64,
}

impl<R: Read> Read for PlainReader<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.read += count as u64;
        if self.read > self.limit {
            return Err(io::Error::other("the layer is larger than allowed"));
        }
        self.hasher.update(&into[..count]);
        self.copy.write(&into[..count])?;
        Ok(count)
    }
}

/// Where a copy of the uncompressed archive goes.
enum ArchiveCopy<'a> {
    Nowhere,
    Gzip(Box<GzEncoder<HashingFile<'a>>>),
}

impl<'a> ArchiveCopy<'a> {
    fn compressed(file: &'a File) -> Self {
        let output = HashingFile {
            file,
            hasher: Hasher::default(),
            size: 0,
        };
        Self::Gzip(Box::new(GzEncoder::new(output, flate2::Compression::fast())))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// The compressed copy, if there is one.
    fn finish(self) -> io::Result<Option<BlobId>> {
        let Self::Gzip(encoder) = self else {
            return Ok(None);
        };
        let HashingFile { hasher, size, .. } = encoder.finish()?;
        let digest = hasher.finish();
        Ok(Some(BlobId { digest, size }))
    }
}

/// Hashes what it writes.
struct HashingFile<'a> {
    file: &'a File,
    hasher: Hasher,
    size: u64,
}

impl Write for HashingFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
