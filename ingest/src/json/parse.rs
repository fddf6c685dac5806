use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use super::{Kind, Node, Scanner, SyntaxError, Tape};

/// Bounds of one text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Lists and objects within one another; at most 127, what `serde_json` reads.
    pub(crate) depth: usize,
    /// Values and keys.
    pub(crate) values: usize,
}

/// Well-formed JSON that later stages would read differently from one another, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The member in this range, up to the next member, is given again later in its object.
    Duplicate {
        /// From the key to the next member's key.
        range: Range<usize>,
        /// True inside `requestObject` or `responseObject`.
        in_body: bool,
    },
    /// The list or object in this range is nested too deeply and was passed over.
    TooDeep(Range<usize>),
    /// The string in this range has a `\u` escape that is half a character.
    LoneSurrogate(Range<usize>),
    /// The number in this range does not fit into 64 bits of floating point, which most readers refuse.
    HugeNumber(Range<usize>),
    /// There are more values than the limit; the tape is empty.
    TooManyValues,
}

/// Keys on their way into [`Tape::order`].
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Of the objects that are still open, innermost last.
    open: Vec<Key>,
    sorted: Vec<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    /// The first bytes of its content, which decide nearly always between two.
    first: u64,
    node: u32,
}

/// A text is expected to have a key or value in so many bytes, at least.
const BYTES_PER_NODE: usize = 12;
/// For so many of them room is made at once: many texts are read once, with a new tape.
const RESERVED_NODES: usize = 512;

/// Reads one value that starts at `start` into `tape` and returns where it ends. All offsets, those in
/// errors included, count from `start`.
pub(crate) fn parse(
    bytes: &[u8],
    start: usize,
    limits: Limits,
    tape: &mut Tape,
) -> Result<usize, SyntaxError> {
    tape.nodes.clear();
    tape.order.clear();
    tape.flaws.clear();
    tape.keys.open.clear();
    let bytes = bytes.get(start..).unwrap_or_default();
    if u32::try_from(bytes.len()).is_err() {
        return Err(SyntaxError { offset: 0, reason: "from here on the text is longer than 4 GiB" });
    }
    tape.reserve((bytes.len() / BYTES_PER_NODE).min(RESERVED_NODES));
    let mut parser = Parser { scan: Scanner::new(bytes, 0), limits, tape, full: false, in_body: false };
    parser.value(0)?;
    let (end, full) = (parser.scan.pos, parser.full);
    if full {
        tape.nodes.clear();
        tape.flaws.clear();
        tape.flaws.push(Flaw::TooManyValues);
    }
    Ok(end)
}

impl Tape {
    fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve(nodes);
        self.order.reserve(nodes / 2);
        self.keys.open.reserve(nodes / 4);
        self.keys.sorted.reserve(nodes / 4);
    }
}

struct Parser<'a, 't> {
    scan: Scanner<'a>,
    limits: Limits,
    tape: &'t mut Tape,
    /// Too many values: only the syntax is checked from here on.
    full: bool,
    in_body: bool,
}

impl Parser<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<(), SyntaxError> {
        let start = self.scan.pos;
        let kind = match self.scan.peek() {
            Some(b'{' | b'[') if depth >= self.limits.depth => {
                self.scan.skip_container()?;
                self.note(Flaw::TooDeep(start..self.scan.pos));
                Kind::Null
            }
            Some(b'{') => return self.object(depth),
            Some(b'[') => return self.array(depth),
            Some(b'"') => self.string()?,
            Some(b't') => self.scan.literal("true").map(|()| Kind::Bool)?,
            Some(b'f') => self.scan.literal("false").map(|()| Kind::Bool)?,
            Some(b'n') => self.scan.literal("null").map(|()| Kind::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return self.scan.error("expected a value"),
        };
        self.push(kind, start, self.scan.pos);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), SyntaxError> {
        let index = self.push(Kind::Array, self.scan.pos, 0);
        let mut count = 0;
        self.scan.pos += 1;
        self.scan.skip_space();
        if !self.scan.take(b']') {
            loop {
                self.value(depth + 1)?;
                count += 1;
                if !self.scan.next_or(b']')? {
                    break;
                }
            }
        }
        self.close(index, count, 0);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), SyntaxError> {
        let index = self.push(Kind::Object, self.scan.pos, 0);
        let first_key = self.tape.keys.open.len();
        self.scan.pos += 1;
        self.scan.skip_space();
        if !self.scan.take(b'}') {
            loop {
                self.member(depth)?;
                if !self.scan.next_or(b'}')? {
                    break;
                }
            }
        }
        let count = self.tape.keys.open.len() - first_key;
        let order = to_u32(self.tape.order.len());
        self.sort_keys(first_key);
        self.close(index, to_u32(count), order);
        Ok(())
    }

