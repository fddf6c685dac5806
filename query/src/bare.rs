//! tantivy with the schema, settings, merge policy and documents of [`crate::Index`] and nothing around it,
//! so that a benchmark can tell what tantivy costs and what we add.
//!
//! ```no_run
//! # fn main() -> tantivy::Result<()> {
//! # let (dir, envelopes) = (std::path::Path::new("."), Vec::<watchbell_event::Envelope>::new());
//! let index = watchbell_query::bare::create(dir)?;
//! let mut writer = watchbell_query::bare::writer(&index, watchbell_query::Config::default().heap_bytes)?;
//! let documents = watchbell_query::bare::documents();
//! for (seq, envelope) in envelopes.iter().enumerate() {
//!     writer.add_document(documents.build(envelope, seq as u64))?;
//! }
//! writer.commit()?; // every second, as the server does
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use tantivy::directory::MmapDirectory;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::store::{Compressor, ZstdCompressor};
use tantivy::{Index, IndexSettings, IndexWriter};

pub use crate::document::{DocumentBuilder, EventDocument};
use crate::schema::Columns;
use crate::words;

/// How much of the stored events is compressed together, in bytes. With blocks of 64 kB the stored events take 30 % more
/// room and 35 % more time to compress; but to show one event, all of its block is decompressed, which here takes 0.2 ms.
const STORE_BLOCK_BYTES: usize = 256 << 10;
/// Level 3 would make the index 2 % smaller, and compressing a quarter dearer.
const STORE_ZSTD_LEVEL: i32 = 1;
/// How many segments of one size are merged into one. Each event is merged once for each size that there is, and each
/// search looks into all segments: with 8, a fifth more would be merged.
const MERGE_SEGMENTS: usize = 12;
/// By how much merges step back behind everything that somebody waits for.
const MERGE_NICENESS: i32 = 10;
/// Segments with fewer documents count as of one size.
const SMALL_SEGMENT_DOCUMENTS: u32 = 10_000;

/// Creates an index in an empty directory.
///
/// # Errors
/// If the directory cannot be written or has an index.
pub fn create(dir: &Path) -> tantivy::Result<Index> {
    let settings = IndexSettings {
        docstore_compression: Compressor::Zstd(ZstdCompressor { compression_level: Some(STORE_ZSTD_LEVEL) }),
        docstore_blocksize: STORE_BLOCK_BYTES,
        ..IndexSettings::default()
    };
    let index = Index::create(MmapDirectory::open(dir)?, Columns::build().0, settings)?;
    index.tokenizers().register(words::NAME, words::WordTokenizer);
    Ok(index)
}

/// A writer with one indexing thread and one merge thread.
///
/// # Errors
/// If the index has a writer already, or `heap_bytes` is below 15 MB.
pub fn writer(index: &Index, heap_bytes: usize) -> tantivy::Result<IndexWriter<EventDocument>> {
    // Threads inherit the priority of the thread that starts them. Those that merge are started here, once;
    // the indexing thread is started anew with each commit, by whoever commits.
    let opened = std::thread::scope(|scope| {
        let opening = std::thread::Builder::new().name("index-open".to_owned()).spawn_scoped(scope, || {
            // Elsewhere this would slow down the whole process.
            if cfg!(target_os = "linux")
                && let Err(error) = rustix::process::nice(MERGE_NICENESS)
            {
                tracing::debug!(%error, "merges run at the priority of everything else");
            }
            open_writer(index, heap_bytes)
        });
        opening.map(|opening| opening.join())
    });
    match opened? {
        Ok(writer) => writer,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn open_writer(index: &Index, heap_bytes: usize) -> tantivy::Result<IndexWriter<EventDocument>> {
    let options = IndexWriterOptions::builder()
        .num_worker_threads(1)
        .num_merge_threads(1)
        .memory_budget_per_thread(heap_bytes)
        .build();
    let writer = index.writer_with_options(options)?;
    let mut policy = LogMergePolicy::default();
    policy.set_min_num_segments(MERGE_SEGMENTS);
    policy.set_min_layer_size(SMALL_SEGMENT_DOCUMENTS);
    writer.set_merge_policy(Box::new(policy));
    Ok(writer)
}

/// Makes documents for such an index.
#[must_use]
pub fn documents() -> DocumentBuilder {
    DocumentBuilder::new(Columns::build().1)
}
