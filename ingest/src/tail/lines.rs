//! From the lines of a file to records: what the runtime wrote around a line is taken off, the parts of a long line
//! are put together, and lines that belong together are joined. Standard output and standard error of a container are
//! two texts that only share a file.
//!
//! Where a record begins and ends depends on the bytes alone, with one exception: one that nothing follows ends after
//! a while. Such ends are noted in [`Progress::cuts`] before the record goes anywhere, so that reading the file again
//! gives the same records.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use watchbell_event::Timestamp;

use super::joining::Joining;
use crate::decode::logs::{CriLine, DockerLine};

/// Standard output, standard error, and lines without a stream.
const STREAMS: usize = 3;
const NAMES: [Option<&str>; STREAMS] = [Some("stdout"), Some("stderr"), None];

/// Bounds of a record.
#[derive(Clone, Debug)]
pub struct LineLimits {
    /// Longest record; a longer line is cut, and of lines that belong together the rest begins another record.
    pub record_bytes: usize,
    /// Most lines of one record.
    pub record_lines: usize,
    /// How long a record waits for a line that belongs to it, in microseconds.
    pub join_wait_micros: i64,
    /// How long a line waits for its next part, and how long a record stays open at all, in microseconds.
    pub open_micros: i64,
}

impl Default for LineLimits {
    fn default() -> Self {
        Self { record_bytes: 256 << 10, record_lines: 500, join_wait_micros: 500_000, open_micros: 5_000_000 }
    }
}

/// How far a file is read, per stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Lines that begin before this are done.
    pub(super) done: [u64; STREAMS],
    /// Where the record that begins at `done` was ended because of the time; 0 if none was.
    pub(super) cuts: [u64; STREAMS],
    /// Reading goes on within a line whose beginning is done.
    pub(super) within_line: bool,
}

impl Progress {
    /// Where reading goes on.
    pub(super) fn offset(&self) -> u64 {
        self.done.into_iter().min().unwrap_or_default()
    }
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joined<'a> {
    /// Where its first line begins.
    pub(super) offset: u64,
    pub(super) stream: Option<&'static str>,
    /// When the runtime read its first line.
    pub(super) time: Option<Timestamp>,
    pub(super) text: &'a [u8],
    /// True if something is missing at the end of a line.
    pub(super) cut: bool,
}

/// One line of a file.
#[derive(Clone, Copy)]
pub(super) struct FileLine<'a> {
    pub(super) offset: u64,
    /// Without its line break.
    pub(super) bytes: &'a [u8],
    /// True if the rest of it is left out.
    pub(super) cut: bool,
}

/// Puts records together.
#[derive(Debug, Default)]
pub(super) struct Lines {
    streams: [Stream; STREAMS],
}

#[derive(Debug, Default)]
struct Stream {
    done: u64,
    cut: u64,
    open: Option<Open>,
    text: Vec<u8>,
}

/// A record that may go on; its text is beside it, in memory that is used again.
#[derive(Debug)]
struct Open {
    offset: u64,
    time: Option<Timestamp>,
    lines: usize,
    /// The last line goes on.
    partial: bool,
    cut: bool,
    joining: Joining,
    opened_at: Timestamp,
    grown_at: Timestamp,
}

impl Lines {
    /// Goes on where `progress` says.
    pub(super) fn resume(progress: &Progress) -> Self {
        let mut lines = Self::default();
        for (index, stream) in lines.streams.iter_mut().enumerate() {
            (stream.done, stream.cut) = (progress.done[index], progress.cuts[index]);
        }
        lines
    }

    /// Takes the next line.
    pub(super) fn take(
        &mut self,
        line: FileLine<'_>,
        limits: &LineLimits,
        now: Timestamp,
        out: &mut impl FnMut(Joined<'_>),
    ) {
        let read = Read::of(line.bytes);
        let (stream, name) = (&mut self.streams[read.stream], NAMES[read.stream]);
        if line.offset < stream.done {
            return;
        }
        if stream.cut != 0 && line.offset >= stream.cut {
            stream.end(name, out);
            stream.cut = 0;
        }
        stream.take(line, &read, limits, now, name, out);
    }

    /// Ends the records that have waited long enough, at `offset`, before which all lines were taken. True if there
    /// was one.
    pub(super) fn expire(
        &mut self,
        offset: u64,
        limits: &LineLimits,
        now: Timestamp,
        out: &mut impl FnMut(Joined<'_>),
    ) -> bool {
        let mut any = false;
        for (stream, name) in self.streams.iter_mut().zip(NAMES) {
            let is_over = stream.open.as_ref().is_some_and(|open| {
                let wait = if open.partial { limits.open_micros } else { limits.join_wait_micros };
                now.micros_since(open.grown_at) >= wait
                    || now.micros_since(open.opened_at) >= limits.open_micros
            });
            if is_over {
                stream.cut = offset;
                stream.end(name, out);
                any = true;
            }
        }
        any
    }

    /// Ends all records, because nothing follows.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Joined<'_>)) {
        for (stream, name) in self.streams.iter_mut().zip(NAMES) {
            stream.end(name, out);
        }
    }

    /// True if a record waits for what follows.
    pub(super) fn is_open(&self) -> bool {
        self.streams.iter().any(|stream| stream.open.is_some())
    }

    /// Memory of records that wait for what follows.
    pub(super) fn open_bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.text.capacity()).sum()
    }

    /// How far all that came out reaches, where lines before `offset` were taken.
    pub(super) fn progress(&self, offset: u64) -> Progress {
        let done = |stream: &Stream| match &stream.open {
            Some(open) => open.offset,
            None => stream.done.max(offset),
        };
        let mut progress = Progress::default();
        for (index, stream) in self.streams.iter().enumerate() {
            progress.done[index] = done(stream);
            // a cut matters only to what is read again
            let is_ahead = stream.cut > progress.done[index];
            progress.cuts[index] = if is_ahead { stream.cut } else { 0 };
        }
        progress
    }

    /// Where time ended the last record of each stream that it ended.
    pub(super) fn cuts(&self) -> [u64; STREAMS] {
        std::array::from_fn(|index| self.streams[index].cut)
    }
}

