use std::fmt;

/// Text that never shows: webhook addresses, passwords, signing secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Removes the secret, and its parts of a URL's path and query, from a text that somebody else wrote.
    pub(crate) fn redact(&self, text: &str) -> String {
        let parts = self.0.split(['/', '?', '&', '=', '@', ':']).filter(|part| part.len() >= 8);
        let mut redacted = text.to_owned();
        if self.0.len() >= 4 {
            redacted = redacted.replace(&self.0, "[secret]");
        }
        for part in parts {
            redacted = redacted.replace(part, "[secret]");
        }
        redacted
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_neither_itself_nor_its_parts() {
        let secret = Secret::new("https://hooks.example/services/T000000/B0000000/abcdefghijkl");
        assert_eq!(format!("{secret:?}"), "Secret");
        let echoed = "no such hook: /services/T000000/B0000000/abcdefghijkl";
        assert!(!secret.redact(echoed).contains("abcdefghijkl"));
        assert_eq!(Secret::new("").redact("plain"), "plain");
    }
}
