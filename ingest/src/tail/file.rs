//! One file that is followed: what tells it from others, and its next lines.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use watchbell_event::Timestamp;

use super::container::Container;
use super::lines::{FileLine, Joined, LineLimits, Lines, Progress};
use super::state::FileState;
use crate::decode::logs::CommonFacts;

/// The beginning of a file that is compared: its first line, at most this long.
const FIRST_BYTES: usize = 1 << 10;
/// Writers may write to a file for a moment after it was renamed or removed, in microseconds.
const GRACE_MICROS: i64 = 5_000_000;
/// Most lines that are read in one turn: very short ones become documents that are far longer.
pub(super) const TURN_LINES: u64 = 20_000;

/// A file while it is on the disk; afterwards another one may get the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FileKey {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileKey {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// How a file begins. Of a file that grows, its first line stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beginning {
    bytes: usize,
    hash: [u8; 32],
}

impl Beginning {
    /// Of a file whose first line is complete; of any with `whatever_it_is`.
    pub(super) fn read(file: &File, whatever_it_is: bool) -> io::Result<Option<Self>> {
        let mut buffer = [0; FIRST_BYTES];
        let length = read_at(file, &mut buffer, 0)?;
        let end = memchr::memchr(b'\n', &buffer[..length]).map(|at| at + 1);
        let end = end.or((length == FIRST_BYTES || whatever_it_is).then_some(length));
        Ok(end.map(|bytes| Self { bytes, hash: *blake3::hash(&buffer[..bytes]).as_bytes() }))
    }

    pub(super) fn is_of(&self, file: &File) -> io::Result<bool> {
        let mut buffer = [0; FIRST_BYTES];
        let length = read_at(file, &mut buffer[..self.bytes.min(FIRST_BYTES)], 0)?;
        Ok(length == self.bytes && *blake3::hash(&buffer[..length]).as_bytes() == self.hash)
    }
}

/// A file that is followed. It stays open, so that what is removed or renamed is read to its end.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) about: Arc<About>,
    pub(super) key: FileKey,
    beginning: Option<Beginning>,
    /// How it began before it was emptied, while it has no new first line.
    began: Option<Beginning>,
    /// How often a file with the same key and the same beginning was begun anew.
    generation: u32,
    file: File,
    lines: Lines,
    offset: u64,
    within_line: bool,
    size: u64,
    grown_at: Timestamp,
    /// Nothing more can be read for now.
    at_end: bool,
    /// No longer under its path.
    gone: bool,
    finished: bool,
    /// Nothing is known of before that begins here or later.
    pub(super) known_before: u64,
    /// What is durable.
    pub(super) durable: Progress,
}

/// How a file is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// There is something to read.
    pub(super) data: bool,
    /// It was emptied.
    pub(super) truncated: bool,
}

/// What was read in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) cut_lines: u64,
}

/// What is known of a file beside its content.
#[derive(Debug)]
pub(super) struct About {
    pub(super) path: PathBuf,
    /// Which of the configured sources it belongs to.
    pub(super) source: usize,
    pub(super) container: Container,
    /// The same, and the path, as records have it.
    pub(super) facts: CommonFacts,
}

impl Followed {
    /// Follows a file from its beginning, or on from where it was left.
    pub(super) fn new(
        file: File,
        about: About,
        state: Option<&FileState>,
        known_before: u64,
        now: Timestamp,
    ) -> io::Result<Self> {
        let progress = state.map(|state| state.progress).unwrap_or_default();
        Ok(Self {
            key: FileKey::of(&file.metadata()?),
            about: Arc::new(about),
            beginning: Beginning::read(&file, false)?,
            began: state.map(|state| state.beginning),
            generation: state.map_or(0, |state| state.generation),
            lines: Lines::resume(&progress),
            offset: progress.offset(),
            within_line: progress.within_line,
            size: progress.offset(),
            grown_at: now,
            at_end: false,
            gone: false,
            finished: false,
            known_before,
            durable: progress,
            file,
        })
    }

    /// Looks whether there is something to read. A file that was emptied is begun anew; what waited for more is then
    /// handed out.
    pub(super) fn look(&mut self, now: Timestamp, out: &mut impl FnMut(Joined<'_>)) -> io::Result<Look> {
        let size = self.file.metadata()?.len();
        let mut truncated = false;
        if size != self.size {
            let is_same = match &self.beginning {
                Some(beginning) => beginning.is_of(&self.file)?,
                None => true,
            };
            if size < self.offset || !is_same {
                self.begin_anew(out);
                truncated = true;
            }
            (self.size, self.grown_at) = (size, now);
        }
        if self.beginning.is_none() {
            self.beginning = Beginning::read(&self.file, self.gone)?;
        }
        self.at_end = self.beginning.is_none() || size <= self.offset;
        Ok(Look { data: !self.at_end, truncated })
    }

    /// Reads on and hands out records, at most a buffer full of bytes.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        limits: &LineLimits,
        now: Timestamp,
        out: &mut impl FnMut(Joined<'_>),
    ) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let length = read_at(&self.file, buffer, self.offset)?;
        self.take_lines(&buffer[..length], length == buffer.len(), limits, now, &mut turn, out);
        self.at_end = turn.bytes == 0 || self.offset >= self.size;
        Ok(turn)
    }

