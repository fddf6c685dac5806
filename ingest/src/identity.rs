//! The identity of an audit event: a hash of its cluster and its content.
//!
//! The content is brought into one form first, so that how it is written does not matter: the order of
//! keys, white space, escapes in strings, and the spelling of numbers (`1`, `1.0` and `10e-1` are equal).
//! `kind` and `apiVersion` at the top do not count, because items of a list may lack them. A client can
//! choose the Audit-ID, so nothing less than all content would do: a chosen id could hide other events.
//!
//! The hash covers the event after redaction: an unkeyed hash over a secret would allow guesses to be
//! tested, and the replacements tell different secrets apart as well.

use watchbell_event::EventId;

use crate::json::{Kind, Value};

/// Keeps these hashes apart from all others.
const DOMAIN: &[u8] = b"watchbell audit event 2\0";
/// In place of a length that takes more than a byte.
const LONG: u8 = u8::MAX;
/// Most texts are no longer than this, in bytes.
const SHORT: usize = 32;

/// The identity of `event`. `canonical` is memory to be reused.
pub(crate) fn event_id(cluster: &str, event: Value<'_>, canonical: &mut Vec<u8>) -> EventId {
    canonical.clear();
    // kinds and lengths take about as much as the quotes, commas and colons that fall away
    canonical.reserve(DOMAIN.len() + cluster.len() + event.raw().len());
    canonical.extend_from_slice(DOMAIN);
    bytes(b'c', cluster.as_bytes(), canonical);
    for (key, value) in event.sorted_members() {
        if !key.is("kind") && !key.is("apiVersion") {
            text(key, canonical);
            write(value, canonical);
        }
    }
    EventId::from_hash(&blake3::hash(canonical))
}

/// Writes one value so that no two different values have the same bytes: each begins with its kind and,
/// where it has one, its length.
fn write(value: Value<'_>, out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Null => out.push(b'n'),
        Kind::Bool => out.push(if value.raw() == "true" { b't' } else { b'f' }),
        Kind::Number => number(value.raw(), out),
        Kind::Plain | Kind::Escaped => text(value, out),
        Kind::Array => {
            head(b'a', value.count() as usize, out);
            value.elements().for_each(|element| write(element, out));
        }
        Kind::Object => {
            head(b'o', value.count() as usize, out);
            for (key, value) in value.sorted_members() {
                text(key, out);
                write(value, out);
            }
        }
    }
}

fn text(text: Value<'_>, out: &mut Vec<u8>) {
    let Some((len, rest)) = text.plain_and_rest() else {
        return bytes(b's', text.as_text().unwrap_or_default().as_bytes(), out);
    };
    match rest.first_chunk::<SHORT>() {
        // Most texts are short: to copy a fixed number of bytes, and forget those beyond, takes a few instructions.
        Some(chunk) if len <= SHORT => {
            head(b's', len, out);
            let end = out.len() + len;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => bytes(b's', &rest[..len], out),
    }
}

/// The kind and the length of what follows: one byte below 255, nine from there on, because all of it is hashed.
#[inline]
fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(length) if length != LONG => out.extend_from_slice(&[kind, length]),
        _ => {
            out.extend_from_slice(&[kind, LONG]);
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
    }
}

fn bytes(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    head(kind, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Writes a number as its significant digits and a power of ten: 1200, 1.2e3 and 12E2 become `12e2`.
fn number(raw: &str, out: &mut Vec<u8>) {
    match small(raw.as_bytes()) {
        Some((significant, power)) => {
            head(b'd', significant.len() + 2, out);
            out.extend_from_slice(significant);
            out.extend_from_slice(&[b'e', power]);
        }
        None => any_number(raw, out),
    }
}

/// The significant digits and the power of a number of at most ten digits and nothing else, as nearly all are.
fn small(raw: &[u8]) -> Option<(&[u8], u8)> {
    const POWERS: [u8; 10] = *b"0123456789";
    let is_small = raw.len() <= POWERS.len() && raw.iter().all(u8::is_ascii_digit);
    let last = raw.iter().rposition(|digit| *digit != b'0').filter(|_| is_small && raw[0] != b'0')?;
    Some((&raw[..=last], POWERS[raw.len() - 1 - last]))
}

fn any_number(raw: &str, out: &mut Vec<u8>) {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    // an exponent beyond 64 bits is no number anyone means: such spellings count as they are
    let Ok(exponent) = exponent.parse::<i64>() else {
        return bytes(b'd', raw.as_bytes(), out);
    };
    let unsigned = mantissa.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits: String = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    if significant.is_empty() {
        return bytes(b'd', b"0", out);
    }
    let shift = i128::from(exponent) + trailing as i128 - fraction.len() as i128;
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    bytes(b'd', format!("{sign}{significant}e{shift}").as_bytes(), out);
}

#[cfg(test)]
mod tests;
