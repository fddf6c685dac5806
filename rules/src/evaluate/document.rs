//! The event as a document tree. It is read once per event, and only if a rule that may still match asks for a value
//! that is derived from it.

use rustc_hash::FxHashMap;
use serde_json::Value;

use super::KEPT_BYTES;
use crate::compile::FieldId;
use crate::derived::Derived;

/// One event and what was derived from it so far.
#[derive(Default)]
pub(super) struct Document {
    bytes: Vec<u8>,
    tree: Option<Value>,
    values: FxHashMap<FieldId, Vec<String>>,
}

impl Document {
    /// Takes the next event, a JSON object.
    pub(super) fn begin(&mut self, event: &[u8]) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.bytes.extend_from_slice(event);
        self.tree = None;
        self.values.clear();
    }

    /// The event as it was taken.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// The values of a derived field.
    pub(super) fn values(&mut self, field: FieldId, derived: &Derived) -> &[String] {
        self.values.entry(field).or_insert_with(|| {
            let tree =
                self.tree.get_or_insert_with(|| serde_json::from_slice(&self.bytes).unwrap_or(Value::Null));
            derived.values(tree)
        })
    }
}
