//! The leaves of a compiled query: which terms of which dictionaries hold the matching documents.
//!
//! A value that is known exactly is one term. Everything else walks through the part of a dictionary in which
//! matching terms can stand and asks the test itself about each, so the index answers as the plain evaluator
//! does. Walks look at the clock and count what they find.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tantivy::postings::TermInfo;
use tantivy::query::{
    BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, SegmentReader, TantivyError, u64_to_f64, u64_to_i64};
use watchbell_event::predicate::{Kind, MAX_VALUE_BYTES, Number, Scalar, Test};

use crate::SearchError;

/// How many distinct values the patterns and ranges of one search may match.
pub(super) const MAX_EXPANDED_VALUES: u64 = 2_000_000;
/// How many terms are looked at between two looks at the clock.
const TERMS_PER_CHECK: u32 = 256;
/// What ends a path in the dictionary of `rest`; the type of the value follows.
pub(super) const PATH_END: u8 = 0;
/// The bytes that `indexed_text` appends to a text that was cut: an ellipsis and 32 digits.
const CUT_SUFFIX_BYTES: usize = 35;

/// Bounds what one search may cost.
#[derive(Debug)]
pub(super) struct Guard {
    deadline: Instant,
    expired: AtomicBool,
    values: AtomicU64,
}

impl Guard {
    pub(super) fn new(deadline: Instant) -> Arc<Self> {
        Arc::new(Self { deadline, expired: AtomicBool::new(false), values: AtomicU64::new(0) })
    }

    /// Fails when time is up.
    pub(super) fn check(&self) -> tantivy::Result<()> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        self.expired.store(true, Ordering::Relaxed);
        Err(TantivyError::InternalError("the deadline has passed".to_owned()))
    }

    /// How many values matched so far.
    #[cfg(test)]
    pub(super) fn values(&self) -> u64 {
        self.values.load(Ordering::Relaxed)
    }

    fn count_value(&self) -> tantivy::Result<()> {
        if self.values.fetch_add(1, Ordering::Relaxed) < MAX_EXPANDED_VALUES {
            return Ok(());
        }
        Err(TantivyError::InternalError("too many values match".to_owned()))
    }

    /// Why it had to stop, if it had to; goes before what the index then said.
    pub(super) fn verdict(&self) -> Result<(), SearchError> {
        if self.expired.load(Ordering::Relaxed) {
            metrics::counter!("watchbell_search_deadline_total").increment(1);
            return Err(SearchError::Deadline);
        }
        if self.values.load(Ordering::Relaxed) > MAX_EXPANDED_VALUES {
            metrics::counter!("watchbell_search_too_many_values_total").increment(1);
            return Err(SearchError::TooManyValues(MAX_EXPANDED_VALUES));
        }
        Ok(())
    }
}

/// Where matching documents are listed.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// Under one term.
    Term(Field, Vec<u8>),
    /// Under all terms of a range that the filter accepts.
    Walk { field: Field, first: Vec<u8>, end: Option<Vec<u8>>, filter: Filter },
}

/// Which terms of a walk match.
#[derive(Clone, Debug)]
pub(super) enum Filter {
    /// The text passes.
    Text(Test),
    /// The number passes.
    Number(Test),
    /// The address passes.
    Address(Test),
    /// The value of a path in `rest` passes; its bytes begin here.
    Rest(Test, Kind, usize),
    /// The list of paths has this one, or one below it.
    Path { whole: String, parent: String },
}

impl Filter {
    fn accepts(&self, term: &[u8]) -> bool {
        match self {
            Self::Text(test) => text(term).is_some_and(|value| test.accepts(Kind::General, &value)),
            Self::Number(test) => unsigned(term)
                .is_some_and(|number| test.accepts(Kind::General, &Scalar::Number(Number::from(number)))),
            Self::Address(test) => <[u8; 16]>::try_from(term)
                .is_ok_and(|octets| test.accepts_address(IpAddr::V6(Ipv6Addr::from_octets(octets)))),
            Self::Rest(test, kind, start) => {
                term.get(*start..).and_then(rest_value).is_some_and(|value| test.accepts(*kind, &value))
            }
            Self::Path { whole, parent } => {
                std::str::from_utf8(term).is_ok_and(|paths| paths.contains(whole) || paths.contains(parent))
            }
        }
    }
}

