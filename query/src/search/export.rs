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

use tantivy::query::Weight;
use tantivy::{BitSet, COLLECT_BLOCK_BUFFER_LEN, DocId};
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
            // What is outside of the window is not even opened. How far the others reach is known once they are.
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
            let mut matching = Matching::new(&view, weight.as_deref());
            // Of the newest partition only what was there when the export began.
            let end = self.place.end.min(last.saturating_add(1));
            while self.place.next < end {
                if self.is_full() {
                    return Ok(());
                }
                let upto = (end - 1).min(self.place.next.saturating_add(self.range - 1));
                self.take(&mut matching, upto, guard)?;
            }
        }
        self.place.next = self.place.end;
        Ok(())
    }

    /// Takes the events up to this `seq`, or as many of them as fit on the page.
    fn take(&mut self, matching: &mut Matching<'_>, upto: u64, guard: &Guard) -> Result<(), SearchError> {
        let mut found = self.find(matching, upto, guard).map_err(read_failed())?;
        found.sort_unstable_by_key(|found| found.seq);
        // Where there is little to find, more is looked at together.
        let sparse = found.len() * 4 < self.limit;
        self.range = if sparse { (self.range * 4).min(MAX_RANGE) } else { MIN_RANGE.max(self.limit as u64) };
        for Found { seq, segment, doc } in found {
            if self.hits.len() >= self.limit || self.bytes >= MAX_PAGE_BYTES {
                return Ok(());
            }
            guard.check().map_err(read_failed())?;
            let hit = hit(matching.view, &matching.view.segments[segment], doc)?;
            self.bytes += hit.event.get().len();
            self.hits.push(hit);
            self.place.next = seq + 1;
        }
        self.place.next = upto + 1;
        Ok(())
    }

    fn find(&self, matching: &mut Matching<'_>, upto: u64, guard: &Guard) -> tantivy::Result<Vec<Found>> {
        let view = matching.view;
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
            if !docs.is_empty() {
                matching.retain(number, &mut docs, guard)?;
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

/// The documents of a partition that a query matches, found once for each segment and page however many ranges of `seq`
/// are looked at: patterns walk through whole dictionaries, and count what they find.
struct Matching<'a> {
    view: &'a View,
    /// None if everything matches.
    weight: Option<&'a dyn Weight>,
    /// Of each segment that was needed.
    documents: Vec<Option<BitSet>>,
}

impl<'a> Matching<'a> {
    fn new(view: &'a View, weight: Option<&'a dyn Weight>) -> Self {
        let documents = std::iter::repeat_with(|| None).take(view.segments.len()).collect();
        Self { view, weight, documents }
    }

    /// Keeps those of a segment's documents that match.
    fn retain(&mut self, segment: usize, docs: &mut Vec<DocId>, guard: &Guard) -> tantivy::Result<()> {
        let Some(weight) = self.weight else { return Ok(()) };
        let documents = match &mut self.documents[segment] {
            Some(documents) => documents,
            none => none.insert(documents(self.view, &self.view.segments[segment], weight, guard)?),
        };
        docs.retain(|doc| documents.contains(*doc));
        Ok(())
    }
}

fn documents(view: &View, segment: &Segment, weight: &dyn Weight, guard: &Guard) -> tantivy::Result<BitSet> {
    let reader = view.searcher.segment_reader(segment.ord);
    let mut documents = BitSet::with_max_value(reader.max_doc());
    let mut matching = weight.scorer(reader, 1.0)?;
    let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
    loop {
        guard.check()?;
        let filled = matching.fill_buffer(&mut block);
        for doc in block.iter().take(filled) {
            documents.insert(*doc);
        }
        if filled < block.len() {
            return Ok(documents);
        }
    }
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

    #[test]
    fn values_are_counted_once_however_many_ranges_a_page_looks_at() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut index = Index::open(small(), dir.path()).unwrap();
        let records: Vec<_> = (0..5_000_u64)
            .map(|n| {
                let verb = if n == 4_999 { "delete" } else { "get" };
                record(
                    n,
                    n.cast_signed(),
                    &format!(r#"{{"verb":"{verb}","objectRef":{{"name":"web-{n}"}}}}"#),
                )
            })
            .collect();
        index.add(&records).unwrap();
        index.commit().unwrap();
        let fill = |query: &str, limit: usize| {
            let request = SearchRequest { limit, ..request(query) };
            let published = index.searcher().shared.published();
            let guard = Guard::new(request.deadline);
            let place = Place { next: 0, end: published.end_seq, window: Window::of(&request) };
            let mut page = Page::new(&request, place);
            page.fill(&published.partitions, &request.query, &guard).unwrap();
            (page, guard.values())
        };
        let (page, values) = fill("objectRef.name:web-* AND verb:delete", 1_000);
        assert_eq!((page.hits.len(), values), (1, 5_000));
        for limit in [1, 3, 1_000] {
            let (page, _) = fill("verb:nothing", limit);
            assert!(page.range > MIN_RANGE, "{limit}: where nothing is found, more is looked at together");
        }
    }
}
