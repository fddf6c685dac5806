//! What searches see: the partitions of the last commit.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::value::RawValue;
use tantivy::schema::{IndexRecordOption, Value};
use tantivy::{DateTime, DocAddress, DocId, DocSet, TERMINATED, TantivyDocument};
use watchbell_event::predicate::indexed_time;
use watchbell_event::{EventId, Timestamp};

use super::Hit;
use crate::document::{StoredEvent, event_text};
use crate::index::{Partition, Segment, Span, Stats, View};
use crate::{IndexError, SearchError};

/// Written by the index, read by searches.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) cursor_key: [u8; 32],
    published: RwLock<Published>,
}

/// The partitions of one commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// In the order in which they were begun.
    pub(crate) partitions: Arc<Vec<Arc<Partition>>>,
    /// Segments of the one that is written to.
    pub(crate) open_segments: usize,
    /// All their events have a lower `seq`, all later events this one or a higher one.
    pub(crate) end_seq: u64,
}

impl Shared {
    pub(crate) fn new(cursor_key: [u8; 32]) -> Self {
        Self { cursor_key, published: RwLock::default() }
    }

    pub(crate) fn publish(&self, published: Published) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = published;
    }

    pub(crate) fn stats(&self) -> Stats {
        let published = self.published();
        let newest = published.partitions.iter().map(|partition| partition.span.latest).max();
        Stats {
            partitions: published.partitions.len(),
            open_segments: published.open_segments,
            documents: published.partitions.iter().map(|partition| partition.documents).sum(),
            uncommitted: 0,
            newest_event: newest.filter(|micros| *micros > i64::MIN).map(Timestamp::from_micros),
        }
    }

    pub(super) fn published(&self) -> Published {
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

    /// Which of these events are in the index. An event that comes with the time under which it was stored is
    /// looked for only where events of that time are, which makes this fast on a long history.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn contains(&self, asked: &[(EventId, Option<Timestamp>)]) -> Result<Vec<bool>, SearchError> {
        let mut found = vec![false; asked.len()];
        let mut missing: BTreeMap<(EventId, Option<i64>), Vec<usize>> = BTreeMap::new();
        for (n, (id, time)) in asked.iter().enumerate() {
            missing.entry((*id, time.map(indexed_time))).or_default().push(n);
        }
        let may_be_in = |span: Span, micros: Option<i64>| micros.is_none_or(|micros| span.contains(micros));
        for partition in self.shared.published().partitions.iter().rev() {
            if !missing.keys().any(|(_, micros)| may_be_in(partition.span, *micros)) {
                continue;
            }
            let Some(view) = partition.view()? else { continue };
            for segment in &view.segments {
                let here = missing.keys().filter(|(_, micros)| may_be_in(segment.span, *micros));
                for event in present(&view, segment, here)? {
                    for n in missing.remove(&event).unwrap_or_default() {
                        found[n] = true;
                    }
                }
            }
        }
        Ok(found)
    }

    fn views_newest_first(&self) -> Result<Vec<Arc<View>>, SearchError> {
        let partitions = self.shared.published().partitions;
        let views = partitions.iter().rev().map(|partition| partition.view());
        Ok(views.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}

pub(super) fn read_failed() -> impl FnOnce(tantivy::TantivyError) -> IndexError {
    IndexError::tantivy("read the index")
}

/// The events that are in a segment. Identities are compared as a whole: half of one could be made to collide.
fn present<'i, T: Copy + Ord + 'i>(
    view: &View,
    segment: &Segment,
    events: impl Iterator<Item = &'i (EventId, T)>,
) -> Result<Vec<(EventId, T)>, SearchError> {
    let mut documents = Vec::new();
    for event in events {
        let found = candidates(view, segment, &event.0).map_err(read_failed())?;
        documents.extend(found.into_iter().map(|doc| (doc, *event)));
    }
    // In their order, so that each block of the store is decompressed once.
    documents.sort_unstable();
    let mut present = Vec::with_capacity(documents.len());
    for (doc, event) in documents {
        if read(view, segment, doc, |stored| Ok(stored.id))? == event.0 {
            present.push(event);
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
pub(crate) fn hit(view: &View, segment: &Segment, doc: DocId) -> Result<Hit, IndexError> {
    let time = segment.times.first(doc).ok_or_else(|| unreadable("it has no time"))?;
    read(view, segment, doc, |stored| {
        // The log keeps only JSON. Should that ever fail, one event must not spoil every page it is on.
        let event = RawValue::from_string(stored.event.to_owned())
            .or_else(|_| serde_json::value::to_raw_value(stored.event));
        Ok(Hit {
            id: stored.id,
            timestamp: Timestamp::from_micros(time.into_timestamp_micros()),
            received_at: stored.received_at,
            history: stored.history,
            cluster: stored.cluster.to_owned(),
            source: stored.source.to_owned(),
            event: event.map_err(|error| unreadable(&error.to_string()))?,
        })
    })
}

fn read<T>(
    view: &View,
    segment: &Segment,
    doc: DocId,
    take: impl FnOnce(StoredEvent<'_>) -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    let seq = segment.seqs.first(doc).ok_or_else(|| unreadable("it has no number"))?;
    if let Some(envelope) = view.events.get(seq)? {
        let time = segment.times.first(doc).map(DateTime::into_timestamp_micros);
        if time != Some(indexed_time(envelope.event_time)) {
            return Err(unreadable("what is kept under its number is another event"));
        }
        return take(StoredEvent::of(&envelope, &event_text(&envelope.bytes)));
    }
    let address = DocAddress::new(segment.ord, doc);
    let document: TantivyDocument = view.searcher.doc(address).map_err(read_failed())?;
    let text = document.get_first(view.columns.event).and_then(|value| value.as_str());
    take(text.and_then(StoredEvent::read).ok_or_else(|| unreadable("its envelope is not readable"))?)
}

fn unreadable(reason: &str) -> IndexError {
    IndexError::Corrupt { path: "a stored event".into(), reason: reason.to_owned() }
}
