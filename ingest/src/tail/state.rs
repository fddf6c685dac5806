//! What is kept of files over a restart.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file::{Beginning, FileKey};
use super::lines::Progress;

/// How far files are read, to be kept as JSON. Only what is durable in the log counts as read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailState {
    pub(super) files: Vec<FileState>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileState {
    pub(super) path: PathBuf,
    pub(super) key: FileKey,
    pub(super) beginning: Beginning,
    pub(super) generation: u32,
    pub(super) progress: Progress,
    /// It was removed and read to its end. Remembered because another file may get its numbers.
    pub(super) finished: bool,
}

impl FileState {
    /// Of a file that got the numbers of this one and begins like it.
    pub(super) fn begun_anew(mut self) -> Self {
        self.generation += 1;
        self.progress = Progress::default();
        self.finished = false;
        self
    }
}
