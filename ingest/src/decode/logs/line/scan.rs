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
        let at = memchr::memchr(byte, self.0.as_bytes())?;
        let found = &self.0[..at];
        self.0 = &self.0[at + 1..];
        Some(found)
    }

    /// Takes a word and the space after it; the last word needs none.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        let word = match memchr::memchr(b' ', self.0.as_bytes()) {
            Some(space) => {
                let word = &self.0[..space];
                self.0 = &self.0[space + 1..];
                word
            }
            None => std::mem::take(&mut self.0),
        };
        (!word.is_empty()).then_some(word)
    }

    /// Takes text in double quotes in which a backslash escapes a quote, and a space after it if there is one.
    pub(super) fn quoted(&mut self) -> Option<&'a str> {
        let inner = self.0.strip_prefix('"')?;
        let mut end = 0;
        loop {
            end += memchr::memchr2(b'"', b'\\', inner.as_bytes().get(end..)?)?;
            if inner.as_bytes()[end] == b'"' {
                break;
            }
            end += 2;
        }
        let rest = &inner[end + 1..];
        self.0 = rest.strip_prefix(' ').unwrap_or(rest);
        Some(&inner[..end])
    }
}
