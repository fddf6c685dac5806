use std::borrow::Cow;

/// Longest word that is kept as a level.
const MAX_BYTES: usize = 32;

/// A level in one spelling: trace, debug, info, notice, warning, error, critical, fatal, alert, emergency. Another
/// word stays, in lower case; what is no word is none.
pub(super) fn normal(word: &str) -> Option<Cow<'static, str>> {
    if let Some(level) = known(word) {
        return Some(Cow::Borrowed(level));
    }
    if word.len() > MAX_BYTES || !word.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    Some(Cow::Owned(word.to_lowercase()))
}

/// The level a word names.
pub(super) fn known(word: &str) -> Option<&'static str> {
    let mut lower = [0; 11];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"trc" | b"finest" | b"finer" => "trace",
        b"debug" | b"dbg" | b"fine" => "debug",
        b"info" | b"inf" | b"information" | b"i" => "info",
        b"notice" => "notice",
        b"warn" | b"warning" | b"wrn" | b"w" => "warning",
        b"error" | b"err" | b"e" | b"severe" => "error",
        b"critical" | b"crit" => "critical",
        b"fatal" | b"f" | b"panic" | b"dpanic" => "fatal",
        b"alert" => "alert",
        b"emerg" | b"emergency" => "emergency",
        _ => return None,
    })
}

/// The level that pino and bunyan write as a number.
pub(super) fn of_number(number: &str) -> Option<&'static str> {
    Some(match number {
        "10" => "trace",
        "20" => "debug",
        "30" => "info",
        "40" => "warning",
        "50" => "error",
        "60" => "fatal",
        _ => return None,
    })
}

/// The level of a syslog severity.
#[must_use]
pub fn of_syslog_severity(severity: u8) -> &'static str {
    match severity {
        0 => "emergency",
        1 => "alert",
        2 => "critical",
        3 => "error",
        4 => "warning",
        5 => "notice",
        6 => "info",
        _ => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_one_spelling() {
        for (word, expect) in [
            ("WARN", Some("warning")),
            ("Information", Some("info")),
            ("E", Some("error")),
            ("panic", Some("fatal")),
            ("Verbose", Some("verbose")),
            ("7", None),
            ("", None),
            ("a very long word that is no level at all", None),
        ] {
            assert_eq!(normal(word).as_deref(), expect, "{word}");
        }
    }
}
