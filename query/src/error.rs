use std::path::{Path, PathBuf};

use tantivy::TantivyError;

/// Why the index cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A file or directory could not be read or written.
    #[error("failed to {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// tantivy failed.
    #[error("failed to {action}")]
    Tantivy {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: TantivyError,
    },
    /// A file does not say what it must.
    #[error(
        "failed to understand {path:?}: {reason}; the index can be deleted, it is rebuilt from what the log still has"
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An earlier failure left the writer unusable.
    #[error("failed to write to the index: an earlier failure closed it; open it again")]
    Closed,
    /// The indexing thread takes nothing any more.
    #[error("failed to hand events to the indexing thread within {0} s")]
    Stuck(u64),
}

impl IndexError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn tantivy(action: &'static str) -> impl FnOnce(TantivyError) -> Self {
        move |source| Self::Tantivy { action, source }
    }
}

/// Why a search gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// Time ran out.
    #[error("the search did not finish in time; narrow it to a time range or to exact values")]
    Deadline,
    /// A pattern or range matches too many distinct values.
    #[error("a pattern or range in the query matches more than {0} distinct values; make it narrower")]
    TooManyValues(u64),
    /// The cursor is not one of ours, or belongs to another query.
    #[error("the cursor does not belong to this query; start again without it")]
    Cursor,
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
}
