//! Opens a journal: finds its segments, reads the newest, and cuts off an incomplete last frame.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use watchbell_event::Timestamp;

use super::damage::{CorruptionReport, Damage};
use super::disk::{Disk, DiskFile, read_all, replace};
use super::frame::{self, Header, Marker};
use super::merkle::Hash;
use super::segment::{self, Depth, Step, Walk};
use super::{Cache, Checkpoints, End, JournalConfig, Segment, Shared, io_error, retention};
use crate::log::{LogError, LogState};

const META: &str = "journal";
const META_BYTES: usize = 4096;
const FORMAT: u32 = 1;

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory itself.
    #[error("failed to open the journal's directory {path}")]
    Directory {
        /// Where it is.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file within it.
    #[error(transparent)]
    File(#[from] LogError),
    /// Written by a later version.
    #[error("the journal has format {0}; this version reads format {FORMAT}")]
    Format(u32),
    /// The random marker.
    #[error("failed to get random bytes for a new journal: {0}")]
    Random(getrandom::Error),
    /// The writer's thread.
    #[error("failed to start the journal's thread")]
    Thread(#[source] io::Error),
}

/// Where the writer goes on.
pub(super) struct Tail {
    /// The newest segment, if it can take more.
    pub(super) active: Option<(Arc<dyn DiskFile>, Segment)>,
    /// Offset of the next record.
    pub(super) next: u64,
    /// Hash of the last frame.
    pub(super) previous: Hash,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    marker: String,
}

/// Opens the journal on a disk.
pub(super) fn open(disk: Arc<dyn Disk>, config: JournalConfig) -> Result<(Shared, Tail), OpenError> {
    let entries = disk.list().map_err(|error| io_error("list", ".", error))?;
    let mut segments: Vec<Segment> = entries
        .iter()
        .filter_map(|entry| {
            Some(Segment { first: segment::parse_name(&entry.name)?, len: entry.len, newest: None })
        })
        .collect();
    segments.sort_by_key(|segment| segment.first);
    let marker = marker(&*disk, &segments)?;
    let checkpoints = Checkpoints::load(&*disk, &entries)?;
    let shared = Shared {
        cache: Mutex::new(Cache::new(config.cache_bytes)),
        damage: Damage::new(&entries),
        end: watch::Sender::new(End { next: 0, closed: false }),
        segments: Mutex::new(segments),
        retaining: Mutex::new(()),
        state: Mutex::new(LogState::Open),
        queued_bytes: Arc::default(),
        disk,
        config,
        marker,
        checkpoints,
    };
    let mut tail = find_tail(&shared)?;
    tail.next = beyond_readers(&shared, tail.next);
    shared.end.send_modify(|end| end.next = tail.next);
    Ok((shared, tail))
}

/// The journal's marker; made, or taken from the segments, if it is not there.
fn marker(disk: &dyn Disk, segments: &[Segment]) -> Result<Marker, OpenError> {
    if let Some(marker) = read_marker(disk)? {
        return Ok(marker);
    }
    let marker = match learn_marker(disk, segments)? {
        Some(marker) => {
            tracing::error!(
                file = META,
                "the file is missing or damaged; it is made again from the segments"
            );
            marker
        }
        None => getrandom::u64().map_err(OpenError::Random)?.to_be_bytes(),
    };
    let meta = Meta { format: FORMAT, marker: format!("{:016x}", u64::from_be_bytes(marker)) };
    let content = serde_json::to_vec(&meta).unwrap_or_default();
    replace(disk, META, &content).map_err(|error| io_error("write", META, error))?;
    Ok(marker)
}

/// The marker as the journal's file has it; none if there is no good file.
pub(super) fn read_marker(disk: &dyn Disk) -> Result<Option<Marker>, OpenError> {
    let content = match read_all(disk, META, META_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| io_error("read", META, error))?,
    };
    match serde_json::from_slice::<Meta>(&content) {
        Ok(meta) if meta.format != FORMAT => Err(OpenError::Format(meta.format)),
        Ok(meta) => Ok(u64::from_str_radix(&meta.marker, 16).ok().map(u64::to_be_bytes)),
        Err(_) => Ok(None),
    }
}

/// The marker of the first good frame.
fn learn_marker(disk: &dyn Disk, segments: &[Segment]) -> Result<Option<Marker>, LogError> {
    for Segment { first, len, .. } in segments {
        let name = segment::name(*first);
        let file = disk.open(&name).map_err(|error| io_error("open", &name, error))?;
        let mut walk = Walk::new(file, *len, None, *first);
        loop {
            match walk.step(|_| Depth::Body).map_err(|error| io_error("read", &name, error))? {
                Step::Frame { header, .. } => return Ok(Some(header.marker)),
                Step::Damage(_) => {}
                Step::End => break,
            }
        }
    }
    Ok(None)
}

/// Finds the last good frame. A newest segment without any goes, unless it is the only one.
fn find_tail(shared: &Shared) -> Result<Tail, LogError> {
    let (mut lost_until, mut is_newest) = (0, true);
    loop {
        let Some(newest) = shared.segments().last().copied() else {
            return Ok(Tail { active: None, next: 0, previous: retention::last_hash(&*shared.disk) });
        };
        // a segment was whole before the next one was begun
        let scanned = scan(shared, newest, is_newest)?;
        is_newest = false;
        lost_until = lost_until.max(scanned.lost_until);
        let name = segment::name(newest.first);
        let file = shared.disk.open(&name).map_err(|error| io_error("open", &name, error))?;
        if scanned.len < newest.len {
            file.truncate(scanned.len).and_then(|()| file.sync()).map_err(|e| io_error("cut", &name, e))?;
        }
        let only = shared.segments().len() == 1;
        if scanned.last.is_none() && scanned.len == 0 && !only {
            remove_newest(shared, &name)?;
            continue;
        }
        let segment = Segment { len: scanned.len, newest: scanned.newest, ..newest };
        if let Some(last) = shared.segments().last_mut() {
            *last = segment;
        }
        let (next, previous) = match scanned.last {
            Some(header) => (header.end(), header.hash()),
            None => (newest.first, retention::last_hash(&*shared.disk)),
        };
        // readers may have seen what is lost; its numbers are not used again
        return Ok(Tail { active: Some((file, segment)), next: next.max(lost_until), previous });
    }
}

fn remove_newest(shared: &Shared, name: &str) -> Result<(), LogError> {
    shared
        .disk
        .remove(name)
        .and_then(|()| shared.disk.sync_dir())
        .map_err(|e| io_error("remove", name, e))?;
    shared.segments().pop();
    Ok(())
}

struct Scanned {
    /// Length up to the end of the last good frame.
    len: u64,
    last: Option<Header>,
    /// When the latest of its records arrived.
    newest: Option<Timestamp>,
    /// Offset after the last record that is lost behind the last good frame.
    lost_until: u64,
}

/// Reads a whole segment and reports what is damaged. What is damaged at its end is an incomplete frame if
/// it `may_be_torn` and can be one.
fn scan(shared: &Shared, segment: Segment, may_be_torn: bool) -> Result<Scanned, LogError> {
    let mut walk = shared.walk(segment)?;
    let mut scanned = Scanned { len: 0, last: None, newest: None, lost_until: 0 };
    let name = segment::name(segment.first);
    loop {
        match walk.step(|_| Depth::Body).map_err(|error| io_error("read", &name, error))? {
            Step::Frame { at, header, .. } => {
                scanned.len = at + header.frame_len();
                scanned.newest = scanned.newest.max(Some(header.newest));
                scanned.last = Some(header);
            }
            Step::Damage(damage) => {
                let torn_tail = may_be_torn && damage.next_first.is_none() && damage.one_frame;
                let claimed = damage.claimed.clone().unwrap_or(damage.expect..damage.expect);
                if damage.next_first.is_none() && !torn_tail {
                    scanned.lost_until = claimed.end;
                }
                let mut report = CorruptionReport::of(segment.first, damage, claimed.end);
                if torn_tail {
                    report = CorruptionReport { torn_tail, records: claimed, ..report };
                }
                shared.damage.report(&*shared.disk, shared.config.damage_copy_bytes, report);
            }
            Step::End => return Ok(scanned),
        }
    }
}

/// Numbers that readers have seen are not used again, even if the records are gone.
fn beyond_readers(shared: &Shared, next: u64) -> u64 {
    let highest = shared.checkpoints.highest();
    if highest > next {
        let newest = shared.segments().last().copied();
        let (first, len) = newest.map_or((0, 0), |segment| (segment.first, segment.len));
        let report = CorruptionReport {
            segment: segment::name(first),
            bytes: len..len,
            records: next..highest,
            torn_tail: false,
            reason: "readers had come further than the journal reaches",
            copy: None,
        };
        shared.damage.report(&*shared.disk, shared.config.damage_copy_bytes, report);
    }
    next.max(highest)
}

/// Reads arbitrary bytes as a segment, as opening and reading a journal would, and returns how many
/// records it gives and how many places are damaged. For tests with random bytes.
#[must_use]
pub fn recover_bytes(bytes: &Bytes) -> (usize, usize) {
    let file = Arc::new(InMemory(bytes.clone()));
    let mut walk = Walk::new(file, bytes.len() as u64, None, 0);
    let (mut records, mut damaged) = (0, 0);
    loop {
        match walk.step(|_| Depth::Body) {
            Ok(Step::Frame { header, body, .. }) => {
                let raw = header.decompress(&body);
                match raw.and_then(|raw| frame::records(header.first, header.count, &raw, 0)) {
                    Some(read) => records += read.len(),
                    None => damaged += 1,
                }
            }
            Ok(Step::Damage(_)) => damaged += 1,
            Ok(Step::End) | Err(_) => return (records, damaged),
        }
    }
}

/// Bytes as a file that is only read.
struct InMemory(Bytes);

impl DiskFile for InMemory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
