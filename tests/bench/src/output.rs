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