/// The value of an indexed text; of one that was cut only what is visible.
fn text(bytes: &[u8]) -> Option<Scalar<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let visible =
        if text.len() > MAX_VALUE_BYTES { text.len().saturating_sub(CUT_SUFFIX_BYTES) } else { text.len() };
    Some(Scalar::Text(text.get(..visible)?.into()))
}

fn unsigned(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// A value in `rest`: a byte for its type, then its bytes.
fn rest_value(bytes: &[u8]) -> Option<Scalar<'_>> {
    let (kind, value) = bytes.split_first()?;
    Some(match kind {
        b's' => return text(value),
        b'i' => Scalar::Number(Number::from(u64_to_i64(unsigned(value)?))),
        b'u' => Scalar::Number(Number::from(unsigned(value)?)),
        b'f' => Scalar::Number(Number::from(u64_to_f64(unsigned(value)?))),
        b'o' => Scalar::Bool(unsigned(value)? != 0),
        _ => return None,
    })
}

/// Documents listed in any of some places.
#[derive(Clone)]
pub(super) struct Lookup {
    sources: Arc<[Source]>,
    guard: Arc<Guard>,
}

impl Lookup {
    pub(super) fn new(sources: Vec<Source>, guard: &Arc<Guard>) -> Self {
        Self { sources: sources.into(), guard: Arc::clone(guard) }
    }

    /// The terms that list the matching documents of a segment.
    fn terms(&self, reader: &SegmentReader) -> tantivy::Result<Vec<(Field, TermInfo)>> {
        self.guard.check()?;
        let mut found = Vec::new();
        for source in &*self.sources {
            match source {
                Source::Term(field, key) => {
                    let term = reader.inverted_index(*field)?.terms().get(key)?;
                    found.extend(term.map(|term| (*field, term)));
                }
                Source::Walk { field, first, end, filter } => {
                    self.walk(reader, *field, first, end.as_deref(), filter, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    fn walk(
        &self,
        reader: &SegmentReader,
        field: Field,
        first: &[u8],
        end: Option<&[u8]>,
        filter: &Filter,
        found: &mut Vec<(Field, TermInfo)>,
    ) -> tantivy::Result<()> {
        let index = reader.inverted_index(field)?;
        let range = index.terms().range().ge(first);
        let range = if let Some(end) = end { range.lt(end) } else { range };
        let mut terms = range.into_stream()?;
        let mut until_check = TERMS_PER_CHECK;
        while terms.advance() {
            until_check -= 1;
            if until_check == 0 {
                self.guard.check()?;
                until_check = TERMS_PER_CHECK;
            }
            if filter.accepts(terms.key()) {
                self.guard.count_value()?;
                found.push((field, terms.value().clone()));
            }
        }
        Ok(())
    }

    fn union(&self, reader: &SegmentReader, terms: &[(Field, TermInfo)]) -> tantivy::Result<BitSet> {
        let mut documents = BitSet::with_max_value(reader.max_doc());
        for (field, term) in terms {
            self.guard.check()?;
            let index = reader.inverted_index(*field)?;
            let mut blocks = index.read_block_postings_from_terminfo(term, IndexRecordOption::Basic)?;
            while !blocks.docs().is_empty() {
                for doc in blocks.docs() {
                    documents.insert(*doc);
                }
                blocks.advance();
            }
        }
        Ok(documents)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.sources).finish()
    }
}

impl Query for Lookup {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Lookup {
    fn scorer(&self, reader: &SegmentReader, boost: f32) -> tantivy::Result<Box<dyn Scorer>> {
        let terms = self.terms(reader)?;
        Ok(match terms.as_slice() {
            [] => Box::new(EmptyScorer),
            [(field, term)] => {
                let index = reader.inverted_index(*field)?;
                let postings = index.read_postings_from_terminfo(term, IndexRecordOption::Basic)?;
                Box::new(ConstScorer::new(postings, boost))
            }
            _ => Box::new(ConstScorer::new(BitSetDocSet::from(self.union(reader, &terms)?), boost)),
        })
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("listed", 1.0))
    }

    fn count(&self, reader: &SegmentReader) -> tantivy::Result<u32> {
        // No document is ever deleted from a segment.
        let terms = self.terms(reader)?;
        match terms.as_slice() {
            [] => Ok(0),
            [(_, term)] => Ok(term.doc_freq),
            _ => Ok(u32::try_from(self.union(reader, &terms)?.len()).unwrap_or(u32::MAX)),
        }
    }
}
