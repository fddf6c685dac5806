//! `key=value key="quoted value" …`, as many Go programs write it.

use std::borrow::Cow;

use super::super::draft::{Draft, MemberValue};
use super::json::say_common;
use super::scan::Cursor;

/// More pairs than any program writes; what follows stays in the message only.
const MAX_PAIRS: usize = 256;
const MAX_KEY_BYTES: usize = 128;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) -> Option<()> {
    key(&mut Cursor(line))?;
    let (mut rest, mut found, mut words) = (Cursor(line), 0, 0);
    // the beginning shows what it is; a sentence that has an equals sign somewhere is none
    while found < 3 && !rest.0.is_empty() {
        match pair(&mut rest) {
            Some(_) => found += 1,
            None => {
                rest.word();
                words += 1;
            }
        }
    }
    if found < 2 || words > 1 {
        return None;
    }
    draft.dataset = "logfmt";
    pairs(line, draft);
    Some(())
}

/// Takes over all pairs; words in between are passed over.
pub(super) fn pairs<'a>(text: &'a str, draft: &mut Draft<'a>) {
    let (mut rest, mut found) = (Cursor(text), 0);
    while found < MAX_PAIRS && !rest.0.is_empty() {
        let Some((key, value)) = pair(&mut rest) else {
            let _ = rest.word();
            continue;
        };
        found += 1;
        say_common(key, value.clone(), draft);
        draft.member(key, MemberValue::Text(value));
    }
}

fn pair<'a>(rest: &mut Cursor<'a>) -> Option<(&'a str, Cow<'a, str>)> {
    let mut ahead = *rest;
    let key = key(&mut ahead)?;
    let value = match ahead.0.starts_with('"') {
        true => unquoted(ahead.quoted()?),
        false => {
            let value = ahead.0.split(' ').next().unwrap_or_default();
            ahead.0 = ahead.0[value.len()..].trim_start_matches(' ');
            Cow::Borrowed(value)
        }
    };
    *rest = ahead;
    Some((key, value))
}

/// A key and the equals sign.
fn key<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/' | b'@');
    let end = rest.0.bytes().take(MAX_KEY_BYTES + 1).position(|byte| !is_part(byte))?;
    let (key, after) = rest.0.split_at(end);
    rest.0 = after.strip_prefix('=')?;
    (end > 0 && !key.starts_with(['.', '-', '/'])).then_some(key)
}

/// Resolves the escapes of Go's `%q`, the usual ones.
fn unquoted(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(escaped @ ('"' | '\\')) => escaped,
                other => {
                    plain.push('\\');
                    plain.extend(other);
                    continue;
                }
            },
            character => character,
        });
    }
    Cow::Owned(plain)
}
