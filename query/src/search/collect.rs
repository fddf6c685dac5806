//! Runs a compiled query over the segments and keeps the newest hits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;
use std::sync::Arc;

use tantivy::query::{EnableScoring, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DateTime, DocId, DocSet};
use watchbell_event::predicate::{Kind, Predicate, Target, Test, indexed_time, time_span};

use super::compile::Compiler;
use super::cursor::Cursor;
use super::lookup::{Guard, MAX_EXPANDED_VALUES};
use super::snapshot::{Searcher, hit, read_failed};
use super::{Hit, MAX_LIMIT, Relation, SearchRequest, SearchResponse, Total};
use crate::SearchError;
use crate::index::{Segment, View};

/// How far the total is counted when that takes more than reading a number.
pub const TOTAL_BOUND: u64 = 10_000;
/// How many blocks of documents are looked at between two looks at the clock.
const BLOCKS_PER_CHECK: usize = 64;

impl Searcher {
    /// Finds a page of events, newest first; of equal times the one that arrived last comes first.
    ///
    /// # Errors
    /// If time runs out, the query is too broad, the cursor is not of this query, or the index is unreadable.
    pub fn search(&self, request: &SearchRequest) -> Result<SearchResponse, SearchError> {
        let key = &self.shared.cursor_key;
        let after = match &request.cursor {
            Some(text) => Some(Cursor::read(text, key, request).ok_or(SearchError::Cursor)?),
            None => None,
        };
        let guard = Guard::new(request.deadline);
        let result = self.page(request, after, &guard);
        if guard.has_expired() {
            metrics::counter!("watchbell_search_deadline_total").increment(1);
            return Err(SearchError::Deadline);
        }
        if guard.matched_too_many() {
            return Err(SearchError::TooManyValues(MAX_EXPANDED_VALUES));
        }
        let (views, page) = result?;
        page.respond(&views, request, key, &guard)
    }

    fn page(
        &self,
        request: &SearchRequest,
        after: Option<Cursor>,
        guard: &Arc<Guard>,
    ) -> Result<(Vec<Arc<View>>, Page), SearchError> {
        let window = Window::of(request);
        let mut views = Vec::new();
        for partition in self.partitions().iter() {
            if window.overlaps(partition.earliest_micros, partition.latest_micros) {
                views.extend(partition.view()?);
            }
        }
        let mut weights = Vec::with_capacity(views.len());
        let mut order = Vec::new();
        for (v, view) in views.iter().enumerate() {
            weights.push(compile(view, &request.query, guard).map_err(read_failed())?);
            let segments = view.segments.iter().enumerate();
            order.extend(segments.map(|(s, segment)| (segment.latest_micros, v, s)));
        }
        order.sort_unstable_by_key(|segment| Reverse(*segment));
        let mut page = Page::new(request, window, after, &views);
        for (_, v, s) in order {
            page.visit(&views, (v, s), weights[v].as_ref(), guard).map_err(read_failed())?;
        }
        Ok((views, page))
    }
}

fn compile(view: &View, query: &Predicate, guard: &Arc<Guard>) -> tantivy::Result<Box<dyn Weight>> {
    let query = Compiler { columns: &view.columns, guard }.query(query);
    query.weight(EnableScoring::disabled_from_searcher(&view.searcher))
}

/// The range of time that is asked for, both ends included.
#[derive(Clone, Copy)]
struct Window {
    first: i64,
    last: i64,
}

impl Window {
    fn of(request: &SearchRequest) -> Self {
        let first = request.from.map_or(i64::MIN, indexed_time);
        let last = request.to.map_or(i64::MAX, |to| indexed_time(to) - 1);
        let mut window = Self { first, last };
        window.narrow(&request.query);
        window
    }

    /// Takes in what the query itself says about `@timestamp`, so that partitions are left out by it too.
    fn narrow(&mut self, query: &Predicate) {
        match query {
            Predicate::And(parts) => parts.iter().for_each(|part| self.narrow(part)),
            Predicate::Field(field, test) if field.target() == Target::Time => {
                let (lower, upper) = match test {
                    Test::Is(text) => time_span(text).map(|(a, b)| (Bound::Included(a), Bound::Included(b))),
                    Test::Within(range) => range.micros(),
                    Test::Exists | Test::Like(_) | Test::Matches(_) => None,
                }
                .unwrap_or((Bound::Unbounded, Bound::Unbounded));
                if let Bound::Included(micros) | Bound::Excluded(micros) = lower {
                    self.first = self.first.max(micros);
                }
                if let Bound::Included(micros) | Bound::Excluded(micros) = upper {
                    self.last = self.last.min(micros);
                }
            }
            _ => {}
        }
    }

    fn overlaps(&self, earliest: i64, latest: i64) -> bool {
        earliest <= self.last && latest >= self.first
    }

    fn encloses(&self, segment: &Segment) -> bool {
        self.first <= segment.earliest_micros && segment.latest_micros <= self.last
    }

    fn contains(&self, micros: i64) -> bool {
        (self.first..=self.last).contains(&micros)
    }
}

/// A document that may be on the page; ordered by age, newest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    micros: i64,
    seq: u64,
    /// The view and its segment.
    place: (usize, usize),
    doc: DocId,
}

/// A page in the making.
struct Page {
    limit: usize,
    window: Window,
    after: Option<Cursor>,
    end_seq: u64,
    total: Total,
    /// Counting is needed on the first page only; then the cursor carries the total.
    counting: bool,
    exact: bool,
    countable: bool,
    /// The newest candidates so far, one more than fit on the page; the oldest on top.
    newest: BinaryHeap<Reverse<Candidate>>,
}

