//! Export: all events that a query finds, in the order of the log, page by page.
//!
//! That order is the order of `seq`. A page takes the documents of one range of `seq` after the other, so it costs
//! the same at the end of a long history as at its beginning, and holds no more than a page in memory. An export
//! ends where the index ended when it began.
//!
//! A cursor is sealed like that of a search. Its bytes, in little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | `e` |
//! | 8 | the next `seq` |
//! | 8 | the first `seq` that is not part of this export |
//! | 8, 8 | the first and the last moment that are asked for, in microseconds |

use std::sync::Arc;
use std::time::{Duration, Instant};

use tantivy::DocId;
use tantivy::query::Weight;
use watchbell_event::predicate::Predicate;

use super::collect::compile;
use super::cursor::{seal, unseal};
use super::lookup::Guard;
use super::snapshot::{Searcher, hit, read_failed};
use super::window::Window;
use super::{Hit, SearchRequest};
use crate::SearchError;
use crate::index::{Partition, Segment, View};

/// Most events of one page of an export.
pub const MAX_EXPORTED: usize = 10_000;
/// A page with events of this size is full, in bytes.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A page that took this long, or half of the time it has, says how far it came instead of looking for more.
const PATIENCE: Duration = Duration::from_secs(2);
/// Least and most numbers of `seq` that are looked at together.
const MIN_RANGE: u64 = 1_000;
const MAX_RANGE: u64 = 1 << 18;

const KIND: u8 = b'e';
const BODY_BYTES: usize = 33;

/// One page of an export.
#[derive(Debug)]
pub struct ExportPage {
    /// Events in the order of the log. There may be none although more follow.
    pub hits: Vec<Hit>,
    /// Where the next page begins; nothing after the last one.
    pub next_cursor: Option<String>,
}

impl Searcher {
    /// Takes out a page of events in the order of the log. The limit is brought between 1 and [`MAX_EXPORTED`]; what
    /// the request says about totals does not matter.
    ///
    /// # Errors
    /// As [`Searcher::search`].
    pub fn export(&self, request: &SearchRequest) -> Result<ExportPage, SearchError> {
        let key = &self.shared.cursor_key;
        let published = self.shared.published();
        let place = match &request.cursor {
            Some(text) => Place::read(text, key, request).ok_or(SearchError::Cursor)?,
            None => Place { next: 0, end: published.end_seq, window: Window::of(request) },
        };
        let guard = Guard::new(request.deadline);
        let mut page = Page::new(request, place);
        let filled = page.fill(&published.partitions, &request.query, &guard);
        guard.verdict()?;
        filled?;
        let Page { place, hits, .. } = page;
        let next_cursor = (place.next < place.end).then(|| place.write(key, request));
        Ok(ExportPage { hits, next_cursor })
    }
}

/// How far an export has come.
#[derive(Clone, Copy, Debug)]
struct Place {
    next: u64,
    end: u64,
    /// As it was when the export began: times relative to now have moved on since.
    window: Window,
}

impl Place {
    fn write(&self, key: &[u8; 32], request: &SearchRequest) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES);
        bytes.push(KIND);
        bytes.extend(self.next.to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        bytes.extend(self.window.first.to_le_bytes());
        bytes.extend(self.window.last.to_le_bytes());
        seal(bytes, key, request)
    }

    fn read(text: &str, key: &[u8; 32], request: &SearchRequest) -> Option<Self> {
        let body = unseal(text, BODY_BYTES, key, request)?;
        let (&kind, rest) = body.split_first()?;
        let mut numbers = rest.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || numbers.next();
        (kind == KIND).then_some(())?;
        let (place, end) = (next()?, next()?);
        let window = Window { first: next()?.cast_signed(), last: next()?.cast_signed() };
        Some(Self { next: place, end, window })
    }
}

/// A page in the making.
struct Page {
    place: Place,
    limit: usize,
    hits: Vec<Hit>,
    bytes: usize,
    /// How many numbers of `seq` to look at together.
    range: u64,
    pause_at: Instant,
}

/// A document to take out.
struct Found {
    seq: u64,
    segment: usize,
    doc: DocId,
}

impl Page {
    fn new(request: &SearchRequest, place: Place) -> Self {
        let limit = request.limit.clamp(1, MAX_EXPORTED);
        let range = MIN_RANGE.max(limit as u64);
        let now = Instant::now();
        let pause_at = now + (request.deadline.saturating_duration_since(now) / 2).min(PATIENCE);
        Self { place, limit, hits: Vec::new(), bytes: 0, range, pause_at }
    }

