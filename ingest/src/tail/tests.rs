use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use watchbell_event::EventId;

use super::*;

/// A directory with log files, and a tail that reads them.
struct Bench {
    dir: tempfile::TempDir,
    tail: Tail,
    redactor: Redactor,
    now: Timestamp,
    /// What was appended: a record counts once, however often it is read.
    stored: Vec<Envelope>,
    known: HashSet<EventId>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tail = Tail::new(config(&dir, "*.log"), None);
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        Self {
            dir,
            tail,
            redactor: Redactor::new([7; 32], Vec::new()),
            now,
            stored: Vec::new(),
            known: HashSet::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Reads without committing, as if the process ended right after the append.
    fn append(&mut self) -> TailBatch {
        let mut batch = self.tail.read(self.now, &self.redactor);
        for envelope in std::mem::take(&mut batch.envelopes) {
            if self.known.insert(envelope.id) {
                self.stored.push(envelope);
            }
        }
        batch
    }

    /// Reads for some time.
    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds * 4 {
            let batch = self.append();
            self.tail.commit(&batch);
            self.now = self.now.plus_micros(250_000);
        }
    }

    /// Starts again from a state, as it is on disk.
    fn restart(&mut self, state: &TailState) {
        let text = serde_json::to_vec(state).unwrap();
        let state = serde_json::from_slice(&text).unwrap();
        self.tail = Tail::new(config(&self.dir, "*.log"), Some(state));
    }

    fn messages(&self) -> Vec<String> {
        let message = |envelope: &Envelope| -> String {
            let document: Value = serde_json::from_slice(&envelope.bytes).unwrap();
            document["message"].as_str().unwrap().to_owned()
        };
        self.stored.iter().map(message).collect()
    }
}

fn config(dir: &tempfile::TempDir, pattern: &str) -> TailConfig {
    let pattern = PathPattern::parse(&dir.path().join(pattern).to_string_lossy()).unwrap();
    let (source, cluster) = ("files".into(), "test".into());
    let source = TailSource { pattern, exclude: Vec::new(), source, cluster, format: None };
    TailConfig { sources: vec![source], ..TailConfig::default() }
}

#[test]
fn lines_are_read_as_they_are_written() {
    let mut bench = Bench::new();
    bench.write("a.log", "one\ntw");
    bench.run(1);
    assert_eq!(bench.messages(), ["one"]);
    bench.write("a.log", "o\r\n\nthree\n");
    bench.write("b.log", "2026-01-31T08:15:00.1Z stderr P four \n2026-01-31T08:15:01Z stderr F five\n");
    bench.run(2);
    assert_eq!(bench.messages(), ["one", "two", "three", "four five"]);
    let document: Value = serde_json::from_slice(&bench.stored[3].bytes).unwrap();
    assert_eq!((&document["log.iostream"], &document["log.offset"]), (&json!("stderr"), &json!(0)));
    assert_eq!(document["log.file.path"], bench.path("b.log").to_str().unwrap());
}

#[test]
fn rotated_and_removed_files_are_read_to_their_end() {
    let mut bench = Bench::new();
    bench.write("a.log", "1\n");
    bench.run(1);
    bench.write("a.log", "2\n");
    fs::rename(bench.path("a.log"), bench.path("a.log.1")).unwrap();
    bench.write("a.log", "3\n");
    bench.write("b.log", "4\n5");
    bench.run(1);
    bench.write("a.log.1", "late\n");
    bench.write("old.log.gz", "compressed\n");
    fs::remove_file(bench.path("b.log")).unwrap();
    bench.run(10);
    let mut messages = bench.messages();
    messages.sort();
    assert_eq!(messages, ["1", "2", "3", "4", "5", "late"]);
    assert_eq!(bench.tail.files.len(), 1);
}

#[test]
fn an_emptied_file_is_read_anew_even_if_it_begins_alike() {
    let mut bench = Bench::new();
    bench.write("a.log", "begin\nfirst\n");
    bench.run(1);
    fs::write(bench.path("a.log"), "").unwrap();
    bench.run(1);
    bench.write("a.log", "begin\nsecond\n");
    bench.run(1);
    // emptied and filled between two looks
    fs::write(bench.path("a.log"), "other\nthird line that is longer than what was there before\n").unwrap();
    bench.run(1);
    let expect = [
        "begin",
        "first",
        "begin",
        "second",
        "other",
        "third line that is longer than what was there before",
    ];
    assert_eq!(bench.messages(), expect);
}

