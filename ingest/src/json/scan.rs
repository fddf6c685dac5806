use super::Kind;

/// The text is not JSON at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub(crate) struct SyntaxError {
    /// From the start of the text.
    pub(crate) offset: usize,
    /// What was expected or is not allowed.
    pub(crate) reason: &'static str,
}

/// Reads JSON tokens from bytes. Offsets count from the start of `bytes`.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) pos: usize,
}

/// Names and short values mostly end within so many bytes, which are looked at together.
const WORD_BYTES: usize = 16;
/// What is longer is passed over in blocks.
const BLOCK_BYTES: usize = 32;

/// Length of the part of a string before the first quote, backslash or control character.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(word) = bytes.get(len..).and_then(|rest| rest.first_chunk()) {
        match first_special(word) {
            Some(at) => return len + at,
            None => len += WORD_BYTES,
        }
        if len == 2 * WORD_BYTES {
            let (blocks, _) = bytes[len..].as_chunks();
            len += BLOCK_BYTES * blocks.iter().take_while(|block| !has_special(block)).count();
        }
    }
    match bytes.last_chunk() {
        // a part of it was looked at before, and is plain
        Some(last) => first_special(last).map_or(bytes.len(), |at| bytes.len() - WORD_BYTES + at),
        None => bytes.iter().position(|byte| is_special(*byte) != 0).unwrap_or(bytes.len()),
    }
}

/// One for a quote, backslash or control character, else zero. Control characters are below 0x20 and stay there when
/// this bit is changed, which makes 0x20 of a quote and something above of all others.
fn is_special(byte: u8) -> u8 {
    u8::from(byte ^ 0x02 <= 0x20) | u8::from(byte == b'\\')
}

/// Without a branch, so that compilers make a few instructions of a whole block.
fn has_special(block: &[u8; BLOCK_BYTES]) -> bool {
    block.iter().fold(0, |any, byte| any | is_special(*byte)) != 0
}

/// The place of the first quote, backslash or control character. Without a branch for each byte, so that compilers look
/// at all of them at once.
fn first_special(word: &[u8; WORD_BYTES]) -> Option<usize> {
    let specials = word.map(|byte| if is_special(byte) == 0 { 0 } else { u8::MAX });
    let specials = u128::from_le_bytes(specials);
    (specials != 0).then(|| (specials.trailing_zeros() / 8) as usize)
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    pub(crate) fn error<T>(&self, reason: &'static str) -> Result<T, SyntaxError> {
        let reason = if self.pos >= self.bytes.len() { "the text ends too early" } else { reason };
        Err(SyntaxError { offset: self.pos, reason })
    }

    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.pos += 1;
        }
    }

    /// Takes `byte` if it comes next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.pos += usize::from(taken);
        taken
    }

    /// Reads the colon after a key, and the space around it.
    pub(crate) fn colon(&mut self) -> Result<(), SyntaxError> {
        self.skip_space();
        if !self.take(b':') {
            return self.error("expected a colon");
        }
        self.skip_space();
        Ok(())
    }

    /// After a member or element: true if another one follows, false at `close`.
    pub(crate) fn next_or(&mut self, close: u8) -> Result<bool, SyntaxError> {
        self.skip_space();
        let more = match self.peek() {
            Some(b',') => true,
            Some(byte) if byte == close => false,
            _ => return self.error("expected a comma or the end of the list or object"),
        };
        self.pos += 1;
        if more {
            self.skip_space();
        }
        Ok(more)
    }

    /// Reads a string, quotes included. `lone_surrogate` is called for each `\u` escape that is half a
    /// character.
    pub(crate) fn string(&mut self, mut lone_surrogate: impl FnMut()) -> Result<Kind, SyntaxError> {
        self.pos += 1;
        let mut kind = Kind::Plain;
        loop {
            self.pos += plain_len(self.bytes.get(self.pos..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(kind);
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape(&mut lone_surrogate)?;
                }
                _ => return self.error("a control character within a string"),
            }
        }
    }

    fn escape(&mut self, lone_surrogate: &mut impl FnMut()) -> Result<(), SyntaxError> {
        self.pos += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 1,
            Some(b'u') => {
                let code = self.hex4()?;
                match code {
                    0xD800..=0xDBFF if self.low_surrogate_follows() => self.pos += 6,
                    0xD800..=0xDFFF => lone_surrogate(),
                    _ => {}
                }
            }
            _ => return self.error("an unknown escape"),
        }
        Ok(())
    }

    /// Reads the `u` and four hexadecimal digits.
    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        match self.bytes.get(self.pos + 1..self.pos + 5).and_then(super::text::hex4) {
            Some(code) => {
                self.pos += 5;
                Ok(code)
            }
            None => self.error("expected four hexadecimal digits"),
        }
    }

    fn low_surrogate_follows(&self) -> bool {
        let low = self.bytes.get(self.pos..self.pos + 6).and_then(|escape| escape.strip_prefix(b"\\u"));
        low.and_then(super::text::hex4).is_some_and(|code| (0xDC00..=0xDFFF).contains(&code))
    }

    pub(crate) fn number(&mut self) -> Result<(), SyntaxError> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
            0 => self.error("expected a digit"),
            count => {
                self.pos += count;
                Ok(())
            }
        }
    }

    pub(crate) fn literal(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        let rest = self.bytes.get(self.pos..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return self.error("expected a value");
        }
        self.pos += word.len();
        Ok(())
    }

    /// Passes over a value of any kind.
    pub(crate) fn skip_value(&mut self) -> Result<(), SyntaxError> {
        match self.peek() {
            Some(b'{' | b'[') => self.skip_container(),
            Some(b'"') => self.string(|| ()).map(|_| ()),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.error("expected a value"),
        }
    }

    /// Passes over a list or object of any depth, minding only brackets and strings.
    pub(crate) fn skip_container(&mut self) -> Result<(), SyntaxError> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth = depth.saturating_sub(1),
                Some(b'"') => {
                    self.string(|| ())?;
                    continue;
                }
                Some(_) => {}
                None => return self.error(""),
            }
            self.pos += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}