    fn is_full(&self) -> bool {
        self.hits.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES || Instant::now() >= self.pause_at
    }

    /// Partitions come in the order of their `seq`.
    fn fill(
        &mut self,
        partitions: &[Arc<Partition>],
        query: &Predicate,
        guard: &Arc<Guard>,
    ) -> Result<(), SearchError> {
        for partition in partitions {
            // What is not needed is not even opened.
            if !self.place.window.overlaps(partition.span) {
                continue;
            }
            let Some(view) = partition.view()? else { continue };
            let Some(first) = view.segments.iter().map(|segment| segment.min_seq).min() else { continue };
            let last = view.segments.iter().map(|segment| segment.max_seq).max().unwrap_or(first);
            if last < self.place.next {
                continue;
            }
            self.place.next = self.place.next.max(first);
            let everything = *query == Predicate::All;
            let weight = (!everything).then(|| compile(&view, query, guard)).transpose();
            let weight = weight.map_err(read_failed())?;
            // Of the newest partition only what was there when the export began.
            let end = self.place.end.min(last.saturating_add(1));
            while self.place.next < end {
                if self.is_full() {
                    return Ok(());
                }
                let upto = (end - 1).min(self.place.next.saturating_add(self.range - 1));
                self.take(&view, upto, weight.as_deref(), guard)?;
            }
        }
        self.place.next = self.place.end;
        Ok(())
    }

    /// Takes the events up to this `seq`, or as many of them as fit on the page.
    fn take(
        &mut self,
        view: &View,
        upto: u64,
        weight: Option<&dyn Weight>,
        guard: &Guard,
    ) -> Result<(), SearchError> {
        let mut found = self.find(view, upto, weight, guard).map_err(read_failed())?;
        found.sort_unstable_by_key(|found| found.seq);
        // Where there is little to find, more is looked at together.
        let sparse = found.len() < self.limit / 4;
        self.range = if sparse { (self.range * 4).min(MAX_RANGE) } else { MIN_RANGE.max(self.limit as u64) };
        for Found { seq, segment, doc } in found {
            if self.hits.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES {
                return Ok(());
            }
            guard.check().map_err(read_failed())?;
            let hit = hit(view, &view.segments[segment], doc)?;
            self.bytes += hit.event.get().len();
            self.hits.push(hit);
            self.place.next = seq + 1;
        }
        self.place.next = upto + 1;
        Ok(())
    }

    fn find(
        &self,
        view: &View,
        upto: u64,
        weight: Option<&dyn Weight>,
        guard: &Guard,
    ) -> tantivy::Result<Vec<Found>> {
        let Place { next, window, .. } = self.place;
        let (mut found, mut docs) = (Vec::new(), Vec::new());
        for (number, segment) in view.segments.iter().enumerate() {
            guard.check()?;
            if segment.max_seq < next || segment.min_seq > upto || !window.overlaps(segment.span) {
                continue;
            }
            docs.clear();
            let all = 0..view.searcher.segment_reader(segment.ord).max_doc();
            segment.seqs.get_docids_for_value_range(next..=upto, all, &mut docs);
            if let Some(weight) = weight {
                keep_matching(view, segment, weight, &mut docs)?;
            }
            for &doc in &docs {
                let micros = segment.times.first(doc).map_or(0, tantivy::DateTime::into_timestamp_micros);
                let seq = segment.seqs.first(doc).unwrap_or_default();
                if window.contains(micros) {
                    found.push(Found { seq, segment: number, doc });
                }
            }
        }
        Ok(found)
    }
}

