//! A good journal, made once per run.

use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use watchbell_event::{Envelope, EventId, Format, Record, Timestamp};
use watchbell_ingest::log::{Journal, JournalConfig, Log};

/// The only segment's file.
pub(crate) const SEGMENT: &str = "00000000000000000000.wbj";
/// Records of each append; each append becomes one frame.
const APPENDS: [u16; 6] = [1, 3, 2, 1, 4, 1];

pub(crate) static GOOD: LazyLock<Good> = LazyLock::new(make);

/// What stands in the journal's files.
pub(crate) struct Good {
    pub(crate) meta: Vec<u8>,
    pub(crate) segment: Vec<u8>,
    /// Where each frame begins, and where the last one ends.
    pub(crate) bounds: Vec<usize>,
    /// Number of the first record of each frame, and of the record after the last.
    pub(crate) firsts: Vec<usize>,
    pub(crate) records: Vec<Record>,
}

impl Good {
    /// The bytes of a frame.
    pub(crate) fn frame(&self, number: usize) -> &[u8] {
        &self.segment[self.bounds[number]..self.bounds[number + 1]]
    }

    pub(crate) fn frames(&self) -> usize {
        APPENDS.len()
    }
}

fn make() -> Good {
    let directory = directory();
    let path = directory.path();
    let (mut bounds, mut firsts, mut records) = (vec![0], vec![0], Vec::new());
    runtime().block_on(async {
        let log = Log::Disk(Journal::open(path, config()).expect("a new directory"));
        for count in APPENDS {
            let start = u16::try_from(records.len()).expect("few records");
            let envelopes: Vec<Envelope> = (start..start + count).map(envelope).collect();
            let positions = log.append(&envelopes).await.expect("a free disk");
            let appended = positions.into_iter().zip(envelopes);
            records.extend(appended.map(|(position, envelope)| Record { position, envelope }));
            bounds.push(read(path, SEGMENT).len());
            firsts.push(records.len());
        }
        log.close().await;
    });
    Good { meta: read(path, "journal"), segment: read(path, SEGMENT), bounds, firsts, records }
}

fn read(directory: &Path, file: &str) -> Vec<u8> {
    std::fs::read(directory.join(file)).expect("a file of the journal")
}

/// An envelope that differs from all others.
pub(crate) fn envelope(number: u16) -> Envelope {
    let received_at = Timestamp::from_micros(1_770_000_000_000_000 + i64::from(number));
    Envelope {
        id: EventId([number.to_be_bytes()[1]; 16]),
        received_at,
        event_time: received_at,
        source: "audit".into(),
        cluster: if number % 2 == 0 { "one".into() } else { "two".into() },
        format: Format::KubernetesAudit,
        peer: (number % 3 == 0).then(|| [10, 0, 0, 1].into()),
        history: number % 5 == 0,
        bytes: format!(r#"{{"auditID":"event {number}","verb":"get"}}"#).into(),
    }
}

pub(crate) fn config() -> JournalConfig {
    JournalConfig { group_wait_micros: 0, keep_free_bytes: 0, ..JournalConfig::default() }
}

/// An empty directory, in memory if the machine has such a file system.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("room for a directory")
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().build().expect("a runtime"))
}
