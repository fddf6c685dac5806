//! One partition as searches see it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tantivy::columnar::Column;
use tantivy::{DateTime, IndexReader, ReloadPolicy};
use watchbell_event::Timestamp;

use super::events::Events;
use super::payload;
use crate::IndexError;
use crate::schema::{Columns, SEQ, TIMESTAMP};
use crate::words;

/// The directory of the partitions.
pub(super) const DIR: &str = "partitions";
/// Begins the name of a partition that is being removed.
pub(super) const GONE: &str = "gone-";
/// How many blocks of stored events each segment keeps decompressed; a block has 256 kB. What is shown together mostly
/// stands together, and there may be many segments.
const STORE_CACHE_BLOCKS: usize = 1;
const DAY_MICROS: i64 = 86_400_000_000;

/// What the manifest says of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Nothing is written to it any more.
    pub(super) sealed: bool,
    /// Committed documents.
    pub(super) documents: u64,
    /// When its events happened.
    #[serde(flatten)]
    pub(super) span: Span,
}

/// The name of a partition: its number, then the day.
pub(super) fn name(number: u64, day: i64) -> String {
    // A clock far off must not make a name that is not recognised later.
    let day = day.clamp(0, 2_932_896);
    let date = Timestamp::from_micros(day * DAY_MICROS).to_string();
    format!("{number:08}-{}", &date[..10])
}

/// The number in a partition's name.
pub(super) fn number(name: &str) -> Option<u64> {
    let (number, _) = name.split_once('-')?;
    day(name).and(number.parse().ok())
}

/// The day in a partition's name, since the epoch.
pub(super) fn day(name: &str) -> Option<i64> {
    let (_, date) = name.split_once('-')?;
    format!("{date}T00:00:00Z").parse::<Timestamp>().ok().map(Timestamp::day)
}

/// A partition that searches can use. It is opened when the first search needs it.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(super) name: String,
    dir: PathBuf,
    pub(crate) documents: u64,
    pub(crate) span: Span,
    view: Mutex<Option<Arc<View>>>,
    retired: AtomicBool,
}

impl Partition {
    /// A partition to be opened when it is needed.
    pub(super) fn closed(name: &str, dir: PathBuf, entry: &Entry) -> Self {
        Self {
            name: name.to_owned(),
            dir,
            documents: entry.documents,
            span: entry.span,
            view: Mutex::new(None),
            retired: AtomicBool::new(false),
        }
    }

    /// A partition that is open already.
    pub(super) fn opened(name: &str, dir: PathBuf, view: View) -> Self {
        let closed = Self::closed(name, dir, &view.entry());
        Self { view: Mutex::new(Some(Arc::new(view))), ..closed }
    }

    /// The segments, or nothing if retention removed the partition meanwhile.
    pub(crate) fn view(&self) -> Result<Option<Arc<View>>, IndexError> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = &*view {
            return Ok(Some(Arc::clone(view)));
        }
        match open(&self.dir) {
            Ok(opened) => Ok(Some(Arc::clone(view.insert(Arc::new(opened))))),
            Err(_) if self.retired.load(Ordering::Acquire) => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.view.lock().unwrap().is_some()
    }

    /// Says that the files are about to go. What is open stays readable: its files are mapped or held open.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

fn open(dir: &Path) -> Result<View, IndexError> {
    let index = open_index(dir)?;
    let blocks = payload::read(&index, dir)?.unwrap_or_default().blocks;
    View::new(&reader(&index)?, Events::open(dir, blocks)?)
}

/// Opens a partition's tantivy index, if it has today's schema.
pub(super) fn open_index(dir: &Path) -> Result<tantivy::Index, IndexError> {
    let opened = tantivy::Index::open_in_dir(dir);
    let index = opened.map_err(IndexError::tantivy("open a partition of the index"))?;
    index.tokenizers().register(words::NAME, words::WordTokenizer);
    if index.schema() == Columns::build().0 {
        return Ok(index);
    }
    let reason = "another version of this program made it".to_owned();
    Err(IndexError::Corrupt { path: dir.to_owned(), reason })
}

/// A reader that is reloaded only when told to.
pub(super) fn reader(index: &tantivy::Index) -> Result<IndexReader, IndexError> {
    index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .doc_store_cache_num_blocks(STORE_CACHE_BLOCKS)
        .try_into()
        .map_err(IndexError::tantivy("open a partition of the index"))
}

/// The committed state of a partition, which does not change.
pub(crate) struct View {
    pub(crate) searcher: tantivy::Searcher,
    pub(crate) columns: Columns,
    pub(crate) segments: Vec<Segment>,
    pub(crate) events: Arc<Events>,
}

/// What every search needs of a segment.
pub(crate) struct Segment {
    pub(crate) ord: u32,
    pub(crate) times: Column<DateTime>,
    pub(crate) seqs: Column<u64>,
    pub(crate) span: Span,
    pub(crate) min_seq: u64,
    pub(crate) max_seq: u64,
}

/// When the first and the last event of a part of the index happened, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    #[serde(rename = "earliest_micros")]
    pub(crate) earliest: i64,
    #[serde(rename = "latest_micros")]
    pub(crate) latest: i64,
}

impl Span {
    /// Where there is no event.
    pub(crate) const NONE: Self = Self { earliest: i64::MAX, latest: i64::MIN };

    pub(crate) fn contains(self, micros: i64) -> bool {
        (self.earliest..=self.latest).contains(&micros)
    }

    fn with(self, other: Self) -> Self {
        Self { earliest: self.earliest.min(other.earliest), latest: self.latest.max(other.latest) }
    }
}

impl View {
    pub(super) fn new(reader: &IndexReader, events: Arc<Events>) -> Result<Self, IndexError> {
        let failed = || IndexError::tantivy("read a segment of the index");
        let searcher = reader.searcher();
        let mut segments = Vec::new();
        for (ord, segment) in (0..).zip(searcher.segment_readers()) {
            let times = segment.fast_fields().date(TIMESTAMP).map_err(failed())?;
            let seqs = segment.fast_fields().u64(SEQ).map_err(failed())?;
            segments.push(Segment {
                ord,
                span: Span {
                    earliest: times.min_value().into_timestamp_micros(),
                    latest: times.max_value().into_timestamp_micros(),
                },
                min_seq: seqs.min_value(),
                max_seq: seqs.max_value(),
                times,
                seqs,
            });
        }
        Ok(Self { searcher, columns: Columns::build().1, segments, events })
    }

    /// What the manifest says of a partition in this state, not sealed.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            sealed: false,
            documents: self.searcher.num_docs(),
            span: self.segments.iter().map(|segment| segment.span).fold(Span::NONE, Span::with),
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}
