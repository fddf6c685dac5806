//! What a line is, and what it says. Each format has a reader that gives up without a trace at a line that is not
//! of its format; the first bytes of a line tell which readers are worth trying.

mod access;
mod auth;
mod envoy;
pub(super) mod json;
mod klog;
mod logfmt;
mod nginx_error;
mod plain;
mod scan;
pub(super) mod syslog;

use super::draft::Draft;
use super::{Field, LineFormat};

/// Reads a line that is not JSON. `format` is what it is said to be.
pub(super) fn read<'a>(line: &'a str, format: Option<LineFormat>, draft: &mut Draft<'a>) {
    let recognised = match format {
        Some(format) => read_as(format, line, draft),
        // its lines say nothing of who wrote them
        None if draft.fact(Field::ProcessName) == Some(&"sudo".into()) => auth::sudo(line, draft),
        None => recognise(line, draft),
    };
    if recognised.is_none() {
        plain::read(line, draft);
    }
}

fn read_as<'a>(format: LineFormat, line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    match format {
        LineFormat::Json | LineFormat::Text => None,
        LineFormat::Logfmt => logfmt::read(line, draft),
        LineFormat::Klog => klog::read(line, draft),
        LineFormat::Access => access::read(line, draft),
        LineFormat::Envoy => envoy::read(line, draft),
        LineFormat::Auth => syslog::read(line, draft).or_else(|| auth::read(line, draft)),
    }
}

fn recognise<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    let [first, second, ..] = line.as_bytes() else { return None };
    match first {
        b'[' => envoy::read(line, draft),
        b'I' | b'W' | b'E' | b'F' if second.is_ascii_digit() => klog::read(line, draft),
        b'<' => syslog::read(line, draft),
        b'0'..=b'9' | b':' => access::read(line, draft)
            .or_else(|| nginx_error::read(line, draft))
            .or_else(|| syslog::read(line, draft)),
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' => syslog::read(line, draft)
            .or_else(|| auth::read(line, draft))
            .or_else(|| logfmt::read(line, draft))
            .or_else(|| access::read(line, draft)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
