//! Which lines belong to the one before: stack traces of Java, Python, Go and Node, and what is indented.

/// What the lines of a record so far make of the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Joining {
    /// Only what is indented, or names a cause, belongs to it.
    #[default]
    Plain,
    /// A Python traceback, up to the exception at its end.
    Python,
    /// After that, of which another traceback may tell more.
    PythonRaised,
    /// A Go panic and its goroutines.
    Go,
    /// JSON over several lines, up to the bracket at its end.
    Json,
}

impl Joining {
    /// After a record's first line.
    pub(super) fn begin(line: &[u8]) -> Self {
        if line.starts_with(b"Traceback (most recent call last):") {
            Self::Python
        } else if [&b"panic: "[..], b"fatal error: ", b"goroutine "].iter().any(|head| line.starts_with(head))
        {
            Self::Go
        } else if line == b"{" || line == b"[" {
            Self::Json
        } else {
            Self::Plain
        }
    }

    /// What it is after another line, if this line belongs to the record.
    pub(super) fn next(self, line: &[u8]) -> Option<Self> {
        let is_blank = line.trim_ascii().is_empty();
        if !is_blank && matches!(line[0], b' ' | b'\t') {
            return Some(self);
        }
        let starts = |heads: &[&[u8]]| heads.iter().any(|head| line.starts_with(head));
        match self {
            Self::Plain => starts(&[b"Caused by: ", b"Suppressed: ", b"... "]).then_some(Self::Plain),
            Self::Python | Self::PythonRaised
                if starts(&[b"During handling of ", b"The above exception ", b"Traceback "]) =>
            {
                Some(Self::Python)
            }
            Self::Python | Self::PythonRaised if is_blank => Some(self),
            Self::Python => is_exception(line).then_some(Self::PythonRaised),
            Self::PythonRaised => None,
            Self::Go => {
                let is_call = line.ends_with(b")") && line.contains(&b'(') && !line.contains(&b' ');
                let is_go =
                    starts(&[b"goroutine ", b"created by ", b"[signal ", b"panic: ", b"exit status "]);
                (is_blank || is_call || is_go || line.ends_with(b"[recovered]")).then_some(Self::Go)
            }
            Self::Json if line == b"}" || line == b"]" => Some(Self::Plain),
            Self::Json => None,
        }
    }

    /// True if nothing can follow a line that is a record's first: a JSON object.
    pub(super) fn is_whole(line: &[u8]) -> bool {
        line.len() > 2 && line.starts_with(b"{") && line.ends_with(b"}")
    }
}

/// `package.Error: what happened`: the name of a class, alone or before a colon.
fn is_exception(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
    let followed = matches!(line.get(name.len()..), Some([] | [b':'] | [b':', b' ', ..]));
    !name.is_empty() && followed && name.iter().all(is_name)
}
