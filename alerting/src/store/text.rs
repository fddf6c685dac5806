//! Bounds on the text that is stored.

/// Longest title, summary or rule id in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 2048;
/// Longest name of a cluster, label, tag or person in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 256;
/// Longest label value in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 1024;
/// Longest explanation of one alert, as JSON, in bytes.
pub(crate) const MAX_EXPLANATION_BYTES: usize = 16 << 10;
/// Most labels of one alert.
pub(crate) const MAX_LABELS: usize = 32;
/// Most tags of one alert.
pub(crate) const MAX_TAGS: usize = 32;

/// The longest beginning of `text` that has at most `max` bytes and ends at a character's end.
pub(crate) fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_never_cuts_a_character() {
        for (max, expect) in [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (4, "aéb"), (9, "aéb")] {
            assert_eq!(clip("aéb", max), expect, "{max}");
        }
    }
}
