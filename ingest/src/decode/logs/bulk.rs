//! Elasticsearch's bulk format, as log agents write it: an action line (`{"create":{"_index":…,"_id":…}}`), and after
//! it a line with the document. <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>
//!
//! Nothing here can be changed or removed once it is in, so of the four actions `create` and `index` are taken, and
//! both mean the same. A document with an `_id` that is sent again, unchanged, is stored once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Map;
use watchbell_event::EventId;

use super::super::{DecodeError, Decoded, Origin, Place, Reason, Rejected};
use super::{LogDecoder, LogLimits, LogRecord, Sequence, line};
use crate::json::{Scanner, Tape};
use crate::redact::Redactor;

/// As in Elasticsearch.
const MAX_ID_BYTES: usize = 512;

/// What a bulk request held.
#[derive(Debug, Default)]
pub struct DecodedBulk {
    /// Records, grouped by cluster.
    pub decoded: Decoded,
    /// An answer is due for each of these, in this order.
    pub items: Vec<BulkItem>,
}

/// One action of a bulk request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkItem {
    /// What was to be done.
    pub action: BulkAction,
    /// Of the action, or else of the request's path.
    pub index: Option<String>,
    /// What the sender calls the document.
    pub id: Option<String>,
    /// Why nothing was done.
    pub refused: Option<BulkRefusal>,
}

/// The four actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named like its action")]
pub enum BulkAction {
    Create,
    Index,
    Update,
    Delete,
}

impl BulkAction {
    /// The action as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Create, Self::Index, Self::Update, Self::Delete].into_iter().find(|known| known.name() == name)
    }
}

/// Why an item was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkRefusal {
    /// `update` and `delete`.
    #[error("what is stored here can neither be changed nor removed; send create or index")]
    Unsupported,
    /// The document is in quarantine.
    #[error("the document is not a JSON object")]
    NotAnObject,
    /// An `_id` that is too long.
    #[error("the _id is longer than {MAX_ID_BYTES} bytes")]
    LongId,
    /// Nothing says for which cluster it is, or the sender may not send for that one.
    #[error(
        "the token may send for several clusters and the index is not the name of one of them; name the cluster in the \
         index or in the header Watchbell-Cluster"
    )]
    NoCluster,
}

/// Reads all documents of a bulk request. `path_index` counts where an action names no index; `cluster_of` says which
/// cluster an index is for. `delivery` is what the sender repeats with the request, or random bytes.
///
/// # Errors
/// If it is empty, has more items than allowed, or has a line in the place of an action that is none: from there on
/// nobody can tell documents from actions.
pub fn decode_bulk(
    body: &Bytes,
    path_index: Option<&str>,
    cluster_of: &dyn Fn(Option<&str>) -> Option<Arc<str>>,
    (origin, delivery): (&Origin, &[u8]),
    limits: &LogLimits,
    redactor: &Redactor,
) -> Result<DecodedBulk, DecodeError> {
    let mut reader = Reader { body, pos: 0, limits, tape: Tape::default() };
    let mut bulk = DecodedBulk::default();
    let mut documents: BTreeMap<Arc<str>, Vec<(usize, Range<usize>)>> = BTreeMap::new();
    while let Some((mut item, document)) = reader.item(bulk.items.len(), path_index)? {
        let cluster = cluster_of(item.index.as_deref());
        item.refused = refusal(&item).or(cluster.is_none().then_some(BulkRefusal::NoCluster));
        if let (None, Some(cluster)) = (item.refused, cluster) {
            documents.entry(cluster).or_default().push((bulk.items.len(), document));
        }
        bulk.items.push(item);
    }
    if bulk.items.is_empty() {
        return Err(DecodeError::Empty);
    }
    for (cluster, documents) in documents {
        let origin = Origin { cluster, ..origin.clone() };
        let sequence = Sequence::delivery(&origin, delivery);
        let mut decoder = LogDecoder::new(&origin, limits, redactor);
        for (number, range) in documents {
            let item = &mut bulk.items[number];
            let identity = match &item.id {
                Some(id) => named(&origin, item.index.as_deref(), id, &body[range.clone()]),
                None => sequence.id(number as u64),
            };
            match reader.record(&range, identity) {
                Some(record) => bulk.decoded.envelopes.push(decoder.decode(record)),
                None => {
                    item.refused = Some(BulkRefusal::NotAnObject);
                    let place = Place { event: number, offset: range.start };
                    let (reason, bytes) = (Reason::NotAnObject, body.slice(range));
                    let cluster = Some(origin.cluster.clone());
                    bulk.decoded.rejected.push(Rejected { cluster, place, reason, repaired: false, bytes });
                }
            }
        }
    }
    Ok(bulk)
}

