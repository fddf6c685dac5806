//! Runs a compiled query over the segments and keeps the newest hits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use tantivy::query::{EnableScoring, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DateTime, DocId, DocSet};
use watchbell_event::predicate::{Kind, Predicate, Target, Test};

use super::compile::Compiler;
use super::cursor::Cursor;
use super::lookup::Guard;
use super::snapshot::{Searcher, hit, read_failed};
use super::window::{Span, Window};
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
        guard.verdict()?;
        let (views, page) = result?;
        page.respond(&views, request, key, &guard)
    }

    fn page(
        &self,
        request: &SearchRequest,
        after: Option<Cursor>,
        guard: &Arc<Guard>,
    ) -> Result<(Vec<Arc<View>>, Page), SearchError> {
        let published = self.shared.published();
        let mut partitions: Vec<_> = published.partitions.iter().collect();
        partitions.sort_by_key(|partition| Reverse(partition.span.latest));
        let mut page = Page::new(request, after, published.end_seq);
        let mut views: Vec<Arc<View>> = Vec::new();
        for partition in partitions {
            // What is not needed is not even opened.
            if page.need(partition.span) == Need::Nothing {
                continue;
            }
            let Some(view) = partition.view()? else { continue };
            let weight = compile(&view, &request.query, guard).map_err(read_failed())?;
            let mut order: Vec<usize> = (0..view.segments.len()).collect();
            order.sort_by_key(|s| Reverse(view.segments[*s].span.latest));
            for s in order {
                page.visit(&view, (views.len(), s), weight.as_ref(), guard).map_err(read_failed())?;
            }
            views.push(view);
        }
        Ok((views, page))
    }
}

pub(super) fn compile(
    view: &View,
    query: &Predicate,
    guard: &Arc<Guard>,
) -> tantivy::Result<Box<dyn Weight>> {
    let query = Compiler { columns: &view.columns, guard }.query(query);
    query.weight(EnableScoring::disabled_from_searcher(&view.searcher))
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

/// What a page needs of a part of the index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Count,
    Hits,
}

impl Page {
    fn new(request: &SearchRequest, after: Option<Cursor>, end_seq: u64) -> Self {
        Self {
            limit: request.limit.clamp(1, MAX_LIMIT),
            window: Window::of(request),
            end_seq: after.map_or(end_seq, |cursor| cursor.end_seq),
            total: after.map_or(Total { value: 0, relation: Relation::Eq }, |cursor| cursor.total),
            counting: after.is_none(),
            exact: request.exact_total,
            countable: is_countable(&request.query),
            after,
            newest: BinaryHeap::new(),
        }
    }

    /// What is needed of events that happened in this span; notes if they are left out of the total.
    fn need(&mut self, span: Span) -> Need {
        if !self.window.overlaps(span) {
            return Need::Nothing;
        }
        let before_cursor = self.after.is_none_or(|after| span.earliest <= after.micros);
        if before_cursor && self.oldest().is_none_or(|oldest| span.latest >= oldest.micros) {
            return Need::Hits;
        }
        if !self.counting {
            return Need::Nothing;
        }
        if self.exact || self.countable || self.total.value < TOTAL_BOUND {
            return Need::Count;
        }
        self.total.relation = Relation::Gte;
        Need::Nothing
    }

    /// Takes from a segment what belongs on the page, and counts.
    fn visit(
        &mut self,
        view: &View,
        place: (usize, usize),
        weight: &dyn Weight,
        guard: &Guard,
    ) -> tantivy::Result<()> {
        guard.check()?;
        let segment = &view.segments[place.1];
        let reader = view.searcher.segment_reader(segment.ord);
        let whole = self.window.encloses(segment.span) && segment.max_seq < self.end_seq;
        match self.need(segment.span) {
            Need::Nothing => Ok(()),
            Need::Count if whole && self.countable => {
                self.total.value += u64::from(weight.count(reader)?);
                Ok(())
            }
            Need::Count | Need::Hits => {
                self.scan(segment, place, weight.scorer(reader, 1.0)?.as_mut(), guard)
            }
        }
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