/// Keeps the documents, given in their order, that a query matches.
fn keep_matching(
    view: &View,
    segment: &Segment,
    weight: &dyn Weight,
    docs: &mut Vec<DocId>,
) -> tantivy::Result<()> {
    let mut matching = weight.scorer(view.searcher.segment_reader(segment.ord), 1.0)?;
    docs.retain(|doc| {
        let at = matching.doc();
        let at = if at < *doc { matching.seek(*doc) } else { at };
        at == *doc
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::{record, request, small, time};
    use crate::{Index, Relation};

    /// Three partitions of a hundred events each, in several segments; event n has the verb of n % 3.
    fn index() -> (tempfile::TempDir, Index) {
        let dir = tempfile::TempDir::new().unwrap();
        let config = crate::Config { partition_documents: 100, ..small() };
        let mut index = Index::open(config, dir.path()).unwrap();
        for part in 0..30_u64 {
            let events = part * 10..(part + 1) * 10;
            // Later ones happened earlier, so the order of time is not that of the log.
            let records: Vec<_> = events
                .map(|n| {
                    let verb = ["get", "list", "watch"][usize::try_from(n % 3).unwrap()];
                    record(n, 10_000 - n.cast_signed(), &format!(r#"{{"verb":"{verb}","n":{n}}}"#))
                })
                .collect();
            index.add(&records).unwrap();
            index.commit().unwrap();
        }
        (dir, index)
    }

    /// The numbers of all exported events, and how many pages there were.
    fn export(index: &Index, request: &SearchRequest) -> (Vec<u64>, usize) {
        let (mut numbers, mut pages) = (Vec::new(), 0);
        let mut request = request.clone();
        loop {
            let page = index.searcher().export(&request).unwrap();
            pages += 1;
            assert!(page.hits.len() <= request.limit);
            for hit in page.hits {
                let event: serde_json::Value = serde_json::from_str(hit.event.get()).unwrap();
                numbers.push(event["n"].as_u64().unwrap());
                assert!(hit.received_at.unwrap() > hit.timestamp && !hit.history);
            }
            match page.next_cursor {
                Some(cursor) => request.cursor = Some(cursor),
                None => return (numbers, pages),
            }
        }
    }

    #[test]
    fn events_come_in_the_order_of_the_log_whatever_the_pages() {
        let (_dir, index) = index();
        assert_eq!(index.stats().partitions, 3);
        for (limit, pages) in [(1, 300), (7, 43), (100, 3), (299, 2), (10_000, 1)] {
            let (numbers, found) = export(&index, &SearchRequest { limit, ..request("*") });
            assert_eq!(numbers, (0..300).collect::<Vec<_>>(), "{limit}");
            assert!(found == pages || found == pages + 1, "{limit}: {found} pages");
        }
        let (lists, _) = export(&index, &SearchRequest { limit: 7, ..request("verb:list") });
        assert_eq!(lists, (0..300).filter(|n| n % 3 == 1).collect::<Vec<_>>());
        let (some, _) =
            export(&index, &SearchRequest { limit: 7, ..request("verb:(get OR w*) AND NOT n:5") });
        assert_eq!(some, (0..300).filter(|n| n % 3 != 1 && *n != 5).collect::<Vec<_>>());
    }

    #[test]
    fn an_export_finds_what_a_search_finds_between_two_times() {
        let (_dir, index) = index();
        // Event n happened 9,999 - n seconds after noon.
        let from = Some(time("2026-01-31T12:00:00Z").plus_micros(9_800_000_000));
        let to = Some(time("2026-01-31T12:00:00Z").plus_micros(9_900_000_000));
        let request = SearchRequest { from, to, limit: 30, ..request("verb:get OR verb:list") };
        let (numbers, _) = export(&index, &request);
        let searched = index.searcher().search(&SearchRequest { limit: 1000, ..request }).unwrap();
        assert_eq!(searched.total.relation, Relation::Eq);
        assert_eq!(numbers.len() as u64, searched.total.value);
        assert_eq!(numbers, (100..200).filter(|n| n % 3 != 2).collect::<Vec<_>>());
    }

    #[test]
    fn an_export_ends_where_the_index_ended_when_it_began() {
        let (_dir, mut index) = index();
        let first = SearchRequest { limit: 290, ..request("*") };
        let page = index.searcher().export(&first).unwrap();
        index.add(&[record(300, 20_000, r#"{"verb":"get","n":300}"#)]).unwrap();
        index.commit().unwrap();
        let rest = SearchRequest { cursor: page.next_cursor.clone(), ..first };
        assert_eq!(export(&index, &rest).0, (290..300).collect::<Vec<_>>());
        let ids: BTreeSet<_> = page.hits.iter().map(|hit| hit.id).collect();
        assert_eq!(ids.len(), 290);
        let other = SearchRequest { asked: "another".to_owned(), ..rest };
        assert!(matches!(index.searcher().export(&other), Err(SearchError::Cursor)));
        let cursor =
            index.searcher().search(&SearchRequest { limit: 5, ..request("*") }).unwrap().next_cursor;
        let crossed = SearchRequest { cursor, ..request("*") };
        assert!(matches!(index.searcher().export(&crossed), Err(SearchError::Cursor)));
    }
}
