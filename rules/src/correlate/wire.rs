//! The parts of a snapshot: little-endian numbers, and lengths before what has one. Reading is bounded by
//! what is there.

use std::sync::Arc;

/// Writes parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn u128(&mut self, number: u128) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn i64(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.bytes(&[u8::from(flag)]);
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }
}

/// What is there is not what was to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Reads parts.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Broken)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Broken> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Broken> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Result<u128, Broken> {
        self.array().map(u128::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Broken> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Broken> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Broken),
        }
    }

    /// How many parts follow; at most as many as there are bytes left for.
    pub(super) fn count(&mut self, least_bytes_each: usize) -> Result<usize, Broken> {
        let count = usize::try_from(self.u64()?).map_err(|_| Broken)?;
        if count > self.0.len() / least_bytes_each.max(1) { Err(Broken) } else { Ok(count) }
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, Broken> {
        let count = self.count(1)?;
        std::str::from_utf8(self.bytes(count)?).map(Arc::from).map_err(|_| Broken)
    }

    /// Reads as many parts as are said to follow.
    pub(super) fn list<T>(
        &mut self,
        least_bytes_each: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, Broken>,
    ) -> Result<Vec<T>, Broken> {
        let count = self.count(least_bytes_each)?;
        (0..count).map(|_| read(self)).collect()
    }
}
