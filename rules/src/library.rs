//! The rules that ship, as Sigma files by the headings of the catalogue.

/// Name and text of every file.
pub const FILES: [(&str, &str); 0] = [];

/// The files in the form that [`load`](crate::load) takes.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}
