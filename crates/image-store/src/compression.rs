//! The compressions of layers and archives, told by the first bytes: media types and names in the wild are not
//! always right. They are the four that Docker knows.

use crate::limits::Limits;
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Chain, Cursor, Read};

/// The longest of the marks that compressions begin with, in bytes.
const MARK: usize = 6;

/// How a layer or an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), perhaps several members.
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Compression {
    /// What content that begins with `start` is.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// The content of `input`, decompressed. A zstd frame or xz stream that asks for more memory than `limits` allow
/// is an error.
pub fn decompress<'a>(
    mut input: impl Read + 'a,
    limits: &Limits,
) -> io::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut start = Vec::with_capacity(MARK);
    input.by_ref().take(MARK as u64).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(start).chain(input);
    let buffered = BufReader::with_capacity(128 * 1024, whole);
    let reader: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(buffered)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(limits.zstd_window_log)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(limits.xz_memory, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered, stream))
        }
    };
    Ok((compression, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(input: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let mut output = Vec::new();
        let (compression, mut reader) = decompress(input, &Limits::default())?;
        reader.read_to_end(&mut output)?;
        Ok((compression, output))
    }

    #[test]
    fn all_compressions_are_told_apart_and_may_be_repeated() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"content").unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(b"content").unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(b"content").unwrap();
        for (kind, bytes) in [
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Bzip2, bzip2.finish().unwrap()),
            (Compression::Xz, xz.finish().unwrap()),
            (Compression::Zstd, zstd::encode_all(&b"content"[..], 1).unwrap()),
            (Compression::None, b"content".to_vec()),
        ] {
            assert_eq!(all(&bytes).unwrap(), (kind, b"content".to_vec()));
            let twice = all(&[bytes.as_slice(), &bytes].concat()).unwrap();
            assert_eq!(twice, (kind, b"contentcontent".to_vec()));
        }
        assert_eq!(all(b"").unwrap().1, b"");
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let zstd = zstd::encode_all(&vec![1; 10_000][..], 1).unwrap();
        assert!(all(&zstd[..zstd.len() - 3]).is_err());
        assert!(all(b"\x1f\x8b\x08").is_err());
        assert!(all(b"BZh9").is_err());
        assert!(all(b"\xfd7zXZ\0").is_err());
    }

    #[test]
    fn a_frame_that_asks_for_much_memory_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[1; 1 << 16]).unwrap();
        let bytes = encoder.finish().unwrap();
        let error = all(&bytes).unwrap_err().to_string();
        assert!(error.contains("too much memory"), "{error}");
        // xz -9 has a dictionary of 64 MiB.
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 9);
        encoder.write_all(&[1; 1 << 16]).unwrap();
        assert!(all(&encoder.finish().unwrap()).is_err());
    }
}
