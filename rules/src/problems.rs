//! What is wrong with a rule file.

use std::fmt;

/// Most errors that are reported for one file.
pub(crate) const MAX_ERRORS_PER_FILE: usize = 100;

/// Why a rule was refused, and where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// The file.
    pub file: String,
    /// One-based; 0 if the error concerns the whole file.
    pub line: usize,
    /// In one line.
    pub reason: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.reason),
            line => write!(f, "{}:{line}: {}", self.file, self.reason),
        }
    }
}

impl std::error::Error for LoadError {}

/// Collects what is wrong with one file, so that people see all of it at once.
pub(crate) struct Problems<'a> {
    file: &'a str,
    errors: Vec<LoadError>,
    count: usize,
}

impl<'a> Problems<'a> {
    /// Starts with none.
    pub(crate) fn new(file: &'a str) -> Self {
        Self { file, errors: Vec::new(), count: 0 }
    }

    /// The file they are about.
    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    /// How many there are, those that are not kept included.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Adds one. What does not fit is summed up by the last.
    pub(crate) fn add(&mut self, line: usize, reason: impl Into<String>) {
        self.count += 1;
        let reason = match self.errors.len() {
            0..MAX_ERRORS_PER_FILE => reason.into(),
            MAX_ERRORS_PER_FILE => format!("more than {MAX_ERRORS_PER_FILE} errors; the rest is not shown"),
            _ => return,
        };
        self.errors.push(LoadError { file: self.file.to_owned(), line, reason });
    }

    /// Adds the error of a failed step and yields the value of a successful one.
    pub(crate) fn check<T>(&mut self, line: usize, result: Result<T, String>) -> Option<T> {
        result.map_err(|reason| self.add(line, reason)).ok()
    }

    /// All of them, in the order of their lines.
    pub(crate) fn into_errors(mut self) -> Vec<LoadError> {
        self.errors.sort_by_key(|error| error.line);
        self.errors
    }
}
