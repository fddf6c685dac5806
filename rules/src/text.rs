//! How values are turned into comparable text: case folding, and one canonical text per number.

use std::borrow::Cow;

/// Folds one character: its lowercase, where that is a single character. One to one, so that `?` and the
/// lengths of patterns mean the same before and after.
pub(crate) fn fold_char(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(folded), None) => folded,
        _ => character,
    }
}

/// Folds text into a new string.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    fold_into(text, &mut folded);
    folded
}

/// Folds text into `folded`, whose former content is dropped.
pub(crate) fn fold_into(text: &str, folded: &mut String) {
    folded.clear();
    if text.is_ascii() {
        folded.push_str(text);
        folded.make_ascii_lowercase();
    } else {
        folded.extend(text.chars().map(fold_char));
    }
}

/// The folded text, which is nearly always the text itself. `buffer` is used if it is not.
pub(crate) fn folded<'a>(text: &'a str, buffer: &'a mut String) -> &'a str {
    // Without an early exit, which would keep the loop from looking at many bytes at once.
    let differs =
        text.bytes().fold(false, |differs, byte| differs | !byte.is_ascii() | byte.is_ascii_uppercase());
    if !differs {
        return text;
    }
    fold_into(text, buffer);
    buffer
}

/// The canonical text of a number as JSON writes it: `403`, `403.0` and `4.03e2` are all `403`.
pub(crate) fn number_text(written: &str) -> Cow<'_, str> {
    if is_plain_integer(written) {
        return Cow::Borrowed(written);
    }
    if let Ok(integer) = written.parse::<i64>() {
        return Cow::Owned(integer.to_string());
    }
    if let Ok(integer) = written.parse::<u64>() {
        return Cow::Owned(integer.to_string());
    }
    match written.parse::<f64>() {
        Ok(number) if number.is_finite() => Cow::Owned(float_text(number)),
        _ => Cow::Borrowed(written),
    }
}

/// The canonical text of a finite number.
pub(crate) fn float_text(number: f64) -> String {
    // Adding zero turns -0 into 0.
    format!("{}", number + 0.0)
}

/// Digits without a sign, a leading zero or a chance to overflow: already canonical.
fn is_plain_integer(written: &str) -> bool {
    let digits = written.as_bytes();
    match digits {
        [b'0'] => true,
        [b'1'..=b'9', ..] => digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_text() {
        for (written, canonical) in [
            ("403", "403"),
            ("403.0", "403"),
            ("4.03e2", "403"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("0", "0"),
            ("-17", "-17"),
            ("18446744073709551615", "18446744073709551615"),
            ("1.50", "1.5"),
            ("1e999", "1e999"),
        ] {
            assert_eq!(number_text(written), canonical, "{written}");
        }
    }

    #[test]
    fn folding_keeps_the_number_of_characters() {
        for (text, folded) in [("Straße İ Σς", "straße İ σς"), ("ADMIN", "admin"), ("\u{212a}", "k")]
        {
            assert_eq!(fold(text), folded);
            assert_eq!(fold(text).chars().count(), text.chars().count());
        }
    }
}
