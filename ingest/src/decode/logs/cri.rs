use watchbell_event::Timestamp;

use super::time;

/// One line of a container's log as containerd and CRI-O write it: `TIME stdout|stderr F|P message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CriLine<'a> {
    /// When the runtime read it.
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// True if the message goes on in the stream's next line.
    pub partial: bool,
    /// What the container wrote, without its line break.
    pub message: &'a [u8],
}

impl<'a> CriLine<'a> {
    /// Reads a line without its line break; none if it is not of this form.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (time, rest) = time::leading_bytes(line)?;
        let rest = rest.strip_prefix(b" ")?;
        let (stream, rest) = match rest.strip_prefix(b"stdout ") {
            Some(rest) => ("stdout", rest),
            None => ("stderr", rest.strip_prefix(b"stderr ")?),
        };
        // tags are separated by colons; the first says whether the line is complete
        let (partial, rest) = match rest {
            [b'F', rest @ ..] => (false, rest),
            [b'P', rest @ ..] => (true, rest),
            _ => return None,
        };
        let message = match rest {
            [b' ', message @ ..] => message,
            [b':', tags @ ..] => memchr::memchr(b' ', tags).map_or(&[][..], |space| &tags[space + 1..]),
            [] => &[],
            _ => return None,
        };
        Some(Self { time, stream, partial, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_container_runtime_are_taken_apart() {
        for (line, expect) in [
            ("2026-01-31T08:15:00.123456789Z stdout F hello world", Some(("stdout", false, "hello world"))),
            ("2026-01-31T08:15:00.123456789+01:00 stderr P part", Some(("stderr", true, "part"))),
            ("2026-01-31T08:15:00Z stdout F ", Some(("stdout", false, ""))),
            ("2026-01-31T08:15:00Z stdout F", Some(("stdout", false, ""))),
            ("2026-01-31T08:15:00Z stdout P:x é", Some(("stdout", true, "é"))),
            ("2026-01-31T08:15:00Z stdout Full house", None),
            ("2026-01-31T08:15:00Z stdin F x", None),
            ("hello", None),
            ("", None),
        ] {
            let read = CriLine::parse(line.as_bytes());
            let read = read.map(|line| (line.stream, line.partial, str::from_utf8(line.message).unwrap()));
            assert_eq!(read, expect, "{line}");
        }
    }
}
