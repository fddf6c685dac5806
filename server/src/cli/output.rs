//! What commands print: tables for people, JSON for programs.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}

/// Prints a table without borders, so that it can be cut and pasted.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    line(&table.to_string())
}

/// Prints what a list holds: each as JSON on a line of its own, or all as rows of a table.
pub(crate) fn list<'v>(
    format: Format,
    header: &[&str],
    mut members: impl Iterator<Item = &'v serde_json::Value>,
    row: impl Fn(&serde_json::Value) -> Vec<String>,
) -> Result<()> {
    match format {
        Format::Json => members.try_for_each(|member| line(&member.to_string())),
        Format::Table => table(header, members.map(row).collect()),
    }
}

/// Prints one line; a reader that went away (`| head`) is no error.
pub(crate) fn line(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Prints one line to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A value of an answer as text, without quotes; empty if there is none.
pub(crate) fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text from events as a terminal may show it: control characters could change what is seen, and so could
/// those that end lines, hide, or turn the direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if misleads(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_events_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\rc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(printable("\u{202e}ecila\u{2028}"), "\u{fffd}ecila\u{fffd}");
    }
}