#[test]
fn a_restart_goes_on_at_the_exact_byte() {
    let mut bench = Bench::new();
    bench.write("a.log", "head\n  one\n  two\nnext\n");
    let before = bench.tail.state();
    bench.append();
    assert_eq!(bench.messages(), ["head\n  one\n  two"]);
    // appended, but no position was kept
    bench.restart(&before);
    bench.run(1);
    assert_eq!(bench.messages(), ["head\n  one\n  two", "next"]);
    let state = bench.tail.state();
    bench.write("a.log", "down\n");
    fs::rename(bench.path("a.log"), bench.path("a.log.20260131")).unwrap();
    bench.write("a.log", "new\n");
    bench.restart(&state);
    bench.run(2);
    let mut messages = bench.messages();
    messages[2..].sort();
    assert_eq!(messages, ["head\n  one\n  two", "next", "down", "new"]);
}

#[test]
fn a_record_that_time_ended_is_ended_there_again_after_a_crash() {
    let mut bench = Bench::new();
    bench.write("a.log", "head\n  one\n");
    let batch = bench.append();
    bench.tail.commit(&batch);
    bench.now = bench.now.plus_micros(600_000);
    let batch = bench.append();
    assert!(batch.keep_state_first);
    let kept = bench.tail.state();
    assert_eq!(bench.messages(), ["head\n  one"]);
    bench.write("a.log", "  two\nnext\n");
    bench.restart(&kept);
    bench.run(2);
    assert_eq!(bench.messages(), ["head\n  one", "  two", "next"]);
}

#[test]
fn an_endless_line_is_cut_and_takes_nothing_with_it() {
    let mut bench = Bench::new();
    bench.write("a.log", &format!("first\n{}\nlast\n", "x".repeat(3 * TURN_BYTES)));
    bench.run(2);
    let messages = bench.messages();
    let lengths: Vec<usize> = messages.iter().map(String::len).collect();
    assert_eq!(lengths, [5, 256 << 10, 4]);
    let document: Value = serde_json::from_slice(&bench.stored[1].bytes).unwrap();
    assert_eq!(document["log.flags"], json!(["truncated"]));
}

#[test]
fn one_file_does_not_hold_up_the_others() {
    let mut bench = Bench::new();
    bench.tail.config.batch_bytes = TURN_BYTES;
    bench.write("a.log", &"a line that is repeated\n".repeat(200_000));
    bench.write("b.log", "other\nlast\n");
    let mut batches = 0;
    while !bench.stored.iter().any(|envelope| envelope.bytes.windows(7).any(|text| text == b"\"other\"")) {
        let batch = bench.append();
        bench.tail.commit(&batch);
        batches += 1;
    }
    assert!(batches <= 2, "{batches}");
}

#[test]
fn own_and_excluded_files_are_left_alone() {
    let mut bench = Bench::new();
    for pod in ["shop_web-1_u1", "watchbell_watchbell-0_u2", "noise_x-1_u3"] {
        fs::create_dir_all(bench.path(pod).join("app")).unwrap();
        bench.write(&format!("{pod}/app/0.log"), &format!("2026-01-31T08:15:00Z stdout F of {pod}\n"));
    }
    let mut config = config(&bench.dir, "*/*/*.log");
    let exclude = bench.path("noise_*/*/*.log");
    config.sources[0].exclude = vec![PathPattern::parse(&exclude.to_string_lossy()).unwrap()];
    config.own =
        OwnPod { namespace: Some("watchbell".to_owned()), name: Some("watchbell-0".to_owned()), uid: None };
    bench.tail = Tail::new(config, None);
    bench.run(2);
    assert_eq!(bench.messages(), ["of shop_web-1_u1"]);
    let document: Value = serde_json::from_slice(&bench.stored[0].bytes).unwrap();
    for (field, expect) in [
        ("orchestrator.namespace", "shop"),
        ("orchestrator.resource.name", "web-1"),
        ("orchestrator.resource.id", "u1"),
        ("container.name", "app"),
    ] {
        assert_eq!(document[field], expect, "{field}");
    }
}

#[test]
fn a_crash_after_a_file_was_emptied_hides_nothing_that_begins_alike() {
    let mut bench = Bench::new();
    bench.write("a.log", "begin\nfirst\n");
    bench.run(2);
    fs::write(bench.path("a.log"), "").unwrap();
    let batch = bench.append();
    assert!(batch.keep_state_first);
    let kept = bench.tail.state();
    bench.restart(&kept);
    bench.write("a.log", "begin\nsecond\n");
    bench.run(2);
    assert_eq!(bench.messages(), ["begin", "first", "begin", "second"]);
}

#[test]
fn a_file_is_kept_before_its_first_records_are_appended() {
    let mut bench = Bench::new();
    bench.write("a.log", "one\ntwo\n");
    let batch = bench.append();
    assert!(batch.keep_state_first);
    let kept = bench.tail.state();
    fs::rename(bench.path("a.log"), bench.path("a.log.20260131")).unwrap();
    bench.restart(&kept);
    bench.run(2);
    assert_eq!(bench.messages(), ["one", "two"]);
}
