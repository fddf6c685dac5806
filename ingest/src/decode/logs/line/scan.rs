/// Takes a line apart from its start.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a str);

impl<'a> Cursor<'a> {
    /// Takes this text, if it comes next.
    pub(super) fn take(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Takes what comes before this byte, and the byte.
    pub(super) fn until(&mut self, byte: u8) -> Option<&'a str> {
        let at = self.0.bytes().position(|found| found == byte)?;
        let found = &self.0[..at];
        self.0 = &self.0[at + 1..];
        Some(found)
    }

    /// Takes a word and the space after it; the last word needs none.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let word = match self.0.split_once(' ') {
            Some((word, rest)) => {
                self.0 = rest;
                word
            }
            None => std::mem::take(&mut self.0),
        };
        (!word.is_empty()).then_some(word)
    }

    /// Takes text in double quotes in which a backslash escapes a quote, and a space after it if there is one.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        let inner = self.0.strip_prefix('"')?;
        let mut escaped = false;
        let end = inner.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let rest = &inner[end + 1..];
        self.0 = rest.strip_prefix(' ').unwrap_or(rest);
        Some(&inner[..end])
    }
}
