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

/// Bytes that end the plain part of a string: quote, backslash, control characters.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

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
        if self.take(close) {
            return Ok(false);
        }
        if !self.take(b',') {
            return self.error("expected a comma or the end of the list or object");
        }
        self.skip_space();
        Ok(true)
    }

    /// Reads a string, quotes included. `lone_surrogate` is called for each `\u` escape that is half a
    /// character.
    pub(crate) fn string(&mut self, mut lone_surrogate: impl FnMut()) -> Result<Kind, SyntaxError> {
        self.pos += 1;
        let mut kind = Kind::Plain;
        loop {
            let rest = self.bytes.get(self.pos..).unwrap_or_default();
            let plain = rest.iter().position(|byte| SPECIAL[usize::from(*byte)]);
            self.pos += plain.unwrap_or(rest.len());
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