impl Page {
    fn new(request: &SearchRequest, window: Window, after: Option<Cursor>, views: &[Arc<View>]) -> Self {
        let max_seq = views.iter().flat_map(|view| &view.segments).map(|segment| segment.max_seq).max();
        Self {
            limit: request.limit.clamp(1, MAX_LIMIT),
            window,
            end_seq: after.map_or_else(|| max_seq.map_or(0, |seq| seq + 1), |cursor| cursor.end_seq),
            total: after.map_or(Total { value: 0, relation: Relation::Eq }, |cursor| cursor.total),
            counting: after.is_none(),
            exact: request.exact_total,
            countable: is_countable(&request.query),
            after,
            newest: BinaryHeap::new(),
        }
    }

    /// Takes from a segment what belongs on the page, and counts.
    fn visit(
        &mut self,
        views: &[Arc<View>],
        place: (usize, usize),
        weight: &dyn Weight,
        guard: &Guard,
    ) -> tantivy::Result<()> {
        let view = &views[place.0];
        let segment = &view.segments[place.1];
        if !self.window.overlaps(segment.earliest_micros, segment.latest_micros) {
            return Ok(());
        }
        guard.check()?;
        let reader = view.searcher.segment_reader(segment.ord);
        if self.may_improve(segment) {
            return self.scan(segment, place, weight.scorer(reader, 1.0)?.as_mut(), guard);
        }
        if !self.counting {
            return Ok(());
        }
        let whole = self.window.encloses(segment) && segment.max_seq < self.end_seq;
        if whole && self.countable {
            self.total.value += u64::from(weight.count(reader)?);
        } else if self.exact || self.total.value < TOTAL_BOUND {
            self.scan(segment, place, weight.scorer(reader, 1.0)?.as_mut(), guard)?;
        } else {
            self.total.relation = Relation::Gte;
        }
        Ok(())
    }

    /// True if an event of the segment may belong on the page.
    fn may_improve(&self, segment: &Segment) -> bool {
        let before_cursor = self.after.is_none_or(|after| segment.earliest_micros <= after.micros);
        before_cursor && self.oldest().is_none_or(|oldest| segment.latest_micros >= oldest.micros)
    }

    /// The candidate that the next better one replaces, if the page is full.
    fn oldest(&self) -> Option<&Candidate> {
        if self.newest.len() > self.limit { self.newest.peek().map(|Reverse(oldest)| oldest) } else { None }
    }

    fn scan(
        &mut self,
        segment: &Segment,
        place: (usize, usize),
        documents: &mut dyn DocSet,
        guard: &Guard,
    ) -> tantivy::Result<()> {
        let mut docs = [0; COLLECT_BLOCK_BUFFER_LEN];
        let mut times = [None; COLLECT_BLOCK_BUFFER_LEN];
        let check_seq = segment.max_seq >= self.end_seq;
        for block in 0.. {
            if block % BLOCKS_PER_CHECK == 0 {
                guard.check()?;
            }
            let count = documents.fill_buffer(&mut docs);
            segment.times.first_vals(&docs[..count], &mut times[..count]);
            for (doc, time) in docs[..count].iter().zip(&times[..count]) {
                let micros = time.map_or(0, DateTime::into_timestamp_micros);
                if self.window.contains(micros) {
                    self.take(segment, place, *doc, micros, check_seq);
                }
            }
            if count < docs.len() {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, segment: &Segment, place: (usize, usize), doc: DocId, micros: i64, check_seq: bool) {
        if check_seq && segment.seqs.first(doc).is_none_or(|seq| seq >= self.end_seq) {
            return;
        }
        if self.counting {
            self.total.value += 1;
        }
        let too_old = self.oldest().is_some_and(|oldest| micros < oldest.micros);
        if too_old || self.after.is_some_and(|after| micros > after.micros) {
            return;
        }
        let seq = segment.seqs.first(doc).unwrap_or_default();
        if self.after.is_some_and(|after| (micros, seq) >= (after.micros, after.seq)) {
            return;
        }
        self.newest.push(Reverse(Candidate { micros, seq, place, doc }));
        if self.newest.len() > self.limit + 1 {
            self.newest.pop();
        }
    }

    fn respond(
        self,
        views: &[Arc<View>],
        request: &SearchRequest,
        key: &[u8; 32],
        guard: &Guard,
    ) -> Result<SearchResponse, SearchError> {
        let mut found = self.newest.into_sorted_vec();
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let next_cursor = found.last().filter(|_| more).map(|Reverse(last)| {
            let Candidate { micros, seq, .. } = *last;
            Cursor { micros, seq, end_seq: self.end_seq, total: self.total }.write(key, request)
        });
        // Read in the order of the store, so that each of its blocks is decompressed once.
        let mut reading: Vec<usize> = (0..found.len()).collect();
        reading.sort_unstable_by_key(|n| (found[*n].0.place, found[*n].0.doc));
        let mut hits: Vec<Option<Hit>> = found.iter().map(|_| None).collect();
        for n in reading {
            guard.check().map_err(|_| SearchError::Deadline)?;
            let Candidate { place: (v, s), doc, .. } = found[n].0;
            hits[n] = Some(hit(&views[v], &views[v].segments[s], doc)?);
        }
        Ok(SearchResponse { total: self.total, hits: hits.into_iter().flatten().collect(), next_cursor })
    }
}

/// True if counting a whole segment means reading a number or little more.
fn is_countable(query: &Predicate) -> bool {
    match query {
        Predicate::All => true,
        Predicate::Field(field, Test::Is(_)) => {
            matches!(field.target(), Target::Path(_) | Target::Cluster | Target::Format)
                && field.target().kind() == Kind::General
        }
        _ => false,
    }
}
