/// Query parameters whose value is a token, in lower case.
const TOKEN_PARAMETERS: [&str; 6] =
    ["token", "access_token", "id_token", "refresh_token", "bearer", "authorization"];
/// How a JSON Web Token begins: base64 of `{"`.
const JWT: &str = "eyJ";

/// The URI with its tokens replaced; none if it has none.
pub(super) fn redact(uri: &str, replacement: impl Fn(&str) -> String) -> Option<String> {
    if may_hold_token(uri) { redact_thoroughly(uri, replacement) } else { None }
}

fn redact_thoroughly(uri: &str, replacement: impl Fn(&str) -> String) -> Option<String> {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let mut redacted = words(path, &replacement);
    if let Some(query) = query {
        redacted.push('?');
        for parameter in query.split_inclusive(['&', ';']) {
            let (parameter, end) = match parameter.strip_suffix(['&', ';']) {
                Some(bare) => (bare, &parameter[bare.len()..]),
                None => (parameter, ""),
            };
            redacted.push_str(&self::parameter(parameter, &replacement));
            redacted.push_str(end);
        }
    }
    (redacted != uri).then_some(redacted)
}

/// False for nearly all URIs, which then need not be taken apart. Names of parameters that tell of tokens may be written
/// with percent escapes; in values, such as selectors, these words and escapes mean nothing.
fn may_hold_token(uri: &str) -> bool {
    let mut look = Look { uri, in_query: false, in_name: false, looked_to: 0 };
    for (at, byte) in uri.bytes().enumerate() {
        if IS_TELLING[usize::from(byte)] && look.at(at, byte) {
            return true;
        }
    }
    false
}

/// How far a URI was looked at.
struct Look<'a> {
    uri: &'a str,
    in_query: bool,
    in_name: bool,
    /// Of each word only the first place is looked at, which decides for the others, too.
    looked_to: usize,
}

impl Look<'_> {
    /// Whether a token may stand at a byte that is telling.
    fn at(&mut self, at: usize, byte: u8) -> bool {
        match byte {
            b'?' if !self.in_query => (self.in_query, self.in_name) = (true, true),
            b'&' | b';' => self.in_name = self.in_query,
            b'=' => self.in_name = false,
            b'J' if at >= self.looked_to => return self.begins_jwt(at),
            b'b' | b'B' => return self.is_within(at, b"bearer", 0),
            b'k' | b'K' => return self.in_name && self.is_within(at, b"token", 2),
            b'z' | b'Z' => return self.in_name && self.is_within(at, b"authorization", 7),
            b'%' => return self.in_name,
            _ => {}
        }
        false
    }

    fn begins_jwt(&mut self, at: usize) -> bool {
        let from = at.checked_sub(JWT.len() - 1).and_then(|start| self.uri.get(start..));
        from.filter(|text| text.starts_with(JWT)).is_some_and(|text| {
            let word = word(text);
            self.looked_to = at + word.len();
            is_jwt(word)
        })
    }

    /// Whether `word` stands there, so many bytes of it before.
    fn is_within(&self, at: usize, word: &[u8], before: usize) -> bool {
        let there =
            at.checked_sub(before).and_then(|start| self.uri.as_bytes().get(start..start + word.len()));
        there.is_some_and(|there| there.eq_ignore_ascii_case(word))
    }
}

/// The bytes that have to be looked at to tell whether a URI may hold a token: what divides it, and of each word that
/// introduces one the letter that is rarest in other words.
const IS_TELLING: [bool; 256] = {
    let mut is_telling = [false; 256];
    let mut bytes: &[u8] = b"?&;=%JbBkKzZ";
    while let [byte, rest @ ..] = bytes {
        is_telling[*byte as usize] = true;
        bytes = rest;
    }
    is_telling
};

fn parameter(parameter: &str, replacement: &impl Fn(&str) -> String) -> String {
    match parameter.split_once('=') {
        Some((name, value)) if is_token_name(name) && !value.is_empty() => {
            if super::is_replacement(value) {
                return parameter.to_owned();
            }
            format!("{name}={}", replacement(value))
        }
        _ => words(parameter, replacement),
    }
}

fn is_token_name(name: &str) -> bool {
    let name = percent_decoded(name).to_ascii_lowercase();
    TOKEN_PARAMETERS.contains(&name.as_str())
}

