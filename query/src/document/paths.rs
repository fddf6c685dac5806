//! The paths of an event that have a value.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::schema::PRESENT_CHUNK_BYTES;

/// The paths, as `present` holds them.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub(super) text: String,
    chunk_start: usize,
    chunks: Vec<Range<usize>>,
    last: Range<usize>,
}

impl Paths {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.chunks.clear();
        (self.chunk_start, self.last) = (0, 0..0);
    }

    /// Where the path stands, if it was the last one.
    pub(super) fn last_if(&self, path: &str) -> Option<Range<usize>> {
        (self.text[self.last.clone()] == *path).then(|| self.last.clone())
    }

    pub(super) fn push(&mut self, path: &str) -> Range<usize> {
        if self.text.len() == self.chunk_start {
            self.text.push('\n');
        }
        let start = self.text.len();
        self.text.push_str(path);
        self.last = start..self.text.len();
        self.text.push('\n');
        if self.text.len() - self.chunk_start > PRESENT_CHUNK_BYTES {
            self.end_chunk();
        }
        self.last.clone()
    }

    /// Where the finished texts of `present` stand.
    pub(super) fn chunks(&mut self) -> &[Range<usize>] {
        self.end_chunk();
        &self.chunks
    }

    fn end_chunk(&mut self) {
        if self.text.len() > self.chunk_start {
            self.chunks.push(self.chunk_start..self.text.len());
            self.chunk_start = self.text.len();
        }
    }
}

/// Where paths that may come again stand, by their hash.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<u64, Range<usize>, BuildHasherDefault<AsItIs>>);

impl Seen {
    /// Where the path stands already, or stands now.
    pub(super) fn place_or_push(&mut self, path: &str, paths: &mut Paths) -> Range<usize> {
        let hash = hash(path);
        match self.0.get(&hash) {
            Some(place) if paths.text[place.clone()] == *path => place.clone(),
            _ => {
                let place = paths.push(path);
                self.0.insert(hash, place.clone());
                place
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Fast and good enough: paths that collide only make a document longer.
fn hash(path: &str) -> u64 {
    path.as_bytes().chunks(8).fold(path.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// The keys are hashes already.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
