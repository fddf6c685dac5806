//! The modifiers that rewrite a value before it is compared: `windash`, `wide` and its kin, `base64` and
//! `base64offset`, in the order in which the rule writes them.

use crate::pattern::{self, Piece};

/// Most texts that `windash` makes of one value: five dashes, each in five forms.
pub(crate) const MAX_DASH_FORMS: usize = 5 * 5 * 5 * 5 * 5;

/// Most text that one value may become, in bytes.
pub(crate) const MAX_ENCODED_BYTES: usize = 16 << 20;

const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

const BYTE_ORDER_MARK: [u8; 2] = [0xff, 0xfe];

/// How a value is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Each dash before a word stands for every dash that command lines know.
    Dashes,
    /// UTF-16, low byte first.
    Utf16LittleEndian,
    /// UTF-16, high byte first.
    Utf16BigEndian,
    /// UTF-16, low byte first, behind a byte order mark.
    Utf16Marked,
    /// Base64 of the whole value.
    Base64,
    /// What every Base64 contains whose text contains the value, at each of the three offsets.
    Base64Offset,
}

/// A part of a value that is being rewritten.
#[derive(Clone)]
enum Part {
    Bytes(Vec<u8>),
    Wildcard(Piece),
}

impl Encoding {
    /// By the name of its modifier.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "windash" => Self::Dashes,
            "wide" | "utf16le" => Self::Utf16LittleEndian,
            "utf16be" => Self::Utf16BigEndian,
            "utf16" => Self::Utf16Marked,
            "base64" => Self::Base64,
            "base64offset" => Self::Base64Offset,
            _ => return None,
        })
    }
}

/// The texts that a value stands for, any of which may match.
///
/// # Errors
/// Why the value cannot be encoded so.
pub(super) fn texts(encodings: &[Encoding], text: &str, wildcards: bool) -> Result<Vec<Vec<Piece>>, String> {
    let pieces = if wildcards { pattern::parse(text) } else { vec![Piece::Literal(text.to_owned())] };
    if encodings.is_empty() {
        return Ok(vec![pieces]);
    }
    let part = |piece| match piece {
        Piece::Literal(text) => Part::Bytes(text.into_bytes()),
        wildcard => Part::Wildcard(wildcard),
    };
    let mut values: Vec<Vec<Part>> = vec![pieces.into_iter().map(part).collect()];
    for encoding in encodings {
        let mut encoded = Vec::new();
        for value in values {
            encoded.extend(encode(*encoding, value)?);
        }
        values = encoded;
        let parts = values.iter().flatten();
        let bytes: usize =
            parts.map(|part| if let Part::Bytes(bytes) = part { bytes.len() } else { 0 }).sum();
        if bytes > MAX_ENCODED_BYTES {
            return Err(format!("a value comes to more than {MAX_ENCODED_BYTES} bytes of text"));
        }
    }
    values.into_iter().map(|parts| parts.into_iter().map(piece).collect()).collect()
}

fn piece(part: Part) -> Result<Piece, String> {
    let bytes = match part {
        Part::Bytes(bytes) => bytes,
        Part::Wildcard(wildcard) => return Ok(wildcard),
    };
    // A text of UTF-16 that was read as UTF-8 shows its mark as one character.
    let (mark, bytes) = match bytes.strip_prefix(&BYTE_ORDER_MARK) {
        Some(rest) => ("\u{feff}", rest),
        None => ("", &*bytes),
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Piece::Literal(format!("{mark}{text}"))),
        Err(_) => Err("as UTF-16 the value is no text; encode it as Base64, or use ASCII".to_owned()),
    }
}

