//! What searches see: the partitions of the last commit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{DocAddress, DocId, DocSet, TERMINATED, TantivyDocument};
use watchbell_event::{EventId, Timestamp};

use super::Hit;
use crate::document::StoredEvent;
use crate::index::{Partition, Segment, Stats, View};
use crate::{IndexError, SearchError};

/// Written by the index, read by searches.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) cursor_key: [u8; 32],
    published: RwLock<Published>,
}

#[derive(Clone, Debug, Default)]
struct Published {
    partitions: Arc<Vec<Arc<Partition>>>,
    open_segments: usize,
}

impl Shared {
    pub(crate) fn new(cursor_key: [u8; 32]) -> Self {
        Self { cursor_key, published: RwLock::default() }
    }

    pub(crate) fn publish(&self, partitions: Vec<Arc<Partition>>, open_segments: usize) {
        let published = Published { partitions: Arc::new(partitions), open_segments };
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = published;
    }

    pub(crate) fn stats(&self) -> Stats {
        let published = self.published();
        let newest = published.partitions.iter().map(|partition| partition.latest_micros).max();
        Stats {
            partitions: published.partitions.len(),
            open_segments: published.open_segments,
            documents: published.partitions.iter().map(|partition| partition.documents).sum(),
            uncommitted: 0,
            newest_event: newest.filter(|micros| *micros > i64::MIN).map(Timestamp::from_micros),
        }
    }

    fn published(&self) -> Published {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Searches what was committed last. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Searcher {
    pub(super) shared: Arc<Shared>,
}

impl Searcher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Numbers for metrics, of what is committed.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The event with this identity.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn by_id(&self, id: EventId) -> Result<Option<Hit>, SearchError> {
        for view in self.views_newest_first()? {
            for segment in &view.segments {
                for doc in candidates(&view, segment, &id).map_err(read_failed())? {
                    let hit = hit(&view, segment, doc)?;
                    if hit.id == id {
                        return Ok(Some(hit));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Which of these events are in the index.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn contains(&self, ids: &[EventId]) -> Result<Vec<bool>, SearchError> {
        let mut missing: HashMap<EventId, Vec<usize>> = HashMap::with_capacity(ids.len());
        for (n, id) in ids.iter().enumerate() {
            missing.entry(*id).or_default().push(n);
        }
        let mut found = vec![false; ids.len()];
        for view in self.views_newest_first()? {
            for segment in &view.segments {
                if missing.is_empty() {
                    return Ok(found);
                }
                let here = present(&view, segment, missing.keys())?;
                for id in here {
                    for n in missing.remove(&id).unwrap_or_default() {
                        found[n] = true;
                    }
                }
            }
        }
        Ok(found)
    }

    pub(super) fn partitions(&self) -> Arc<Vec<Arc<Partition>>> {
        self.shared.published().partitions
    }

    fn views_newest_first(&self) -> Result<Vec<Arc<View>>, SearchError> {
        let partitions = self.partitions();
        let views = partitions.iter().rev().map(|partition| partition.view());
        Ok(views.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

pub(super) fn read_failed() -> impl FnOnce(tantivy::TantivyError) -> IndexError {
    IndexError::tantivy("read the index")
}

/// The ids that are in a segment. The identity is compared as a whole: half of it could be made to collide.
fn present<'i>(
    view: &View,
    segment: &Segment,
    ids: impl Iterator<Item = &'i EventId>,
) -> Result<Vec<EventId>, SearchError> {
    let mut documents = Vec::new();
    for id in ids {
        let found = candidates(view, segment, id).map_err(read_failed())?;
        documents.extend(found.into_iter().map(|doc| (doc, *id)));
    }
    // In their order, so that each block of the store is decompressed once.
    documents.sort_unstable();
    let mut present = Vec::with_capacity(documents.len());
    for (doc, id) in documents {
        if hit(view, segment, doc)?.id == id {
            present.push(id);
        }
    }
    Ok(present)
}

/// The documents of a segment whose identity begins like this one.
fn candidates(view: &View, segment: &Segment, id: &EventId) -> tantivy::Result<Vec<DocId>> {
    let reader = view.searcher.segment_reader(segment.ord);
    let index = reader.inverted_index(view.columns.id)?;
    let Some(term) = index.terms().get(id.prefix().to_be_bytes())? else { return Ok(Vec::new()) };
    let mut postings = index.read_postings_from_terminfo(&term, IndexRecordOption::Basic)?;
    let mut documents = Vec::new();
    while postings.doc() != TERMINATED {
        documents.push(postings.doc());
        postings.advance();
    }
    Ok(documents)
}

/// Reads an event back.
pub(super) fn hit(view: &View, segment: &Segment, doc: DocId) -> Result<Hit, IndexError> {
    let address = DocAddress::new(segment.ord, doc);
    let document: TantivyDocument = view.searcher.doc(address).map_err(read_failed())?;
    let unreadable =
        |reason: &str| IndexError::Corrupt { path: "a stored event".into(), reason: reason.to_owned() };
    let text = document.get_first(view.columns.event).and_then(|value| value.as_str());
    let stored =
        text.and_then(StoredEvent::read).ok_or_else(|| unreadable("its envelope is not readable"))?;
    let event = serde_json::value::RawValue::from_string(stored.event.to_owned())
        .map_err(|error| unreadable(&error.to_string()))?;
    let time = segment.times.first(doc).ok_or_else(|| unreadable("it has no time"))?;
    Ok(Hit {
        id: stored.id,
        timestamp: Timestamp::from_micros(time.into_timestamp_micros()),
        cluster: stored.cluster.to_owned(),
        source: stored.source.to_owned(),
        event,
    })
}