/// Whether a word that begins as a JSON Web Token goes on as one. Where a list is to be continued is written much the
/// same, but without dots.
fn is_jwt(word: &str) -> bool {
    word.bytes().filter(|byte| *byte == b'.').count() >= 2
}

/// The word that a text begins with.
fn word(text: &str) -> &str {
    text.split(|character| !is_part(character)).next().unwrap_or_default()
}

/// Whether a character is part of a word.
fn is_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '~' | ':')
}

/// Replaces JSON Web Tokens, and what follows the word `Bearer`.
fn words(text: &str, replacement: &impl Fn(&str) -> String) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_bearer = false;
    while let Some(first) = rest.chars().next() {
        if !is_part(first) {
            let (separator, tail) = separator(rest, first);
            redacted.push_str(separator);
            rest = tail;
            continue;
        }
        let word = word(rest);
        let tail = &rest[word.len()..];
        let holds_jwt = word.find(JWT).is_some_and(|at| is_jwt(&word[at..]));
        if (holds_jwt || after_bearer) && !super::is_replacement(word) {
            redacted.push_str(&replacement(word));
        } else {
            redacted.push_str(word);
        }
        after_bearer = word.eq_ignore_ascii_case("bearer") && !tail.starts_with('/');
        rest = tail;
    }
    redacted
}

/// Splits off one character that is not part of a word, a percent escape counting as one.
fn separator(text: &str, first: char) -> (&str, &str) {
    let digits = text.as_bytes().get(1..3).unwrap_or_default();
    let escaped = first == '%' && digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
    text.split_at(if escaped { 3 } else { first.len_utf8() })
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).and_then(|digits| str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) if *byte == b'%' => {
                decoded.push(escaped);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_may_hold_a_token_is_taken_apart() {
        for (uri, expect) in [
            ("/api/v1/pods?limit=500&watch=true&resourceVersion=1", false),
            ("/api/v1/namespaces/token/pods?timeout=5s", false),
            ("/x?fieldSelector=a%3Db&labelSelector=c%3Dd", false),
            ("/x?a=%3D&%74oken=a", true),
            ("/x?a;%74oken=a", true),
            ("/x?a=b?%74oken=a", false),
            ("/x?ID_Token=a", true),
            ("/x?%74oken=a", true),
            ("/x?a=1;Authorization=b", true),
            ("/x?authorizing=b&tok=k", false),
            ("/x?labelSelector=token%3Da&fieldSelector=authorization", false),
            ("/z/k?k=z", false),
            ("/x/BEARER/y", true),
            ("/x/eyJa.b.c", true),
        ] {
            assert_eq!(may_hold_token(uri), expect, "{uri}");
            assert!(expect || redact(uri, |_| "redacted".to_owned()).is_none(), "{uri}");
        }
    }

    #[test]
    fn what_was_redacted_stays_as_it_is() {
        let replacement = |_: &str| "redacted:0123456789abcdef".to_owned();
        for uri in [
            "/x/Bearer%eyJhbGciOi.J9.x",
            "/x/Bearer%20eyJhbGciOi.J9.x?token=a",
            "/x/Bearer%ab%zzsecret",
            "/x?access_token=a;token=b&c=eyJ.a.b",
        ] {
            let once = redact(uri, replacement).unwrap();
            assert_eq!(redact(&once, replacement), None, "{uri} became {once}");
        }
    }

    #[test]
    fn a_long_word_is_looked_at_once() {
        let uri = "eyJ".repeat(1 << 20);
        assert!(!may_hold_token(&uri) && may_hold_token(&format!("{uri}..")));
    }

    proptest! {
        /// The quick look misses nothing.
        #[test]
        fn what_is_not_taken_apart_holds_no_token(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "eyJ", "ey", "J", "a.b.c", ".", "é", "…", "😀", "?", "&", ";", "=", "%", "%6B", "%65yJ", "/", " ",
                    "Bearer", "bEARER", "token", "toKen", "id_token", "to%6ben", "authorization", "z", "k", "x",
                ]),
                0..12,
            ),
        ) {
            let (uri, replacement) = (parts.concat(), |_: &str| "redacted".to_owned());
            prop_assert_eq!(redact(&uri, replacement), redact_thoroughly(&uri, replacement), "{}", uri);
        }
    }
}