fn encode(encoding: Encoding, value: Vec<Part>) -> Result<Vec<Vec<Part>>, String> {
    match encoding {
        Encoding::Dashes => dash_forms(value),
        Encoding::Utf16LittleEndian => Ok(vec![utf16(value, u16::to_le_bytes)?]),
        Encoding::Utf16BigEndian => Ok(vec![utf16(value, u16::to_be_bytes)?]),
        Encoding::Utf16Marked => {
            let mut marked = utf16(value, u16::to_le_bytes)?;
            match marked.first_mut() {
                Some(Part::Bytes(bytes)) => drop(bytes.splice(0..0, BYTE_ORDER_MARK)),
                _ => marked.insert(0, Part::Bytes(BYTE_ORDER_MARK.to_vec())),
            }
            Ok(vec![marked])
        }
        Encoding::Base64 => Ok(vec![vec![Part::Bytes(base64(&plain(value)?).into_bytes())]]),
        Encoding::Base64Offset => {
            let bytes = plain(value)?;
            (0..3).map(|offset| Ok(vec![Part::Bytes(base64_at(offset, &bytes)?.into_bytes())])).collect()
        }
    }
}

fn utf16(value: Vec<Part>, bytes_of: fn(u16) -> [u8; 2]) -> Result<Vec<Part>, String> {
    let encode = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => Ok(text.encode_utf16().flat_map(bytes_of).collect()),
        Err(_) => Err("what is UTF-16 already cannot become UTF-16 once more".to_owned()),
    };
    let encode = |part| match part {
        Part::Bytes(bytes) => encode(bytes).map(Part::Bytes),
        wildcard @ Part::Wildcard(_) => Ok(wildcard),
    };
    value.into_iter().map(encode).collect()
}

/// The bytes of a value without wildcards.
fn plain(value: Vec<Part>) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    for part in value {
        match part {
            Part::Bytes(bytes) => plain.extend(bytes),
            Part::Wildcard(_) => return Err("a value with wildcards cannot be encoded as Base64".to_owned()),
        }
    }
    Ok(plain)
}

/// The characters that do not depend on what stands before and behind the value.
fn base64_at(offset: usize, bytes: &[u8]) -> Result<String, String> {
    let encoded = base64(&[&b"  "[..offset], bytes].concat());
    let start = [0, 2, 3].get(offset).copied().unwrap_or_default();
    let cut = [0, 3, 2].get((bytes.len() + offset) % 3).copied().unwrap_or_default();
    match encoded.get(start..encoded.len().saturating_sub(cut)) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("the value is too short for \"base64offset\", which would find it everywhere".to_owned()),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for sextet in 0..4 {
            let value = (bits >> (18 - 6 * sextet) & 63) as usize;
            encoded.push(if sextet <= chunk.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    encoded
}

/// All combinations of dashes for those that stand before a word and not within one.
fn dash_forms(value: Vec<Part>) -> Result<Vec<Vec<Part>>, String> {
    let mut forms: Vec<Vec<Part>> = vec![Vec::new()];
    for part in value {
        let texts = match &part {
            Part::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => dash_forms_of_text(text)?,
                Err(_) => return Err("modifier \"windash\" must stand before encodings".to_owned()),
            },
            Part::Wildcard(_) => {
                forms.iter_mut().for_each(|form| form.push(part.clone()));
                continue;
            }
        };
        check_dash_forms(forms.len() * texts.len())?;
        let combine = |form: &Vec<Part>, text: &String| {
            let mut form = form.clone();
            form.push(Part::Bytes(text.clone().into_bytes()));
            form
        };
        forms = forms.iter().flat_map(|form| texts.iter().map(move |text| combine(form, text))).collect();
    }
    Ok(forms)
}

fn dash_forms_of_text(text: &str) -> Result<Vec<String>, String> {
    let is_word = |character: &char| character.is_alphanumeric() || *character == '_';
    let mut forms = vec![String::new()];
    let mut before = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let stands_alone = !before.as_ref().is_some_and(is_word) && characters.peek().is_some_and(is_word);
        if DASHES.contains(&character) && stands_alone {
            check_dash_forms(forms.len() * DASHES.len())?;
            forms = forms.iter().flat_map(|form| DASHES.map(|dash| format!("{form}{dash}"))).collect();
        } else {
            forms.iter_mut().for_each(|form| form.push(character));
        }
        before = Some(character);
    }
    Ok(forms)
}

