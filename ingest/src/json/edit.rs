use std::ops::Range;

/// Replaces a part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The bytes that go.
    pub(crate) range: Range<usize>,
    /// What stands in their place.
    pub(crate) replacement: String,
}

/// The text with all edits made. Of edits that overlap the one that begins first, and of those the
/// longest, is made.
pub(crate) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.range.start, std::cmp::Reverse(edit.range.end)));
    let mut edited = String::with_capacity(text.len());
    let mut done = 0;
    for edit in edits.iter().filter(|edit| edit.range.start <= edit.range.end) {
        if edit.range.start < done {
            continue;
        }
        edited.push_str(text.get(done..edit.range.start).unwrap_or_default());
        edited.push_str(&edit.replacement);
        done = edit.range.end;
    }
    edited.push_str(text.get(done..).unwrap_or_default());
    edited
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON string written anew, so that every character in it is whole.
pub(crate) fn reescape(raw: &str) -> String {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    quoted(&super::text::unescape(inner))
}
