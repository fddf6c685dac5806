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
    /// What the damaged frame's header says its records are, if the header is good.
    pub(crate) claimed: Option<Range<u64>>,
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
        let (reason, claimed) = match self.header(start)? {
            None => ("no frame begins here", None),
            Some(header) if header.first < self.expect => ("its records were there before", None),
            Some(header) => match self.body(start, &header, depth(&header))? {
                Some(body) => {
                    self.pass(start, &header);
                    return Ok(Step::Frame { at: start, header, body });
                }
                None => ("the checksum does not match", Some(header.first..header.end())),
            },
        };
        let next = self.next_good(start + 1)?;
        self.at = next.as_ref().map_or(self.len, |(at, _)| *at);
        let next_first = next.map(|(_, header)| header.first);
        Ok(Step::Damage(Damaged { bytes: start..self.at, reason, expect: self.expect, claimed, next_first }))
    }

    fn pass(&mut self, at: u64, header: &Header) {
        self.at = at + header.frame_len();
        self.expect = header.end();
    }

    fn header(&self, at: u64) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        let read = read_full(&*self.file, &mut bytes, at)?;
        let header = bytes.get(..read).and_then(|bytes| Header::parse(bytes, self.marker));
        Ok(header.filter(|header| at + header.frame_len() <= self.len))
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

    /// The next good frame that begins at `from` or later.
    fn next_good(&self, mut from: u64) -> io::Result<Option<(u64, Header)>> {
        let needle =
            self.marker.map_or_else(|| needle([0; 8])[..4].to_vec(), |marker| needle(marker).to_vec());
        let mut window = vec![0; WINDOW_BYTES];
        while from + (HEADER_BYTES as u64) <= self.len {
            let read = read_full(&*self.file, &mut window, from)?;
            let Some(bytes) = window.get(..read).filter(|bytes| bytes.len() >= needle.len()) else { break };
            let last = bytes.len() - needle.len();
            for candidate in find_all(bytes, &needle) {
                let at = from + candidate as u64;
                if let Some(header) = self.header(at)?
                    && header.first >= self.expect
                    && self.body(at, &header, Depth::Body)?.is_some()
                {
                    return Ok(Some((at, header)));
                }
            }
            from += last as u64 + 1;
        }
        Ok(None)
    }
}

fn find_all<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(needle.len()).enumerate().filter(move |(_, window)| *window == needle).map(|(at, _)| at)
}