fn check_dash_forms(count: usize) -> Result<(), String> {
    match count > MAX_DASH_FORMS {
        true => Err(format!("\"windash\" makes more than {MAX_DASH_FORMS} texts of one value")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(modifiers: &str, text: &str) -> Result<Vec<String>, String> {
        let encodings: Vec<_> = modifiers.split('|').map(|name| Encoding::by_name(name).unwrap()).collect();
        let shown = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::AnyText => "<any>".to_owned(),
            Piece::OneCharacter => "<one>".to_owned(),
        };
        let texts = texts(&encodings, text, true)?;
        Ok(texts.iter().map(|pieces| pieces.iter().map(shown).collect()).collect())
    }

    #[test]
    fn values_are_encoded_in_the_order_of_the_modifiers() {
        for (modifiers, text, expect) in [
            ("base64", "foobar", &["Zm9vYmFy"][..]),
            ("base64", "fooba", &["Zm9vYmE="]),
            ("base64", "foob", &["Zm9vYg=="]),
            ("base64", r"a\*", &["YSo="]),
            ("base64offset", "foobar", &["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]),
            ("base64offset", "foob", &["Zm9vY", "Zvb2", "mb29i"]),
            ("base64offset", "fooba", &["Zm9vYm", "Zvb2Jh", "mb29iY"]),
            ("wide", "ab*", &["a\0b\0<any>"]),
            ("utf16le", "ab", &["a\0b\0"]),
            ("utf16be", "a?b", &["\0a<one>\0b"]),
            ("utf16", "ab", &["\u{feff}a\0b\0"]),
            ("utf16|base64", "cmd", &["//5jAG0AZAA="]),
            ("wide|base64", "é", &["6QA="]),
            ("wide|base64offset", "ping", &["cABpAG4AZw", "AAaQBuAGcA", "wAGkAbgBnA"]),
            ("windash", "-a", &["-a", "/a", "–a", "—a", "―a"]),
            ("windash", "a-b - -", &["a-b - -"]),
            ("windash|base64", "-a", &["LWE=", "L2E=", "4oCTYQ==", "4oCUYQ==", "4oCVYQ=="]),
        ] {
            let found = encoded(modifiers, text).unwrap();
            assert_eq!(found, expect, "{modifiers} of {text}");
        }
        let forms = encoded("windash", "* -param-name /x").unwrap();
        assert_eq!(forms.len(), 25);
        assert!(forms.contains(&"<any> /param-name –x".to_owned()), "{forms:?}");
    }

    #[test]
    fn what_cannot_be_encoded_is_refused() {
        for (modifiers, text, reason) in [
            ("base64", "a*", "wildcards"),
            ("base64offset", "a?", "wildcards"),
            ("base64offset", "a", "too short"),
            ("wide", "é", "no text"),
            ("wide|wide", "é", "once more"),
            ("windash", "-a -b -c -d -e -f", "more than 3125"),
        ] {
            let found = encoded(modifiers, text).unwrap_err();
            assert!(found.contains(reason), "{modifiers} of {text}: {found}");
        }
    }

    proptest::proptest! {
        /// Wherever the value stands in a longer text, one of the three forms stands in its Base64.
        #[test]
        fn base64offset_finds_the_value_at_any_place(
            before in proptest::collection::vec(0u8.., 0..7),
            value in "[a-z]{2,9}",
            after in proptest::collection::vec(0u8.., 0..7),
        ) {
            let whole = base64(&[&before, value.as_bytes(), &after].concat());
            let forms = encoded("base64offset", &value).unwrap();
            proptest::prop_assert!(whole.contains(&forms[before.len() % 3]), "{forms:?} in {whole}");
        }
    }
}