    fn take_lines(
        &mut self,
        bytes: &[u8],
        is_full: bool,
        limits: &LineLimits,
        now: Timestamp,
        turn: &mut Turn,
        out: &mut impl FnMut(Joined<'_>),
    ) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            if !std::mem::take(&mut self.within_line) {
                let line =
                    FileLine { offset: self.offset + start as u64, bytes: &bytes[start..end], cut: false };
                self.lines.take(line, limits, now, out);
                turn.lines += 1;
            }
            start = end + 1;
            if turn.lines >= TURN_LINES {
                break;
            }
        }
        let rest = &bytes[start..];
        // a line that does not end within a whole buffer is cut; of what is only begun, more is waited for
        let is_endless = is_full && start == 0;
        if is_endless || (self.within_line && !rest.is_empty()) {
            if !std::mem::replace(&mut self.within_line, true) {
                let kept = &rest[..rest.len().min(limits.record_bytes)];
                let line = FileLine { offset: self.offset, bytes: kept, cut: true };
                self.lines.take(line, limits, now, out);
                turn.lines += 1;
                turn.cut_lines += 1;
            }
            start = bytes.len();
        }
        self.offset += start as u64;
        turn.bytes = start as u64;
    }

    /// Ends what nothing follows: records that have waited, and the file once it is gone. True if a record was ended
    /// by time.
    pub(super) fn rest(
        &mut self,
        buffer: &mut [u8],
        limits: &LineLimits,
        now: Timestamp,
        out: &mut impl FnMut(Joined<'_>),
    ) -> io::Result<bool> {
        if !self.at_end {
            return Ok(false);
        }
        if self.gone && now.micros_since(self.grown_at) >= GRACE_MICROS {
            let length = read_at(&self.file, buffer, self.offset)?;
            if length > 0 && !self.within_line {
                let line = FileLine { offset: self.offset, bytes: &buffer[..length], cut: false };
                self.lines.take(line, limits, now, out);
            }
            self.offset += length as u64;
            self.finished = true;
            return Ok(self.hurry(limits, now, out));
        }
        Ok(self.lines.is_open() && self.lines.expire(self.offset, limits, now, out))
    }

    /// The file was emptied and is written anew; what was not read of it before is lost.
    fn begin_anew(&mut self, out: &mut impl FnMut(Joined<'_>)) {
        self.lines.finish(out);
        self.lines = Lines::default();
        (self.offset, self.within_line, self.known_before) = (0, false, 0);
        self.durable = Progress::default();
        self.generation += 1;
        self.began = self.beginning.take().or(self.began);
    }

    /// What tells the records of this file from those of all others; none while its first line is not complete.
    pub(super) fn identity(&self) -> Option<Vec<u8>> {
        let beginning = self.beginning.as_ref()?;
        let FileKey { device, inode } = self.key;
        let numbers = [device, inode, u64::from(self.generation)].map(u64::to_le_bytes);
        Some([numbers.as_flattened(), &beginning.hash].concat())
    }

    /// How far it is read.
    pub(super) fn progress(&self) -> Progress {
        let mut progress = self.lines.progress(self.offset);
        progress.within_line = self.within_line && progress.offset() == self.offset;
        progress
    }

    /// To be kept before records that time has ended go anywhere: what is durable, and where they end.
    pub(super) fn note_cuts(&mut self) {
        for (index, cut) in self.lines.cuts().into_iter().enumerate() {
            if cut > self.durable.done[index] {
                self.durable.cuts[index] = cut;
            }
        }
    }

    /// What is kept of it over a restart.
    pub(super) fn state(&self) -> Option<FileState> {
        Some(FileState {
            path: self.about.path.clone(),
            key: self.key,
            beginning: self.beginning.or(self.began)?,
            generation: self.generation,
            progress: self.durable,
            finished: self.finished,
        })
    }

    /// It is no longer under its path; true if that is new.
    pub(super) fn is_gone(&mut self, now: Timestamp) -> bool {
        if std::mem::replace(&mut self.gone, true) {
            return false;
        }
        self.grown_at = now;
        true
    }

    /// It is under its path, or another.
    pub(super) fn is_there(&mut self) {
        self.gone = false;
    }

    /// It is gone and read to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// More can be read at once.
    pub(super) fn has_more(&self) -> bool {
        !self.at_end
    }

    /// Ends records at once, to make room.
    pub(super) fn hurry(
        &mut self,
        limits: &LineLimits,
        now: Timestamp,
        out: &mut impl FnMut(Joined<'_>),
    ) -> bool {
        let at_once = LineLimits { join_wait_micros: 0, open_micros: 0, ..limits.clone() };
        self.lines.expire(self.offset, &at_once, now, out)
    }

    /// Memory of records that wait for what follows.
    pub(super) fn open_bytes(&self) -> usize {
        self.lines.open_bytes()
    }

    /// Bytes that are not read yet.
    pub(super) fn lag_bytes(&self) -> u64 {
        self.size.saturating_sub(self.offset)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
