//! Deletes old segments and keeps the Merkle roots of their frames.
//!
//! A segment goes only if all its records are older than the retention and every reader is past them. Its
//! roots are durable in `roots` before. One record of that file:
//! ```text
//!  0  4  "WBR1"
//!  4  4  CRC-32C of all that follows in the record
//!  8  8  offset of the first record of the segment
//! 16  4  number of frames
//! 20 32  hash of the frame before the segment
//! 52 32  hash of its last frame
//! 84  …  per frame the offset of its first record (8) and the Merkle root (32)
//! ```

use std::io;

use watchbell_event::Timestamp;

use super::disk::{Disk, read_full};
use super::frame::Header;
use super::merkle::Hash;
use super::segment::{self, Depth, Step};
use super::{Segment, Shared, io_error};
use crate::log::LogError;

pub(super) const ROOTS: &str = "roots";
pub(super) const OLDER_ROOTS: &str = "roots.old";
const MAGIC: [u8; 4] = *b"WBR1";
const FIXED_BYTES: usize = 84;
const FRAME_BYTES: usize = 40;

/// Segments that are deleted at one time; the others have their turn the next time.
const MAX_DELETED: usize = 16;

/// Deletes the oldest segments that may go.
pub(super) fn retain(shared: &Shared, now: Timestamp) -> Result<(), LogError> {
    let _one_at_a_time = shared.retaining();
    if shared.end.borrow().closed {
        return Err(LogError::Closed);
    }
    let retention = i64::try_from(shared.config.retention_seconds).unwrap_or(i64::MAX);
    let keep_since = now.plus_micros(retention.saturating_mul(1_000_000).saturating_neg());
    let segments = shared.segments().clone();
    // without any reader nobody has said that anything is no longer needed
    let lowest = shared.checkpoints.lowest().unwrap_or(0);
    let mut deleted = false;
    for pair in segments.windows(2).take(MAX_DELETED) {
        let [segment, next] = [pair[0], pair[1]];
        if next.first > lowest {
            break;
        }
        if newest(shared, segment)? >= keep_since {
            break;
        }
        delete(shared, segment, &headers(shared, segment)?)?;
        deleted = true;
    }
    if deleted {
        shared.disk.sync_dir().map_err(|error| io_error("sync", ".", error))?;
    }
    let oldest = shared.segments().first().map_or(0, |segment| segment.first);
    metrics::gauge!("watchbell_log_oldest_offset").set(oldest as f64);
    Ok(())
}

/// When the latest record of a segment arrived: read once, and remembered.
fn newest(shared: &Shared, segment: Segment) -> Result<Timestamp, LogError> {
    if let Some(newest) = segment.newest {
        return Ok(newest);
    }
    let frames = headers(shared, segment)?;
    let newest = frames.iter().map(|header| header.newest).max();
    // of a segment without any good frame nothing is worth keeping
    let newest = newest.unwrap_or(Timestamp::from_micros(i64::MIN));
    if let Some(known) = shared.segments().iter_mut().find(|known| known.first == segment.first) {
        known.newest = Some(newest);
    }
    Ok(newest)
}

fn headers(shared: &Shared, segment: Segment) -> Result<Vec<Header>, LogError> {
    let name = segment::name(segment.first);
    let mut walk = shared.walk(segment)?;
    let mut headers = Vec::new();
    loop {
        match walk.step(|_| Depth::Header).map_err(|error| io_error("read", &name, error))? {
            Step::Frame { header, .. } => headers.push(header),
            Step::Damage(_) => {}
            Step::End => return Ok(headers),
        }
    }
}

fn delete(shared: &Shared, segment: Segment, frames: &[Header]) -> Result<(), LogError> {
    let (disk, name) = (&*shared.disk, segment::name(segment.first));
    append_roots(disk, shared.config.roots_bytes, segment, frames)
        .map_err(|error| io_error("write", ROOTS, error))?;
    shared.segments().retain(|other| other.first != segment.first);
    disk.remove(&name).map_err(|error| io_error("remove", &name, error))?;
    metrics::counter!("watchbell_log_deleted_segments_total").increment(1);
    tracing::info!(segment = name, bytes = segment.len, "deleted a segment that is past retention");
    Ok(())
}