    fn member(&mut self, depth: usize) -> Result<(), SyntaxError> {
        let start = self.scan.pos;
        let kind = match self.scan.peek() {
            Some(b'"') => self.string()?,
            _ => return self.scan.error("expected a key in quotes"),
        };
        let end = self.scan.pos;
        self.scan.colon()?;
        let key = self.push(kind, start, end);
        let raw = self.scan.bytes.get(start + 1..end - 1).unwrap_or_default();
        if !self.full {
            let first = match kind {
                Kind::Plain => first_bytes(self.scan.bytes.get(start + 1..).unwrap_or_default(), raw.len()),
                _ => first_bytes(&content(raw, kind), usize::MAX),
            };
            self.tape.keys.open.push(Key { first, node: to_u32(key) });
        }
        if depth > 0 {
            return self.value(depth + 1);
        }
        self.in_body = matches!(raw, b"requestObject" | b"responseObject");
        self.value(depth + 1)?;
        self.in_body = false;
        Ok(())
    }

    fn string(&mut self) -> Result<Kind, SyntaxError> {
        let (start, mut lone) = (self.scan.pos, false);
        let kind = self.scan.string(|| lone = true)?;
        if lone {
            self.note(Flaw::LoneSurrogate(start..self.scan.pos));
        }
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, SyntaxError> {
        let start = self.scan.pos;
        self.scan.number()?;
        let written = self.scan.bytes.get(start..self.scan.pos).unwrap_or_default();
        if is_huge(written) {
            self.note(Flaw::HugeNumber(start..self.scan.pos));
        }
        Ok(Kind::Number)
    }

    fn note(&mut self, flaw: Flaw) {
        self.full |= self.tape.flaws.len() >= self.limits.values;
        if !self.full {
            self.tape.flaws.push(flaw);
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> usize {
        let index = self.tape.nodes.len();
        self.full |= index >= self.limits.values;
        if !self.full {
            let next = to_u32(index + 1);
            let (start, end) = (to_u32(start), to_u32(end));
            self.tape.nodes.push(Node { kind, start, end, next, order: 0, count: 0 });
        }
        index
    }

    fn close(&mut self, index: usize, count: u32, order: u32) {
        let (next, end) = (to_u32(self.tape.nodes.len()), to_u32(self.scan.pos));
        if let (false, Some(node)) = (self.full, self.tape.nodes.get_mut(index)) {
            *node = Node { next, end, order, count, ..*node };
        }
    }

    /// Moves the keys of the object that ends here to the tape, sorted, and notes those given twice.
    fn sort_keys(&mut self, first_key: usize) {
        let Tape { nodes, order, keys: Keys { open, sorted }, .. } = &mut *self.tape;
        let written = open.get(first_key..).unwrap_or_default();
        let content = |key: &Key| {
            let Node { kind, start, end, .. } = nodes[key.node as usize];
            content(self.scan.bytes.get(start as usize + 1..end as usize - 1).unwrap_or_default(), kind)
        };
        let compare = |a: &Key, b: &Key| a.first.cmp(&b.first).then_with(|| content(a).cmp(&content(b)));
        let mut duplicates = Vec::new();
        if written.is_sorted_by(|a, b| compare(a, b) == Ordering::Less) {
            order.extend(written.iter().map(|key| key.node));
        } else {
            sorted.clear();
            sorted.extend_from_slice(written);
            sorted.sort_unstable_by_key(|key| (key.first, key.node));
            for alike in sorted.chunk_by_mut(|a, b| a.first == b.first).filter(|alike| alike.len() > 1) {
                alike.sort_by(compare);
            }
            order.extend(sorted.iter().map(|key| key.node));
            for pair in sorted.windows(2).filter(|pair| compare(&pair[0], &pair[1]) == Ordering::Equal) {
                let next = written.partition_point(|key| key.node <= pair[0].node);
                let end = written.get(next).map_or(0, |key| nodes[key.node as usize].start);
                let range = nodes[pair[0].node as usize].start as usize..end as usize;
                duplicates.push(Flaw::Duplicate { range, in_body: self.in_body });
            }
        }
        open.truncate(first_key);
        duplicates.into_iter().for_each(|duplicate| self.note(duplicate));
    }
}

/// True for numbers beyond about 1.8e308; few are written so that they need a closer look.
fn is_huge(number: &[u8]) -> bool {
    let may_be = number.len() > 300 || number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    may_be && str::from_utf8(number).ok().and_then(|text| text.parse().ok()).is_some_and(f64::is_infinite)
}

/// What stands between the quotes of a string, escapes resolved.
fn content(inner: &[u8], kind: Kind) -> Cow<'_, [u8]> {
    if kind != Kind::Escaped {
        return Cow::Borrowed(inner);
    }
    Cow::Owned(super::text::unescape(&String::from_utf8_lossy(inner)).into_bytes())
}

/// The first eight bytes of a key as a number that is ordered as they are; zeros where there are fewer. `text` begins
/// with the key, of which `len` bytes are there, and may go on behind it.
fn first_bytes(text: &[u8], len: usize) -> u64 {
    let first = text.first_chunk().copied().unwrap_or_else(|| {
        let mut first = [0; 8];
        first[..text.len()].copy_from_slice(text);
        first
    });
    let behind = u64::MAX.checked_shr(u32::try_from(8 * len.min(8)).unwrap_or(64)).unwrap_or(0);
    u64::from_be_bytes(first) & !behind
}

/// Offsets and numbers of nodes are within one text, which [`parse`] refuses if it is too long for them.
#[expect(clippy::cast_possible_truncation, reason = "checked once for all")]
fn to_u32(offset: usize) -> u32 {
    offset as u32
}