fn refusal(item: &BulkItem) -> Option<BulkRefusal> {
    match item.action {
        BulkAction::Update | BulkAction::Delete => Some(BulkRefusal::Unsupported),
        _ if item.id.as_ref().is_some_and(|id| id.len() > MAX_ID_BYTES) => Some(BulkRefusal::LongId),
        _ => None,
    }
}

/// An id counts together with the document: what was changed is another document.
fn named(origin: &Origin, index: Option<&str>, id: &str, document: &[u8]) -> EventId {
    let index = index.unwrap_or_default();
    let hash = blake3::hash(document);
    let parts = [&hash.as_bytes()[..], &(index.len() as u64).to_le_bytes(), index.as_bytes(), id.as_bytes()];
    Sequence::delivery(origin, &parts.concat()).id(0)
}

struct Reader<'a> {
    body: &'a Bytes,
    pos: usize,
    limits: &'a LogLimits,
    tape: Tape,
}

impl Reader<'_> {
    /// The next action and where its document stands.
    fn item(
        &mut self,
        number: usize,
        path_index: Option<&str>,
    ) -> Result<Option<(BulkItem, Range<usize>)>, DecodeError> {
        let action = loop {
            match self.line() {
                None => return Ok(None),
                Some(line) if line.is_empty() => {}
                Some(line) => break line,
            }
        };
        if number >= self.limits.records {
            return Err(DecodeError::TooManyEvents { limit: self.limits.records });
        }
        let place = Place { event: number, offset: action.start };
        let not_an_action = DecodeError::Unusable { place, reason: Reason::NotAnAction };
        let Some(item) = self.action(&action, path_index) else { return Err(not_an_action) };
        if item.action == BulkAction::Delete {
            return Ok(Some((item, action)));
        }
        match self.line().filter(|line| !line.is_empty()) {
            Some(document) => Ok(Some((item, document))),
            None => Err(not_an_action),
        }
    }

    /// The next line, without the white space around it.
    fn line(&mut self) -> Option<Range<usize>> {
        let rest = self.body.get(self.pos..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let start = self.pos + rest[..length].len() - rest[..length].trim_ascii_start().len();
        self.pos += length + 1;
        Some(start..start + rest[..length].trim_ascii().len())
    }

    fn action(&mut self, range: &Range<usize>, path_index: Option<&str>) -> Option<BulkItem> {
        let text = str::from_utf8(self.body.get(range.clone())?).ok()?;
        let parsed = line::json::parse(text, self.limits, &mut self.tape)?;
        let mut members = self.tape.root(&parsed)?.members();
        let (name, meta) = members.next()?;
        if members.next().is_some() {
            return None;
        }
        let [index, id] = meta.pick(["_index", "_id"]).map(|value| value.and_then(|value| value.as_text()));
        Some(BulkItem {
            action: BulkAction::from_name(&name.as_text()?)?,
            index: index.as_deref().or(path_index).map(str::to_owned),
            id: id.map(Cow::into_owned),
            refused: None,
        })
    }

    /// The document as a record; none if it is no object.
    fn record(&mut self, range: &Range<usize>, identity: EventId) -> Option<LogRecord<'static>> {
        let bytes = &self.body[range.clone()];
        let text = String::from_utf8_lossy(bytes);
        let parsed = line::json::parse(&text, self.limits, &mut self.tape);
        if let Some(members) = parsed.and_then(|parsed| serde_json::from_str(&parsed).ok()) {
            return Some(LogRecord::from_members(members, identity));
        }
        // an object with more values than one may have is kept as text
        let mut scan = Scanner::new(bytes, 0);
        let is_object = scan.peek() == Some(b'{') && scan.skip_value().is_ok() && scan.peek().is_none();
        is_object.then(|| LogRecord {
            time: None,
            line: Cow::Owned(bytes.to_vec()),
            cut: false,
            common: None,
            known: Vec::new(),
            attributes: Map::new(),
            format: None,
            identity,
        })
    }
}

#[cfg(test)]
mod tests;
