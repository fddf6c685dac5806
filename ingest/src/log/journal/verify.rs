//! Proves, without the process that writes, that nothing in a journal was changed, removed or reordered.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use watchbell_event::stored;

use super::disk::{Disk, FileSystem};
use super::frame::{Header, rows};
use super::merkle::{self, Hash};
use super::open::{OpenError, read_marker};
use super::segment::{self, Depth, Step, Walk};
use super::{io_error, retention};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments whose frames were read.
    pub segments: u64,
    /// Good frames up to the first broken place.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Offset of the first record that is still there.
    pub first: u64,
    /// Offset after the last record that was verified.
    pub end: u64,
    /// Hash of the last frame that was verified. Whoever noted it before can tell that history is the same.
    pub head: [u8; 32],
    /// The first place where the proof fails, if it does.
    pub broken: Option<Broken>,
    /// Bytes of an incomplete last frame, as a crash or a running writer leaves them behind.
    pub unfinished_bytes: u64,
}

/// The first place where the proof fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// Where in the file the bad frame begins.
    pub byte: u64,
    /// Offset of the first record that is not proved.
    pub record: u64,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Verifies the journal in a directory: checksums, Merkle roots, the table of ids, the chain of hashes,
/// the numbers of records, and the connection to the roots of deleted segments.
///
/// # Errors
/// If files cannot be read; what they hold is reported in [`VerifyReport::broken`].
pub fn verify(directory: &Path) -> Result<VerifyReport, OpenError> {
    let disk = FileSystem::open_to_read(directory)
        .map_err(|source| OpenError::Directory { path: directory.to_owned(), source })?;
    verify_on(&disk, directory)
}

pub(super) fn verify_on(disk: &dyn Disk, directory: &Path) -> Result<VerifyReport, OpenError> {
    let marker = read_marker(disk)?;
    let entries = disk.list().map_err(|error| io_error("list", ".", error))?;
    let mut segments: Vec<(u64, u64)> =
        entries.iter().filter_map(|entry| Some((segment::parse_name(&entry.name)?, entry.len))).collect();
    segments.sort_unstable();
    let mut chain = Chain::begin(segments.first().map_or(0, |(first, _)| *first));
    let roots_error = |error| io_error("read", retention::ROOTS, error);
    if let Some((file, record)) = chain.read_roots(disk).map_err(roots_error)? {
        let (file, reason) =
            (directory.join(file), "the roots of a deleted segment do not follow those before");
        chain.report.broken = Some(Broken { file, byte: 0, record, reason });
        return Ok(chain.report);
    }
    for (index, (first, len)) in segments.iter().enumerate() {
        let name = segment::name(*first);
        let file = disk.open(&name).map_err(|error| io_error("open", &name, error))?;
        let mut walk = Walk::new(Arc::clone(&file), *len, marker, *first);
        chain.report.segments += 1;
        loop {
            let step = walk.step(|_| Depth::Body).map_err(|error| io_error("read", &name, error))?;
            let broken = match step {
                Step::End => break,
                Step::Frame { at, header, body } => {
                    chain.extend(&header, &body.into()).err().map(|reason| (at, reason))
                }
                Step::Damage(damage) if damage.next_first.is_none() && index + 1 == segments.len() => {
                    chain.report.unfinished_bytes = damage.bytes.end - damage.bytes.start;
                    None
                }
                Step::Damage(damage) => Some((damage.bytes.start, damage.reason)),
            };
            if let Some((byte, reason)) = broken {
                let record = chain.report.end;
                chain.report.broken = Some(Broken { file: directory.join(&name), byte, record, reason });
                return Ok(chain.report);
            }
        }
    }
    Ok(chain.report)
}

/// The frames verified so far.
struct Chain {
    report: VerifyReport,
    /// What the next frame must name as the one before it.
    previous: Hash,
}

impl Chain {
    fn begin(first: u64) -> Self {
        let report = VerifyReport {
            segments: 0,
            frames: 0,
            records: 0,
            first,
            end: first,
            head: Hash::default(),
            broken: None,
            unfinished_bytes: 0,
        };
        Self { report, previous: Hash::default() }
    }

    /// Follows the roots of deleted segments up to the first segment that is there. Returns the first that
    /// do not follow those before.
    fn read_roots(&mut self, disk: &dyn Disk) -> std::io::Result<Option<(&'static str, u64)>> {
        let mut last = None;
        for file in [retention::OLDER_ROOTS, retention::ROOTS] {
            // a segment whose roots are written may still be there after a crash
            let first = self.report.first;
            let deleted =
                retention::read_roots(disk, file)?.records.into_iter().filter(|roots| roots.first < first);
            for roots in deleted {
                if last.is_some_and(|last| last != roots.previous) {
                    return Ok(Some((file, roots.first)));
                }
                last = Some(roots.last);
            }
        }
        self.previous = last.unwrap_or_default();
        self.report.head = self.previous;
        Ok(None)
    }

    fn extend(&mut self, header: &Header, body: &Bytes) -> Result<(), &'static str> {
        if header.first != self.report.end {
            return Err("records are missing before this frame");
        }
        if self.previous != header.previous {
            return Err("the frame does not follow the one before it");
        }
        check_records(header, body)?;
        self.previous = header.hash();
        self.report.head = header.hash();
        self.report.end = header.end();
        self.report.frames += 1;
        self.report.records += u64::from(header.count);
        Ok(())
    }
}

fn check_records(header: &Header, body: &Bytes) -> Result<(), &'static str> {
    let raw = header.decompress(body).ok_or("the payload does not decompress")?;
    let table = body.get(..header.table_len()).unwrap_or_default();
    let mut leaves = Vec::new();
    let mut reader = stored::Reader::default();
    for (stored, (id, received_at)) in stored::envelopes(&raw).zip(rows(table)) {
        let envelope = reader.read(&stored).ok_or("a record cannot be read")?;
        if envelope.id != id || envelope.received_at != received_at {
            return Err("the table of ids does not match the records");
        }
        leaves.push(merkle::leaf(&stored));
    }
    if leaves.len() != header.count as usize || merkle::root(&leaves) != header.root {
        return Err("the records do not match the Merkle root");
    }
    Ok(())
}