impl Stream {
    fn take(
        &mut self,
        line: FileLine<'_>,
        read: &Read<'_>,
        limits: &LineLimits,
        now: Timestamp,
        name: Option<&'static str>,
        out: &mut impl FnMut(Joined<'_>),
    ) {
        let message = &*read.message;
        let joining = match &self.open {
            Some(open) if open.partial => Some(open.joining),
            Some(open) => open.joining.next(message).filter(|_| {
                open.lines < limits.record_lines && self.text.len() + 1 + message.len() <= limits.record_bytes
            }),
            None => None,
        };
        if joining.is_none() {
            self.end(name, out);
            if !read.partial && message.trim_ascii().is_empty() {
                return;
            }
        }
        let open = self.open.get_or_insert_with(|| Open {
            offset: line.offset,
            time: read.time,
            lines: 0,
            partial: false,
            cut: false,
            joining: Joining::begin(message),
            opened_at: now,
            grown_at: now,
        });
        open.joining = joining.unwrap_or(open.joining);
        if !open.partial {
            if open.lines > 0 {
                self.text.push(b'\n');
            }
            open.lines += 1;
        }
        let kept = message.len().min(limits.record_bytes.saturating_sub(self.text.len()));
        self.text.extend_from_slice(&message[..kept]);
        open.cut |= line.cut || kept < message.len();
        open.partial = read.partial;
        open.grown_at = now;
        if !open.partial && open.lines == 1 && Joining::is_whole(&self.text) {
            self.end(name, out);
        }
    }

    fn end(&mut self, name: Option<&'static str>, out: &mut impl FnMut(Joined<'_>)) {
        if let Some(open) = self.open.take() {
            let Open { offset, time, cut, partial, .. } = open;
            // a blank line after a trace belongs to it only if something follows
            let blank = self.text.iter().rev().take_while(|byte| **byte == b'\n').count();
            let text = &self.text[..self.text.len() - blank];
            out(Joined { offset, stream: name, time, text, cut: cut || partial });
            self.text.clear();
            // a long record should not keep its memory for ever
            self.text.shrink_to(4 << 10);
        }
    }
}

/// A line without what the runtime wrote around it.
struct Read<'a> {
    stream: usize,
    time: Option<Timestamp>,
    partial: bool,
    message: Cow<'a, [u8]>,
}

impl<'a> Read<'a> {
    fn of(line: &'a [u8]) -> Self {
        if let Some(CriLine { time, stream, partial, message }) = CriLine::parse(line) {
            return Self {
                stream: index(Some(stream)),
                time: Some(time),
                partial,
                message: Cow::Borrowed(message),
            };
        }
        match docker(line) {
            Some(DockerLine { time, stream, partial, message }) => {
                let message = Cow::Owned(message.into_bytes());
                Self { stream: index(stream.as_deref()), time, partial, message }
            }
            None => {
                let message = Cow::Borrowed(line.strip_suffix(b"\r").unwrap_or(line));
                Self { stream: index(None), time: None, partial: false, message }
            }
        }
    }
}

/// Other programs write JSON lines with a member `log`, but not as their first.
fn docker(line: &[u8]) -> Option<DockerLine> {
    if line.starts_with(b"{\"log\":\"") {
        return DockerLine::parse(line);
    }
    // with spaces it was written anew by something else, or is no line of Docker's
    let rest = line.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"log\"")?;
    let is_text = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().starts_with(b"\"");
    let docker = is_text.then(|| DockerLine::parse(line)).flatten()?;
    (docker.time.is_some() && docker.stream.is_some()).then_some(docker)
}

fn index(stream: Option<&str>) -> usize {
    NAMES.iter().position(|name| *name == stream).unwrap_or(STREAMS - 1)
}

#[cfg(test)]
mod tests;
