//! Files of events as people have them: one per line or one document, plain or gzip, or through a pipe.

use std::fs::File;
use std::io::{self, BufRead, Cursor, Read};
use std::path::Path;

use anyhow::{Result, bail};
use flate2::read::MultiGzDecoder;

/// Longer lines cannot be an event; the server would refuse them.
pub(super) const MAX_LINE_BYTES: u64 = 64 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file that was opened.
pub(super) struct Input {
    pub(super) bytes: Box<dyn Read>,
    /// How many bytes they are on disk; unknown of standard input.
    pub(super) length: Option<u64>,
}

/// Opens a file; `-` is standard input.
///
/// # Errors
/// If it cannot be opened.
pub(super) fn open(path: &Path) -> io::Result<Input> {
    if path == Path::new("-") {
        return Ok(Input { bytes: Box::new(io::stdin()), length: None });
    }
    let file = File::open(path)?;
    let length = Some(file.metadata()?.len());
    Ok(Input { bytes: Box::new(file), length })
}

/// The bytes without the compression that they begin like. A name does not say it: what comes through a pipe has none.
///
/// # Errors
/// If they cannot be read.
pub(super) fn decompressed(mut bytes: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut head = Vec::new();
    bytes.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut head)?;
    let is_gzip = head == GZIP_MAGIC;
    let whole = Cursor::new(head).chain(bytes);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// Appends the next line, with its end, and returns its length; 0 at the end of the input.
///
/// # Errors
/// If it cannot be read or is longer than [`MAX_LINE_BYTES`].
pub(super) fn read_line(lines: &mut impl BufRead, text: &mut Vec<u8>) -> Result<usize> {
    let length = lines.take(MAX_LINE_BYTES + 1).read_until(b'\n', text)?;
    if length as u64 > MAX_LINE_BYTES {
        bail!("a line is longer than {MAX_LINE_BYTES} bytes");
    }
    Ok(length)
}

/// True if the text is a complete JSON value (or not JSON at all).
pub(super) fn ends_a_document(text: &[u8]) -> bool {
    !serde_json::from_slice::<serde::de::IgnoredAny>(without_mark(text)).is_err_and(|error| error.is_eof())
}

/// The text without a byte-order mark.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_document_over_many_lines_is_told_from_one_per_line() {
        for (text, expect) in [
            ("{\"a\":1}\n", true),
            ("\u{feff}{\"a\":1}\n", true),
            ("{\n", false),
            ("{\"kind\":\"EventList\",\"items\":[\n", false),
            ("[\n", false),
            ("not json\n", true),
        ] {
            assert_eq!(ends_a_document(text.as_bytes()), expect, "{text:?}");
        }
    }

    #[test]
    fn gzip_is_known_by_how_it_begins() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"text").unwrap();
        for (bytes, expect) in [
            (encoder.finish().unwrap(), &b"text"[..]),
            (b"text".to_vec(), b"text"),
            (b"t".to_vec(), b"t"),
            (Vec::new(), b""),
        ] {
            let mut read = Vec::new();
            decompressed(Cursor::new(bytes)).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, expect);
        }
    }
}
