//! Where a page ended, as text that only we can make: base64 of what follows, in little endian.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version |
//! | 8 | `@timestamp` of the last hit, in microseconds |
//! | 8 | `seq` of the last hit |
//! | 8 | the first `seq` that is not part of this search |
//! | 8 | the total |
//! | 1 | its relation |
//! | 16 | keyed BLAKE3 over the bytes before and the query |

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Relation, SearchRequest, Total};
use crate::IndexError;

const VERSION: u8 = 1;
const BODY_BYTES: usize = 34;
const MAC_BYTES: usize = 16;
const KEY_FILE: &str = "cursor.key";

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) micros: i64,
    pub(super) seq: u64,
    /// Events with this `seq` or a higher one arrived after the first page.
    pub(super) end_seq: u64,
    pub(super) total: Total,
}

impl Cursor {
    pub(super) fn write(&self, key: &[u8; 32], request: &SearchRequest) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES + MAC_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.micros.to_le_bytes());
        bytes.extend(self.seq.to_le_bytes());
        bytes.extend(self.end_seq.to_le_bytes());
        bytes.extend(self.total.value.to_le_bytes());
        bytes.push(u8::from(self.total.relation == Relation::Gte));
        seal(bytes, key, request)
    }

    /// Reads a cursor that was made for this query and this range of time.
    pub(super) fn read(text: &str, key: &[u8; 32], request: &SearchRequest) -> Option<Self> {
        let body = unseal(text, BODY_BYTES, key, request)?;
        let (&version, rest) = body.split_first()?;
        let mut numbers = rest.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes));
        let relation = if *body.last()? == 0 { Relation::Eq } else { Relation::Gte };
        let mut next = || numbers.next();
        (version == VERSION).then_some(())?;
        Some(Self {
            micros: next()?.cast_signed(),
            seq: next()?,
            end_seq: next()?,
            total: Total { value: next()?, relation },
        })
    }
}

/// Text from which only we can get the bytes back, and only for the same question.
pub(super) fn seal(mut bytes: Vec<u8>, key: &[u8; 32], request: &SearchRequest) -> String {
    let mac = mac(&bytes, key, request);
    bytes.extend(&mac.as_bytes()[..MAC_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes that were sealed, so many.
pub(super) fn unseal(text: &str, len: usize, key: &[u8; 32], request: &SearchRequest) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (body, given) = bytes.split_at_checked(len)?;
    let mut expected = [0; 32];
    expected[..MAC_BYTES].copy_from_slice(&mac(body, key, request).as_bytes()[..MAC_BYTES]);
    let mut padded = [0; 32];
    padded.get_mut(..MAC_BYTES)?.copy_from_slice(given.get(..MAC_BYTES)?);
    // Compared in constant time.
    if given.len() != MAC_BYTES || blake3::Hash::from(padded) != blake3::Hash::from(expected) {
        return None;
    }
    bytes.truncate(len);
    Some(bytes)
}

fn mac(body: &[u8], key: &[u8; 32], request: &SearchRequest) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(body.len() as u64).to_le_bytes());
    hasher.update(body);
    hasher.update(request.asked.as_bytes());
    hasher.finalize()
}

/// Reads the key that signs cursors; makes one where there is none.
pub(crate) fn load_key(dir: &Path) -> Result<[u8; 32], IndexError> {
    let path = dir.join(KEY_FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(IndexError::io("read", &path)(error)),
    }
    let mut key = [0; 32];
    let failed = |error: getrandom::Error| std::io::Error::other(error.to_string());
    getrandom::fill(&mut key).map_err(failed).map_err(IndexError::io("make a key for", &path))?;
    write_private(&path, &key).map_err(IndexError::io("write", &path))?;
    Ok(key)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
