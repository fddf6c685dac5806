//! A cursor over one JSON text. It reads what it is asked for and steps over the rest without recursion.
//!
//! It accepts slightly more than JSON (control characters in strings, unpaired surrogates, odd numbers,
//! mixed brackets in what is stepped over): events are decoded strictly before they are stored, and here
//! nothing may hide behind a detail.

use memchr::memchr2;

/// So many times eight bytes of a string are searched before a vectorised search is set up.
const SHORT_CHUNKS: usize = 6;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The cursor.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// What begins at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Text,
    Number,
    True,
    False,
    Null,
}

impl<'a> Reader<'a> {
    /// Begins at the start of a text.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Where the cursor stands, in bytes.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// What was read since the cursor stood at `start`.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The kind of the value at the cursor, after white space.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind, Malformed> {
        Ok(match self.peek().ok_or(Malformed)? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::Text,
            b'-' | b'0'..=b'9' => Kind::Number,
            b't' => Kind::True,
            b'f' => Kind::False,
            b'n' => Kind::Null,
            _ => return Err(Malformed),
        })
    }

    /// Steps into an object or array, over `open`. False if it is empty, and then it is done with.
    pub(crate) fn enter(&mut self, open: u8, close: u8) -> Result<bool, Malformed> {
        self.expect(open)?;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Steps over a comma (true) or over `close` (false).
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Malformed> {
        let next = self.peek();
        self.at += 1;
        match next {
            Some(b',') => Ok(true),
            Some(byte) if byte == close => Ok(false),
            _ => Err(Malformed),
        }
    }

    /// Reads a key and the colon behind it. `scratch` is used if the key has escapes.
    pub(crate) fn key<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, Malformed>
    where
        'a: 's,
    {
        let key = self.string(scratch)?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Reads a string. `scratch` is used if it has escapes.
    pub(crate) fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, Malformed>
    where
        'a: 's,
    {
        self.expect(b'"')?;
        let start = self.at;
        if self.seek_quote_or_escape()? == b'"' {
            self.at += 1;
            return Ok(&self.text[start..self.at - 1]);
        }
        scratch.clear();
        scratch.push_str(&self.text[start..self.at]);
        loop {
            self.at += 1;
            scratch.push(self.escaped()?);
            let start = self.at;
            let stop = self.seek_quote_or_escape()?;
            scratch.push_str(&self.text[start..self.at]);
            if stop == b'"' {
                self.at += 1;
                return Ok(scratch);
            }
        }
    }

    /// Steps over something if it stands exactly here.
    #[inline]
    pub(crate) fn take(&mut self, written: &str) -> bool {
        let is_here = begins_with(self.rest(), written.as_bytes());
        if is_here {
            self.at += written.len();
        }
        is_here
    }

    /// Reads a number as it is written.
    pub(crate) fn number(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        self.at += self.rest().iter().take_while(|byte| number(byte)).count();
        if self.at == start { Err(Malformed) } else { Ok(&self.text[start..self.at]) }
    }

    /// Reads `true`, `false` or `null`.
    pub(crate) fn word(&mut self, word: &str) -> Result<(), Malformed> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    /// Steps over one value.
    pub(crate) fn skip(&mut self) -> Result<(), Malformed> {
        match self.kind()? {
            Kind::Object | Kind::Array => self.skip_nested(),
            Kind::Text => {
                self.at += 1;
                self.skip_string()
            }
            Kind::Number => self.number().map(|_| ()),
            Kind::True => self.word("true"),
            Kind::False => self.word("false"),
            Kind::Null => self.word("null"),
        }
    }

    /// Checks that nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0usize;
        loop {
            let byte = *self.text.as_bytes().get(self.at).ok_or(Malformed)?;
            self.at += 1;
            match byte {
                b'"' => self.skip_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    /// Steps over the rest of a string, behind its opening quote.
    fn skip_string(&mut self) -> Result<(), Malformed> {
        loop {
            let stop = self.seek_quote_or_escape()?;
            self.at += 1;
            if stop == b'"' {
                return Ok(());
            }
            // The escaped character; that of `\u` is followed by plain digits. A character of several bytes
            // cannot be escaped, and its other bytes are neither quote nor backslash.
            self.at += 1;
        }
    }

    /// Moves to the next quote or backslash, and says which it is.
    #[inline]
    fn seek_quote_or_escape(&mut self) -> Result<u8, Malformed> {
        let rest = self.rest();
        let (chunks, _) = rest.as_chunks();
        let searched = chunks.len().min(SHORT_CHUNKS);
        for (number, chunk) in chunks[..searched].iter().enumerate() {
            let chunk = u64::from_le_bytes(*chunk);
            let found = quotes_and_escapes(chunk);
            if found != 0 {
                let byte = found.trailing_zeros() / 8;
                self.at += number * 8 + byte as usize;
                return Ok((chunk >> (byte * 8)).to_le_bytes()[0]);
            }
        }
        let rest = &rest[searched * 8..];
        let distance = memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
        self.at += searched * 8 + distance;
        Ok(rest[distance])
    }

    /// Reads what follows a backslash.
    fn escaped(&mut self) -> Result<char, Malformed> {
        let byte = *self.rest().first().ok_or(Malformed)?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.escaped_unicode()?,
            _ => return Err(Malformed),
        })
    }

    fn escaped_unicode(&mut self) -> Result<char, Malformed> {
        let first = self.four_digits()?;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let digits = self.rest().get(..4).ok_or(Malformed)?;
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let code = digits.iter().try_fold(0, |code, byte| Some(code << 4 | digit(byte)?)).ok_or(Malformed)?;
        self.at += 4;
        Ok(code)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        // Most events are written without any.
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Some(*byte),
            _ => self.peek_behind_space(),
        }
    }

    #[cold]
    fn peek_behind_space(&mut self) -> Option<u8> {
        let space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        self.at += self.rest().iter().take_while(|byte| space(byte)).count();
        self.rest().first().copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// Whether a text begins with another. Those are mostly short, and then two overlapping looks at them are enough, where
/// the general comparison takes longer to find out how to compare.
#[inline]
fn begins_with(text: &[u8], beginning: &[u8]) -> bool {
    let length = beginning.len();
    let Some(text) = text.get(..length) else { return false };
    match length {
        4..8 => {
            text.first_chunk::<4>() == beginning.first_chunk()
                && text.last_chunk::<4>() == beginning.last_chunk()
        }
        8..=16 => {
            text.first_chunk::<8>() == beginning.first_chunk()
                && text.last_chunk::<8>() == beginning.last_chunk()
        }
        17..=32 => {
            text.first_chunk::<16>() == beginning.first_chunk()
                && text.last_chunk::<16>() == beginning.last_chunk()
        }
        _ => text == beginning,
    }
}

/// The high bit of each byte of `chunk` that is a quote or a backslash; bits above the lowest one may be wrong.
fn quotes_and_escapes(chunk: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let is_zero = |differences: u64| differences.wrapping_sub(ONES) & !differences;
    let quotes = is_zero(chunk ^ (ONES * u64::from(b'"')));
    let escapes = is_zero(chunk ^ (ONES * u64::from(b'\\')));
    (quotes | escapes) & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_unescaped() {
        let mut scratch = String::new();
        for (json, text) in [
            (r#""plain é""#, "plain é"),
            (r#""a\"b\\c\/d\n""#, "a\"b\\c/d\n"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
        ] {
            assert_eq!(Reader::new(json).string(&mut scratch), Ok(text), "{json}");
        }
        for json in ["\"", r#""\"#, r#""\u12"#, r#""\x""#, r#""\u00é0""#] {
            assert_eq!(Reader::new(json).string(&mut scratch), Err(Malformed), "{json}");
        }
    }

    #[test]
    fn takes_what_stands_here_whatever_its_length() {
        let text: String = ('!'..='~').collect();
        for length in 0..text.len() {
            let mut reader = Reader::new(&text);
            assert!(reader.take(&text[..length]) && reader.position() == length, "{length}");
            for at in 0..length {
                let mut other = text[..length].to_owned();
                other.replace_range(at..=at, " ");
                assert!(!Reader::new(&text).take(&other), "{length} {at}");
            }
            assert!(!Reader::new(&text[..length]).take(&text[..=length]), "{length}");
        }
    }

    #[test]
    fn steps_over_any_value_however_deep() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for json in [r#"{"a":[1,{"b":"}\"]"}],"c":null}"#, r#""x\\""#, "-1.5e3", "true", &deep] {
            let mut reader = Reader::new(json);
            assert_eq!(reader.skip().and_then(|()| reader.end()), Ok(()), "{json:.40}");
        }
        for json in ["{", "[1", "\"x", "tru", "}", "", "1 2"] {
            let mut reader = Reader::new(json);
            assert_eq!(reader.skip().and_then(|()| reader.end()), Err(Malformed), "{json}");
        }
    }
}
