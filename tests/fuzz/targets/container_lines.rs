//! Files of containers, as CRI and Docker write them: whatever stands in one, its documents are sound and say where they
//! come from, and reading it in two parts with a restart between gives the same records as reading it at once.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use watchbell_event::{EventId, Timestamp};
use watchbell_fuzz::documents::{redactor, sound};
use watchbell_ingest::decode::logs::{CriLine, DockerLine};
use watchbell_ingest::tail::{LineLimits, PathPattern, Tail, TailConfig, TailSource, TailState};

/// Longer than any record waits for what follows.
const LATER_MICROS: i64 = 60_000_000;

fuzz_target!(|data: &[u8]| {
    let _ = (CriLine::parse(data), DockerLine::parse(data));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shop_web-1_6f1c/app/0.log");
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    let (first, second) = data.split_at(data.len() / 2);
    append(&path, first);
    let mut records = Records::new();
    let state = read(directory.path(), None, false, &mut records);
    append(&path, second);
    read(directory.path(), Some(state), true, &mut records);
    let mut at_once = Records::new();
    read(directory.path(), None, true, &mut at_once);
    assert_eq!(records, at_once);
});

/// What a record says, and where in the file.
type Records = BTreeMap<EventId, (Value, Value)>;

fn append(path: &PathBuf, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    file.write_all(bytes).expect("room on the disk");
}

/// Reads to the end, and if nothing follows, what waited for it.
fn read(directory: &Path, state: Option<TailState>, is_last: bool, records: &mut Records) -> TailState {
    let mut tail = Tail::new(config(directory), state);
    let now = Timestamp::from_micros(1_770_000_000_000_000);
    let times = if is_last { &[0, LATER_MICROS][..] } else { &[0] };
    for later in times {
        loop {
            let batch = tail.read(now.plus_micros(*later), &redactor());
            for envelope in &batch.envelopes {
                let document = sound(envelope);
                assert_eq!(document["orchestrator.namespace"], "shop");
                assert_eq!(document["container.name"], "app");
                let said = (document["message"].clone(), document["log.offset"].clone());
                let before = records.insert(envelope.id, said.clone());
                assert!(before.is_none_or(|before| before == said), "one identity for two records");
            }
            tail.commit(&batch);
            if !batch.more {
                break;
            }
        }
    }
    tail.state()
}

fn config(directory: &Path) -> TailConfig {
    let pattern = format!("{}/*/*/*.log", directory.display());
    let source = TailSource {
        pattern: PathPattern::parse(&pattern).expect("a pattern"),
        exclude: Vec::new(),
        source: "files".into(),
        cluster: "fuzzed".into(),
        format: None,
    };
    let lines = LineLimits { record_bytes: 256, record_lines: 4, ..LineLimits::default() };
    TailConfig { sources: vec![source], lines, ..TailConfig::default() }
}
