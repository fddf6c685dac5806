use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// Why a gzip body was not decompressed.
#[derive(Debug, thiserror::Error)]
pub enum GunzipError {
    /// It grows beyond the limit.
    #[error("the body is longer than {limit_bytes} bytes when decompressed")]
    TooLong {
        /// Bytes that are accepted.
        limit_bytes: usize,
    },
    /// It is not gzip, or cut short.
    #[error("failed to decompress the body as gzip")]
    Broken(#[source] io::Error),
}

/// Decompresses a body, but never more than `limit_bytes`.
///
/// # Errors
/// If it is not gzip or grows beyond the limit.
pub fn gunzip(compressed: &[u8], limit_bytes: usize) -> Result<Bytes, GunzipError> {
    let mut body = Vec::new();
    let mut reader = MultiGzDecoder::new(compressed).take((limit_bytes as u64).saturating_add(1));
    reader.read_to_end(&mut body).map_err(GunzipError::Broken)?;
    if body.len() > limit_bytes {
        return Err(GunzipError::TooLong { limit_bytes });
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn decompresses_up_to_the_limit_and_not_beyond() {
        let bomb = gzip(&vec![b' '; 10 << 20]);
        assert!(bomb.len() < 16 << 10);
        assert_eq!(gunzip(&bomb, 10 << 20).unwrap().len(), 10 << 20);
        assert!(matches!(gunzip(&bomb, (10 << 20) - 1), Err(GunzipError::TooLong { .. })));
        let cut = &bomb[..bomb.len() - 9];
        assert!(matches!(gunzip(cut, usize::MAX), Err(GunzipError::Broken(_))));
        assert!(matches!(gunzip(b"{}", 100), Err(GunzipError::Broken(_))));
        let two = [gzip(b"{\"a\":"), gzip(b"1}")].concat();
        assert_eq!(&gunzip(&two, 100).unwrap()[..], b"{\"a\":1}");
    }
}
