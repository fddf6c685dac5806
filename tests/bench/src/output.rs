//! Results go to standard output, what is going on to standard error.

use std::io::{self, Write};

/// Prints a result.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Says what is going on.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "bench: {text}");
}

/// Prints a report: a table for people unless only JSON is wanted, and one line of JSON behind it.
pub(crate) fn report(table: impl FnOnce() -> String, json: &str, only_json: bool) -> io::Result<()> {
    if !only_json {
        line(&table())?;
    }
    line(json)
}

/// Says so if figures are taken where they mean nothing.
pub(crate) fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        note("this is a debug build: the figures mean nothing (use cargo run --release)");
    }
}
