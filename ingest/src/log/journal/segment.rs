//! Walks the frames of one segment and finds the next good one behind damage.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::disk::{DiskFile, read_full};
use super::frame::{HEADER_BYTES, Header, Marker, needle};

const SUFFIX: &str = ".wbj";
/// How much is read at a time when looking for the next good frame.
const WINDOW_BYTES: usize = 1 << 20;

/// A segment's file name: the offset of its first record, so that names sort as records do.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The offset of the first record, if `name` is a segment's.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// How much of a frame is read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Header,
    Table,
    Body,
}

/// What stands next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// A good frame.
    Frame {
        /// Where it begins.
        at: u64,
        header: Header,
        /// Empty, its table, or table and payload: what was asked for.
        body: Vec<u8>,
    },
    /// Bytes that are no frame.
    Damage(Damaged),
    End,
}

/// Bytes that are no frame, up to the next good one or the end.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) bytes: Range<u64>,
    pub(crate) reason: &'static str,
    /// Offset that the first record here should have.
    pub(crate) expect: u64,
    /// What the damaged frames' headers say their records are, as far as headers are good.
    pub(crate) claimed: Option<Range<u64>>,
    /// All of it can be one frame, so one write that a crash interrupted.
    pub(crate) one_frame: bool,
    /// Offset of the first record of the good frame behind; none if there is none.
    pub(crate) next_first: Option<u64>,
}

/// A position in a segment.
#[derive(Clone)]
pub(crate) struct Walk {
    file: Arc<dyn DiskFile>,
    /// Durable length of the segment.
    len: u64,
    marker: Option<Marker>,
    /// Where the next frame begins.
    at: u64,
    /// Records with lower offsets cannot follow.
    expect: u64,
}

impl Walk {
    /// Begins at the start of a segment whose first record has the offset `first`.
    pub(crate) fn new(file: Arc<dyn DiskFile>, len: u64, marker: Option<Marker>, first: u64) -> Self {
        Self { file, len, marker, at: 0, expect: first }
    }

    /// The next record's offset at least.
    pub(crate) fn expect(&self) -> u64 {
        self.expect
    }

    /// Tells that the segment has grown.
    pub(crate) fn extend_to(&mut self, len: u64) {
        self.len = len;
    }

    /// Reads on. `depth` is asked how much of a frame is wanted.
    pub(crate) fn step(&mut self, depth: impl Fn(&Header) -> Depth) -> io::Result<Step> {
        if self.at >= self.len {
            return Ok(Step::End);
        }
        let start = self.at;
        let first = self.header(start)?;
        let reason = match &first {
            None => "no frame begins here",
            Some(header) if header.first < self.expect => "its records were there before",
            Some(header) if start + header.frame_len() > self.len => "the frame is incomplete",
            Some(header) => match self.body(start, header, depth(header))? {
                Some(body) => {
                    let header = header.clone();
                    self.pass(start, &header);
                    return Ok(Step::Frame { at: start, header, body });
                }
                None => "the checksum does not match",
            },
        };
        self.damage(start, reason, first).map(Step::Damage)
    }

    /// Passes over the damage that begins at `start`, where this header was found.
    fn damage(&mut self, start: u64, reason: &'static str, first: Option<Header>) -> io::Result<Damaged> {
        let behind = self.next_good(start + 1)?;
        self.at = behind.good.as_ref().map_or(self.len, |(at, _)| *at);
        let one_frame = match &first {
            Some(header) => self.at <= start + header.frame_len(),
            None => behind.claimed_until.is_none(),
        };
        let first = first.filter(|header| header.first >= self.expect);
        let from = first.as_ref().map_or(self.expect, |header| header.first);
        let until = first.map(|header| header.end()).max(behind.claimed_until);
        Ok(Damaged {
            bytes: start..self.at,
            reason,
            expect: self.expect,
            claimed: until.map(|until| from..until),
            one_frame,
            next_first: behind.good.map(|(_, header)| header.first),
        })
    }

    fn pass(&mut self, at: u64, header: &Header) {
        self.at = at + header.frame_len();
        self.expect = header.end();
    }

    fn header(&self, at: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        let read = read_full(&*self.file, &mut bytes, at)?;
        Ok(bytes.get(..read).and_then(|bytes| Header::parse(bytes, self.marker)))
    }

    /// The wanted part of the body; none if it is damaged.
    fn body(&self, at: u64, header: &Header, depth: Depth) -> io::Result<Option<Vec<u8>>> {
        let len = match depth {
            Depth::Header => return Ok(Some(Vec::new())),
            Depth::Table => header.table_len(),
            Depth::Body => header.body_len(),
        };
        let mut body = vec![0; len];
        let read = read_full(&*self.file, &mut body, at + HEADER_BYTES as u64)?;
        let good = match depth {
            Depth::Table => header.matches_table(&body),
            _ => header.matches(&body),
        };
        Ok((read == len && good).then_some(body))
    }

    /// Looks for the next good frame that begins at `from` or later.
    fn next_good(&self, mut from: u64) -> io::Result<Behind> {
        let needle =
            self.marker.map_or_else(|| needle([0; 8])[..4].to_vec(), |marker| needle(marker).to_vec());
        let mut window = vec![0; WINDOW_BYTES];
        let mut behind = Behind::default();
        while from + (HEADER_BYTES as u64) <= self.len {
            let read = read_full(&*self.file, &mut window, from)?;
            let Some(bytes) = window.get(..read).filter(|bytes| bytes.len() >= needle.len()) else { break };
            let last = bytes.len() - needle.len();
            for candidate in find_all(bytes, &needle) {
                let at = from + candidate as u64;
                let header = self.header(at)?;
                let fits =
                    |header: &Header| header.first >= self.expect && at + header.frame_len() <= self.len;
                let Some(header) = header.filter(fits) else { continue };
                if self.body(at, &header, Depth::Body)?.is_some() {
                    behind.good = Some((at, header));
                    return Ok(behind);
                }
                behind.claimed_until = behind.claimed_until.max(Some(header.end()));
            }
            from += last as u64 + 1;
        }
        Ok(behind)
    }
}

/// What stands behind damage.
#[derive(Default)]
struct Behind {
    /// The next good frame and where it begins.
    good: Option<(u64, Header)>,
    /// Offset after the last record of the damaged frames before it whose headers are good.
    claimed_until: Option<u64>,
}

fn find_all<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(needle.len()).enumerate().filter(move |(_, window)| *window == needle).map(|(at, _)| at)
}
