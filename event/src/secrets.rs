//! Secrets that programs print: found by their form or by the name before them, and left out of what is sent on.
//!
//! Log lines are stored as they are, because whoever investigates a leak needs to see it. Alerts go to chats and
//! mailboxes, where a secret would leak once more.

use std::borrow::Cow;
use std::ops::Range;

/// Stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Names whose values are secrets, in lower case; also as part of longer names.
const NAMES: [&str; 14] = [
    "access_key",
    "accesskey",
    "api-key",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "pwd",
    "secret",
    "token",
];
/// What tokens of well-known services begin with, and how long they are at least behind it.
const PREFIXES: [(&str, usize); 15] = [
    ("AIza", 30),
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("ghu_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("hvs.", 20),
    ("sk_live_", 16),
    ("whsec_", 16),
    ("xoxa-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
];
/// How far behind a name its value may begin.
const MAX_GAP: usize = 24;

/// The text with [`REDACTED`] in the place of every secret that is recognised.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut found = Vec::new();
    named(text, &mut found);
    schemes(text, &mut found);
    private_keys(text, &mut found);
    web_tokens(text, &mut found);
    prefixed(text, &mut found);
    addresses(text, &mut found);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.start >= done {
            redacted.push_str(&text[done..range.start]);
            redacted.push_str(REDACTED);
        }
        done = done.max(range.end);
    }
    redacted.push_str(&text[done..]);
    Cow::Owned(redacted)
}

