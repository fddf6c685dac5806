use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// How a body was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 8878, one frame or several, with windows of at most 8 MiB: what RFC 9659 allows in HTTP.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd (with a window of at most 8 MiB)",
        })
    }
}

/// Base-two logarithm of the largest window, in bytes, that a zstd frame may ask memory for.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body was not decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It grows beyond the limit.
    #[error("the body is longer than {limit_bytes} bytes when decompressed")]
    TooLong {
        /// Bytes that are accepted.
        limit_bytes: usize,
    },
    /// It is something else, damaged, or cut short.
    #[error("failed to decompress the body as {compression}")]
    Broken {
        /// What it was said to be.
        compression: Compression,
        /// What the decoder says.
        source: io::Error,
    },
}

/// Decompresses a body, but never more than `limit_bytes`.
///
/// # Errors
/// If it is not compressed like that, or grows beyond the limit.
pub fn decompress(
    compressed: &[u8],
    compression: Compression,
    limit_bytes: usize,
) -> Result<Bytes, DecompressError> {
    let read = || match compression {
        Compression::Gzip => read_up_to(MultiGzDecoder::new(compressed), limit_bytes),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            read_up_to(decoder, limit_bytes)
        }
    };
    let body = read().map_err(|source| DecompressError::Broken { compression, source })?;
    if body.len() > limit_bytes {
        return Err(DecompressError::TooLong { limit_bytes });
    }
    Ok(body.into())
}

/// Reads to the end, or one byte beyond the limit.
fn read_up_to(reader: impl Read, limit_bytes: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    reader.take((limit_bytes as u64).saturating_add(1)).read_to_end(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BOTH: [Compression; 2] = [Compression::Gzip, Compression::Zstd];

    fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd_with_window(bytes, 20),
        }
    }

    /// As a stream of unknown length, so that the window is as large as asked for.
    fn zstd_with_window(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decompresses_up_to_the_limit_and_not_beyond() {
        for compression in BOTH {
            let bomb = compress(&vec![b' '; 10 << 20], compression);
            assert!(bomb.len() < 16 << 10);
            let unpacked = |bytes: &[u8], limit| decompress(bytes, compression, limit);
            assert_eq!(unpacked(&bomb, 10 << 20).unwrap().len(), 10 << 20);
            assert!(matches!(unpacked(&bomb, (10 << 20) - 1), Err(DecompressError::TooLong { .. })));
            let cut = &bomb[..bomb.len() - 2];
            assert!(matches!(unpacked(cut, usize::MAX), Err(DecompressError::Broken { .. })));
            assert!(matches!(unpacked(b"{}", 100), Err(DecompressError::Broken { .. })));
            let two = [compress(b"{\"a\":", compression), compress(b"1}", compression)].concat();
            assert_eq!(&unpacked(&two, 100).unwrap()[..], b"{\"a\":1}");
        }
    }

    #[test]
    fn a_zstd_window_takes_eight_mebibytes_and_no_more() {
        let body = vec![b' '; 1 << 20];
        let window = |log| decompress(&zstd_with_window(&body, log), Compression::Zstd, usize::MAX);
        assert_eq!(window(23).unwrap(), body);
        let error = window(24).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to decompress the body as zstd (with a window of at most 8 MiB)"
        );
    }
}
