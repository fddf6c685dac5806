//! Text that came from events, made safe for where it is shown.

use watchbell_event::Timestamp;

/// One line without control characters, line separators and characters that reverse the reading direction,
/// at most `max` bytes long; what was cut ends in an ellipsis.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for character in text.trim().chars() {
        let character = if hidden(character) { ' ' } else { character };
        if character == ' ' && line.ends_with(' ') {
            continue;
        }
        if line.len() + character.len_utf8() > max {
            return cut(line, max);
        }
        line.push(character);
    }
    line.truncate(line.trim_end().len());
    line
}

fn cut(mut line: String, max: usize) -> String {
    line.truncate(line.floor_char_boundary(max.saturating_sub('…'.len_utf8())));
    line.truncate(line.trim_end().len());
    if max >= '…'.len_utf8() {
        line.push('…');
    }
    line
}

fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text inside of HTML elements and quoted attributes.
pub(super) fn html(text: &str) -> String {
    escape(text, |character| match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    })
}

/// Text inside of Slack's mrkdwn: without `<` there are no links and no mentions.
pub(super) fn slack(text: &str) -> String {
    escape(text, |character| match character {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    })
}

fn escape(text: &str, entity: impl Fn(char) -> Option<&'static str>) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match entity(character) {
            Some(entity) => escaped.push_str(entity),
            None => escaped.push(character),
        }
    }
    escaped
}

/// A time for people: `2026-01-31 08:15:00 UTC`.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{} UTC", seconds.replace('T', " ")),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_one_line_within_its_limit() {
        for (text, max, expect) in [
            ("a\r\nBcc: x@y", 50, "a Bcc: x@y"),
            ("a\u{0}\u{1b}[31mb", 50, "a [31mb"),
            ("a\u{2028}b\u{202e}c", 50, "a b c"),
            ("  a   b  ", 50, "a b"),
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc…"),
            ("ééé", 5, "é…"),
            ("abc", 2, ""),
            ("", 0, ""),
        ] {
            let line = one_line(text, max);
            assert_eq!(line, expect, "{text:?}");
            assert!(line.len() <= max);
        }
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(html("<b a='1' c=\"2\">&"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;");
        assert_eq!(slack("<!channel> & <http://x|y>"), "&lt;!channel&gt; &amp; &lt;http://x|y&gt;");
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(time("2026-01-31T08:15:00.5Z".parse().unwrap()), "2026-01-31 08:15:00 UTC");
    }
}