/// Adds the roots of a segment, unless a crash came between this and its deletion before.
fn append_roots(disk: &dyn Disk, limit_bytes: u64, segment: Segment, frames: &[Header]) -> io::Result<()> {
    let entries = disk.list()?;
    let len_of = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| entry.len);
    let mut len = len_of(ROOTS);
    if len.is_some_and(|len| len > limit_bytes) {
        if len_of(OLDER_ROOTS).is_some() {
            metrics::counter!("watchbell_log_roots_rotated_out_total").increment(1);
        }
        disk.rename(ROOTS, OLDER_ROOTS)?;
        len = None;
    }
    let file = match len {
        Some(_) => disk.open(ROOTS)?,
        None => disk.create(ROOTS)?,
    };
    // behind the last good record: a torn one is written over
    let known = read_roots(disk, ROOTS)?;
    if known.records.last().is_some_and(|last| last.first >= segment.first) {
        return Ok(());
    }
    file.truncate(known.len)?;
    file.write_at(&format_roots(segment.first, frames), known.len)?;
    file.sync()?;
    disk.sync_dir()
}

fn format_roots(first: u64, frames: &[Header]) -> Vec<u8> {
    let mut record = Vec::with_capacity(FIXED_BYTES + frames.len() * FRAME_BYTES);
    record.extend_from_slice(&MAGIC);
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&first.to_le_bytes());
    record.extend_from_slice(&u32::try_from(frames.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&frames.first().map_or([0; 32], |header| header.previous));
    record.extend_from_slice(&frames.last().map_or([0; 32], Header::hash));
    for header in frames {
        record.extend_from_slice(&header.first.to_le_bytes());
        record.extend_from_slice(&header.root);
    }
    let crc = crc32c::crc32c(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
    record
}

/// What the file of roots says about one deleted segment.
pub(super) struct Roots {
    pub(super) first: u64,
    pub(super) previous: Hash,
    pub(super) last: Hash,
}

/// The good records at the start of a file of roots.
#[derive(Default)]
pub(super) struct RootsFile {
    pub(super) records: Vec<Roots>,
    /// Length of the good records.
    pub(super) len: u64,
}

/// Reads a file of roots up to its end or the first record that is damaged.
pub(super) fn read_roots(disk: &dyn Disk, name: &str) -> io::Result<RootsFile> {
    let mut roots = RootsFile::default();
    let file = match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(roots),
        other => other?,
    };
    loop {
        let mut fixed = [0; FIXED_BYTES];
        if read_full(&*file, &mut fixed, roots.len)? < FIXED_BYTES || fixed[..4] != MAGIC {
            return Ok(roots);
        }
        let count = u32::from_le_bytes(field(&fixed, 16)) as usize;
        let mut frames = vec![0; count.min(1 << 24) * FRAME_BYTES];
        let read = read_full(&*file, &mut frames, roots.len + FIXED_BYTES as u64)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[8..]), &frames);
        if read < frames.len() || crc != u32::from_le_bytes(field(&fixed, 4)) {
            return Ok(roots);
        }
        roots.len += (FIXED_BYTES + frames.len()) as u64;
        roots.records.push(Roots {
            first: u64::from_le_bytes(field(&fixed, 8)),
            previous: field(&fixed, 20),
            last: field(&fixed, 52),
        });
    }
}

/// The hash of the last frame of the last deleted segment; zeros if none was deleted.
pub(super) fn last_hash(disk: &dyn Disk) -> Hash {
    let last = |name| read_roots(disk, name).ok()?.records.last().map(|roots| roots.last);
    last(ROOTS).or_else(|| last(OLDER_ROOTS)).unwrap_or_default()
}

fn field<const N: usize>(bytes: &[u8; FIXED_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
