use bytes::{Buf, Bytes, BytesMut};

/// Digits of a count, at most.
const MAX_COUNT_DIGITS: usize = 9;

/// One message of a stream, or one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogFrame {
    /// The message.
    pub bytes: Bytes,
    /// True if it was longer than allowed, or ended early.
    pub cut: bool,
}

/// Takes messages out of a stream. A stream may mix both framings: a message that begins with a count and `<` is
/// counted, anything else is a line.
#[derive(Debug)]
pub struct SyslogFrames {
    max_bytes: usize,
    /// What is still to come of a message that was cut.
    skip: Skip,
    /// How much of the buffer is known to have no line break.
    searched: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Skip {
    Nothing,
    Bytes(usize),
    Line,
}

/// How the next message is framed.
enum Framing {
    /// This many bytes after the count, which takes as many itself.
    Counted {
        head: usize,
        length: usize,
    },
    Line,
    /// More bytes will tell.
    Unknown,
}

impl SyslogFrames {
    /// For messages of at most `max_bytes`; what is longer is cut.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, skip: Skip::Nothing, searched: 0 }
    }

    /// Takes the next whole message out of the buffer. Without one, at most one message and its count are left in it.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<SyslogFrame> {
        if !self.skipped(buffer) {
            return None;
        }
        let blank = buffer.iter().take_while(|byte| matches!(byte, b'\n' | b'\r' | 0 | b' ')).count();
        if blank > 0 {
            buffer.advance(blank);
            self.searched = 0;
        }
        match framing(buffer) {
            Framing::Unknown => None,
            Framing::Counted { head, length } => self.counted(buffer, head, length),
            Framing::Line => self.line(buffer),
        }
    }

    /// What is left when the stream has ended.
    pub fn last(&mut self, buffer: &mut BytesMut) -> Option<SyslogFrame> {
        let is_line = !matches!(framing(buffer), Framing::Counted { .. });
        let bytes = buffer.split().freeze();
        let is_rest = self.skip != Skip::Nothing || bytes.trim_ascii().is_empty();
        (!is_rest).then_some(SyslogFrame { bytes, cut: !is_line })
    }

    /// Passes over the rest of a message that was cut; false if more of it will come.
    fn skipped(&mut self, buffer: &mut BytesMut) -> bool {
        match self.skip {
            Skip::Nothing => return true,
            Skip::Bytes(left) => {
                let here = left.min(buffer.len());
                buffer.advance(here);
                self.skip = if here == left { Skip::Nothing } else { Skip::Bytes(left - here) };
            }
            Skip::Line => match line_break(buffer) {
                Some(end) => {
                    buffer.advance(end + 1);
                    self.skip = Skip::Nothing;
                }
                None => buffer.clear(),
            },
        }
        self.skip == Skip::Nothing
    }

    fn counted(&mut self, buffer: &mut BytesMut, head: usize, length: usize) -> Option<SyslogFrame> {
        let kept = length.min(self.max_bytes);
        if buffer.len() < head + kept {
            return None;
        }
        buffer.advance(head);
        let bytes = buffer.split_to(kept).freeze();
        if kept < length {
            self.skip = Skip::Bytes(length - kept);
        }
        Some(SyslogFrame { bytes, cut: kept < length })
    }

    fn line(&mut self, buffer: &mut BytesMut) -> Option<SyslogFrame> {
        let end = line_break(&buffer[self.searched..]).map(|end| self.searched + end);
        let cut = end.unwrap_or(buffer.len()) > self.max_bytes;
        if end.is_none() && !cut {
            self.searched = buffer.len();
            return None;
        }
        self.searched = 0;
        if cut {
            self.skip = Skip::Line;
            return Some(SyslogFrame { bytes: buffer.split_to(self.max_bytes).freeze(), cut });
        }
        let bytes = buffer.split_to(end?).freeze();
        buffer.advance(1);
        Some(SyslogFrame { bytes, cut })
    }
}

fn framing(buffer: &[u8]) -> Framing {
    let digits = buffer.iter().take(MAX_COUNT_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if buffer.is_empty() {
        return Framing::Unknown;
    }
    if digits == 0 || digits > MAX_COUNT_DIGITS || buffer[0] == b'0' {
        return Framing::Line;
    }
    match buffer.get(digits..).unwrap_or_default() {
        [] | [b' '] => Framing::Unknown,
        [b' ', b'<', ..] => {
            let count = str::from_utf8(&buffer[..digits]).ok().and_then(|count| count.parse().ok());
            count.map_or(Framing::Line, |length| Framing::Counted { head: digits + 1, length })
        }
        _ => Framing::Line,
    }
}

fn line_break(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| matches!(byte, b'\n' | 0))
}
