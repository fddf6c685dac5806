//! What a commit says beside its documents, in tantivy's own record of it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use watchbell_event::Positions;

use crate::IndexError;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Payload {
    /// How far the log is indexed.
    pub(super) positions: Positions,
    pub(super) next_seq: u64,
    /// Of the partition. Programs that know nothing of blocks ask for it under its former name and so refuse what they
    /// would destroy.
    #[serde(rename = "partition_documents", alias = "documents")]
    pub(super) documents: u64,
    pub(super) bytes: u64,
    /// How many blocks of events are kept as the log packed them; before that was done, the number was not said.
    #[serde(default)]
    pub(super) blocks: usize,
}

/// What the last commit said; nothing if there was none.
pub(super) fn read(index: &tantivy::Index, dir: &Path) -> Result<Option<Payload>, IndexError> {
    let metas = index.load_metas().map_err(IndexError::tantivy("read the last commit of the index"))?;
    let Some(payload) = metas.payload else { return Ok(None) };
    let corrupt = |error: serde_json::Error| IndexError::Corrupt {
        path: dir.join("meta.json"),
        reason: error.to_string(),
    };
    serde_json::from_str(&payload).map(Some).map_err(corrupt)
}
