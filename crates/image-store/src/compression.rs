//! The compressions of layers, told by the first bytes: media types in the wild are not always right.

use flate2::read::MultiGzDecoder;
use std::io::{self, BufReader, Chain, Cursor, Read};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The content of `input`, decompressed. zstd windows above 128 MiB (zstd's own default) are refused, so
/// that a frame cannot ask for any amount of memory.
pub(crate) fn decompress<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(start).chain(input);
    let buffered = BufReader::with_capacity(128 * 1024, whole);
    Ok(match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(input: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        decompress(input)?.read_to_end(&mut output)?;
        Ok(output)
    }

    #[test]
    fn gzip_zstd_and_plain_are_told_apart() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"content").unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(all(&gzip).unwrap(), b"content");
        assert_eq!(
            all(&[gzip.as_slice(), &gzip].concat()).unwrap(),
            b"contentcontent"
        );
        let zstd = zstd::encode_all(&b"content"[..], 1).unwrap();
        assert_eq!(all(&zstd).unwrap(), b"content");
        assert_eq!(all(b"content").unwrap(), b"content");
        assert_eq!(all(b"").unwrap(), b"");
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let zstd = zstd::encode_all(&vec![1; 10_000][..], 1).unwrap();
        assert!(all(&zstd[..zstd.len() - 3]).is_err());
        assert!(all(b"\x1f\x8b\x08").is_err());
    }
}