/// `password=…`, `"token": "…"`, `API_KEY: …`
fn named(text: &str, found: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    // ASCII of at most one character more than there may be
    let few = |start: usize, is_so: fn(&u8) -> bool| {
        text.as_bytes()[start..].iter().take(MAX_GAP + 1).take_while(|byte| is_so(byte)).count()
    };
    for name in NAMES {
        let mut looked_to = 0;
        for (at, _) in lower.match_indices(name) {
            let mut start = at + name.len();
            start += few(start, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
            start += few(start, |byte| matches!(byte, b'"' | b'\'' | b'\\' | b' '));
            if start - at > name.len() + MAX_GAP || !text[start..].starts_with(['=', ':']) {
                continue;
            }
            start += 1 + count(&text[start + 1..], |byte| matches!(byte, b'"' | b'\'' | b'\\' | b' '));
            if start >= looked_to && !text[start..].starts_with(REDACTED) {
                looked_to = start + count(&text[start..], is_value);
                push(text, start, looked_to - start, found);
            }
        }
    }
}

/// `Bearer …` and `Basic …`
fn schemes(text: &str, found: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for scheme in ["bearer ", "basic "] {
        for (at, _) in lower.match_indices(scheme) {
            let start = at + scheme.len();
            let length = count(&text[start..], is_value);
            if length >= 8 {
                push(text, start, length, found);
            }
        }
    }
}

fn private_keys(text: &str, found: &mut Vec<Range<usize>>) {
    let mut looked_to = 0;
    for (at, begin) in text.match_indices("-----BEGIN ") {
        // one that only shares the dashes behind the key before it begins another
        if at + begin.len() <= looked_to {
            continue;
        }
        let (head, rest) = text[at..].split_at(first_line_end(&text[at..]));
        if head.contains("PRIVATE KEY") {
            let end =
                rest.find("-----END ").and_then(|end| Some(end + 9 + rest[end + 9..].find("-----")? + 5));
            looked_to = end.map_or(text.len(), |end| at + head.len() + end);
            found.push(at..looked_to);
        }
    }
}

/// Where the line ends that begins with dashes.
fn first_line_end(text: &str) -> usize {
    let end = text[5..].find("-----").map_or(text.len(), |end| end + 10);
    end.min(text.floor_char_boundary(64))
}

/// `eyJ….….…`
fn web_tokens(text: &str, found: &mut Vec<Range<usize>>) {
    // what begins within a word that was looked at ends where that ends
    let mut looked_to = 0;
    for (at, _) in text.match_indices("eyJ") {
        if at < looked_to {
            continue;
        }
        let length = count(&text[at..], |byte| is_token(byte) || byte == b'.');
        looked_to = at + length;
        if length > 20 && text[at..at + length].matches('.').count() >= 2 {
            found.push(at..at + length);
        }
    }
}

fn prefixed(text: &str, found: &mut Vec<Range<usize>>) {
    for (prefix, least) in PREFIXES {
        let mut looked_to = 0;
        for (at, _) in text.match_indices(prefix) {
            if at + prefix.len() <= looked_to {
                continue;
            }
            let length = count(&text[at + prefix.len()..], is_token);
            looked_to = at + prefix.len() + length;
            if length >= least {
                found.push(at..at + prefix.len() + length);
            }
        }
    }
}

/// The password in `scheme://user:password@host`.
fn addresses(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices("://") {
        let rest = &text[at + 3..];
        let authority =
            &rest[..count(rest, |byte| !matches!(byte, b'/' | b' ' | b'"' | b'\'' | b'?' | b'#'))];
        let Some((user, _)) = authority.rsplit_once('@') else { continue };
        if let Some((name, password)) = user.split_once(':') {
            push(text, at + 3 + name.len() + 1, password.len(), found);
        }
    }
}

fn push(text: &str, start: usize, length: usize, found: &mut Vec<Range<usize>>) {
    if length > 0 && !text[start..].starts_with(REDACTED) {
        found.push(start..start + length);
    }
}

/// How many bytes at the start are so. Bytes of longer characters always are, or never.
fn count(text: &str, is_so: impl Fn(u8) -> bool) -> usize {
    let length = text.bytes().take_while(|byte| is_so(*byte)).count();
    text.floor_char_boundary(length)
}

fn is_value(byte: u8) -> bool {
    !matches!(byte, b' ' | b'"' | b'\'' | b',' | b';' | b'&' | b'\\' | b'}' | b')' | b'\n' | b'\t')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_looked_at_once() {
        for part in [
            "eyJ",
            "ghp_",
            "AKIA",
            "-----BEGIN PRIVATE KEY-----",
            "password=",
            "password",
            "Bearer ",
            "://a:",
        ] {
            let text = part.repeat((1 << 20) / part.len());
            assert!(redact(&text).len() <= 2 * text.len(), "{part}");
        }
        let key = "-----BEGIN PRIVATE KEY-----hush-----END PRIVATE KEY-----";
        assert!(!redact(&format!("{key}{}", &key[5..])).contains("hush"));
    }

    #[test]
    fn secrets_are_left_out_and_nothing_else() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
        for (text, expect) in [
            ("password=hunter2 user=bob", "password=[redacted] user=bob".to_owned()),
            (r#"{"db_password": "a\"b", "x":1}"#, r#"{"db_password": "[redacted]\"b", "x":1}"#.to_owned()),
            ("AWS_SECRET_ACCESS_KEY: abc/def+1", "AWS_SECRET_ACCESS_KEY: [redacted]".to_owned()),
            ("key AKIAABCDEFGHIJKLMNOP used", "key [redacted] used".to_owned()),
            ("Authorization: Bearer abcdef123456", "Authorization: [redacted] [redacted]".to_owned()),
            (&format!("got {jwt} é"), "got [redacted] é".to_owned()),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- x",
                "[redacted] x".to_owned(),
            ),
            ("-----BEGIN PRIVATE KEY-----MII", "[redacted]".to_owned()),
            ("postgres://app:hunter2@db:5432/x", "postgres://app:[redacted]@db:5432/x".to_owned()),
            ("xoxb-1234567890-abcdefghij", "[redacted]".to_owned()),
        ] {
            assert_eq!(redact(text), expect, "{text}");
        }
        for text in [
            "Failed password for root from 10.0.0.9 port 22 ssh2",
            "the token expired; secrets listed in kube-system",
            "-----BEGIN CERTIFICATE-----MII-----END CERTIFICATE-----",
            "basic auth, bearer of news",
            "https://example.com/a@b",
            "eyJ is how they begin",
            "AKIA",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(password|eyJ|-----BEGIN |PRIVATE KEY|AKIA|://|[-:=@. \"é\\\\a-z]){0,24}") {
            let _ = redact(&text);
        }
    }
}
