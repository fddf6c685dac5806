//! What was found damaged, and copies of it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::disk::{Disk, Entry, read_full};
use super::frame::Header;
use super::segment;

/// Reports that are kept in memory; older ones go, but all are logged and counted.
const MAX_REPORTS: usize = 100;
const PREFIX: &str = "damaged-";
/// How much is copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A part of the journal that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptionReport {
    /// The segment's file name.
    pub segment: String,
    /// The damaged bytes within it; empty if records are missing without any damage to be seen.
    pub bytes: Range<u64>,
    /// Offsets of the records that are lost. Of a torn tail, those that its header claims, if it is good.
    pub records: Range<u64>,
    /// True for an incomplete last frame, which a crash leaves behind; then its records were most likely
    /// never acknowledged.
    pub torn_tail: bool,
    /// What is wrong.
    pub reason: &'static str,
    /// The file that has a copy of the bytes, if there was room for one.
    pub copy: Option<String>,
}

/// All damage found since the journal was opened.
#[derive(Default)]
pub(super) struct Damage {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reports: VecDeque<CorruptionReport>,
    copied_bytes: u64,
}

impl State {
    /// True if all these records were reported as lost, as when opening cut them off.
    fn covers(&self, records: &Range<u64>) -> bool {
        let mut at = records.start;
        while at < records.end {
            let lost = |report: &&CorruptionReport| !report.torn_tail && report.records.contains(&at);
            let Some(report) = self.reports.iter().find(lost) else { return false };
            at = report.records.end;
        }
        true
    }
}

impl Damage {
    /// Begins with the copies that are there from before.
    pub(super) fn new(entries: &[Entry]) -> Self {
        let copied_bytes =
            entries.iter().filter(|entry| entry.name.starts_with(PREFIX)).map(|entry| entry.len).sum();
        Self { state: Mutex::new(State { reports: VecDeque::new(), copied_bytes }) }
    }

    /// Copies, logs and counts damage, once for each place.
    pub(super) fn report(&self, disk: &dyn Disk, limit_bytes: u64, mut report: CorruptionReport) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |known: &CorruptionReport| {
            known.segment == report.segment
                && known.bytes.start == report.bytes.start
                && known.records.start == report.records.start
                && known.torn_tail == report.torn_tail
        };
        if state.reports.iter().any(is_known) || (report.bytes.is_empty() && state.covers(&report.records)) {
            return;
        }
        let len = report.bytes.end - report.bytes.start;
        if len > 0 && state.copied_bytes + len <= limit_bytes {
            match copy(disk, &report) {
                Ok(name) => {
                    state.copied_bytes += len;
                    report.copy = Some(name);
                }
                Err(error) => tracing::error!(%error, "failed to copy damaged bytes of the journal"),
            }
        }
        announce(&report);
        state.reports.push_back(report);
        while state.reports.len() > MAX_REPORTS {
            state.reports.pop_front();
        }
    }

    pub(super) fn reports(&self) -> Vec<CorruptionReport> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reports.iter().cloned().collect()
    }
}

fn announce(report: &CorruptionReport) {
    let CorruptionReport { segment, bytes, records, reason, copy, .. } = report;
    let kind = if report.torn_tail { "torn_tail" } else { "corruption" };
    metrics::counter!("watchbell_log_damage_total", "kind" => kind).increment(1);
    if report.torn_tail {
        tracing::warn!(%segment, ?bytes, ?records, reason, ?copy, "cut an incomplete frame off the journal");
        return;
    }
    let lost = records.end.saturating_sub(records.start);
    metrics::counter!("watchbell_log_lost_records_total").increment(lost);
    tracing::error!(%segment, ?bytes, ?records, lost, reason, ?copy, "the journal is damaged; records are lost");
}

fn copy(disk: &dyn Disk, report: &CorruptionReport) -> io::Result<String> {
    let stem = report.segment.split('.').next().unwrap_or_default();
    let name = format!("{PREFIX}{stem}-{}.bin", report.bytes.start);
    let (from, to) = (disk.open(&report.segment)?, disk.create(&name)?);
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = report.bytes.start;
    while at < report.bytes.end {
        let wanted = usize::try_from(report.bytes.end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let read = read_full(&*from, &mut buffer[..wanted], at)?;
        if read == 0 {
            break;
        }
        to.write_at(&buffer[..read], at - report.bytes.start)?;
        at += read as u64;
    }
    to.sync()?;
    disk.sync_dir()?;
    Ok(name)
}

impl CorruptionReport {
    /// Of damage that a walk has found; without a good frame behind it, records up to `until` are lost.
    pub(super) fn of(first: u64, damage: segment::Damaged, until: u64) -> Self {
        let end = damage.next_first.unwrap_or(until).max(damage.expect);
        Self::new(first, damage.bytes, damage.expect..end, damage.reason)
    }

    /// Of records that should stand before the byte `at`, where no damage is to be seen.
    pub(super) fn missing(first: u64, at: u64, records: Range<u64>) -> Self {
        Self::new(first, at..at, records, "records are missing")
    }

    /// Of a frame whose checksums are right but whose records cannot be read.
    pub(super) fn unreadable(first: u64, at: u64, header: &Header) -> Self {
        let bytes = at..at + header.frame_len();
        Self::new(first, bytes, header.first..header.end(), "its records cannot be read")
    }

    fn new(first: u64, bytes: Range<u64>, records: Range<u64>, reason: &'static str) -> Self {
        Self { segment: segment::name(first), bytes, records, torn_tail: false, reason, copy: None }
    }
}
