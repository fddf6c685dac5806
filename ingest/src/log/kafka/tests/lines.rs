//! Topics of log records.

use std::collections::HashSet;
use std::time::Duration;

use watchbell_event::{Format, Positions, Record};

use super::run;
use crate::log::kafka::testing::*;
use crate::log::kafka::{TopicFormat, TopicReader, WHOLE_MESSAGE};

/// Messages of log lines in all forms, and how many lines they hold.
fn fill_with_lines(cluster: &Cluster) -> usize {
    let agent =
        r#"{"@timestamp":1700000000.5,"log":"agent\n","stream":"stderr","kubernetes":{"pod_name":"web-0"}}"#;
    let messages = [
        (1, agent.to_owned()),
        (2, format!("[{agent},{agent}]")),
        (3, format!("{agent}\n{agent}{agent}")),
        (1, r#"[1700000000, {"log":"pair"}]"#.to_owned()),
        (2, "plain text\r\n\nsecond\n".to_owned()),
        (1, "2026-01-31T08:15:00.123456789Z stdout F from a container".to_owned()),
        (1, "equal".to_owned()),
        (1, "equal".to_owned()),
        (0, String::new()),
        (1, format!("[{agent}, {{\"log\":\"cut")),
    ];
    for (partition, message) in messages.iter().enumerate().map(|(at, (_, message))| (at % 2, message)) {
        cluster.produce("a", i32::try_from(partition).unwrap(), 10, message.as_bytes());
    }
    messages.iter().map(|(lines, _)| lines).sum()
}

#[test]
fn lines_in_all_forms_are_events_by_their_place() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        let expect = fill_with_lines(&cluster);
        let topics = cluster.open_records("a", TopicFormat::Logs);
        let mut found = Vec::new();
        for name in ["detect", "index"] {
            let mut reader = topics.reader(name, &Positions::default()).unwrap();
            let mut records = read(&mut reader, expect).await.0;
            expect_no_lines(&mut reader).await;
            records.sort_by_key(|record| record.position);
            found.push(records);
        }
        assert_eq!(found[0], found[1]);
        let records = &found[0];
        assert!(records.iter().all(|record| record.envelope.format == Format::Log));
        let ids: HashSet<_> = records.iter().map(|record| record.envelope.id).collect();
        assert_eq!((records.len(), ids.len()), (expect, expect));
        let mut said: Vec<String> = records.iter().map(said).collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said, ["agent", "equal", "from a container", "pair", "plain text", "second"]);
        let document: serde_json::Value = serde_json::from_slice(&records[0].envelope.bytes).unwrap();
        assert_eq!(document["orchestrator.resource.name"], "web-0", "{document}");
        let kept = cluster.quarantine().list(100, None).unwrap();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert!(kept[0].place.starts_with("partition 1, offset 4: event 1 at byte"), "{kept:?}");

        let tallies = topics.take_tallies("index");
        let [(topic, tally)] = tallies.as_slice() else { panic!("{tallies:?}") };
        assert_eq!((&*topic.source(), tally.messages, tally.rejected), ("kafka/a", 10, 1));
        assert_eq!((tally.events, tally.duplicates), (expect as u64, 0));
        assert!(topics.take_tallies("index").is_empty());
    });
}

#[test]
fn a_reader_of_lines_goes_on_within_a_message() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        let expect = fill_with_lines(&cluster);
        let (mut at, mut records) = (Positions::default(), Vec::new());
        while records.len() < expect {
            let topics = cluster.open_records("a", TopicFormat::Logs);
            let mut reader = topics.reader("index", &at).unwrap();
            let batch = next(&mut reader, 1).await;
            batch.next.iter().for_each(|(partition, next)| at.set_next(partition, next));
            records.extend(batch.records);
        }
        let ids: HashSet<_> = records.iter().map(|record| record.envelope.id).collect();
        assert_eq!((records.len(), ids.len()), (expect, expect));
    });
}

#[test]
fn requests_of_open_telemetry_are_read_in_both_forms_and_their_repetitions_known() {
    const PROTOBUF: &[u8] = include_bytes!("../../../decode/logs/otlp/fixtures/request.pb");
    const JSON: &[u8] = include_bytes!("../../../decode/logs/otlp/fixtures/request.json");
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        // of the two records of a request, one says exactly when it was; the second may be another one like it
        let messages = [(PROTOBUF, 2), (JSON, 2), (b"", 0), (b"{", 0), (b"no request", 0), (PROTOBUF, 1)];
        messages.iter().for_each(|(message, _)| cluster.produce("a", 0, 10, message));
        let expect = messages.iter().map(|(_, records)| records).sum();
        let topics = cluster.open_records("a", TopicFormat::Otlp);
        let mut reader = topics.reader("index", &Positions::default()).unwrap();
        let records = read(&mut reader, expect).await.0;
        expect_no_lines(&mut reader).await;
        let mut said: Vec<String> = records.iter().map(said).collect();
        said.sort_unstable();
        let login = "Failed password for root from 203.0.113.9 port 22 ssh2";
        assert_eq!(said, [login, login, "started", "started", "started"]);
        assert_eq!(topics.status().topics[0].format, Some("otlp"));
        let kept = cluster.quarantine().list(100, None).unwrap();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept.iter().all(|entry| entry.place.ends_with(WHOLE_MESSAGE)), "{kept:?}");
    });
}

/// The text of a line.
fn said(record: &Record) -> String {
    let document: serde_json::Value = serde_json::from_slice(&record.envelope.bytes).unwrap();
    document["message"].as_str().unwrap().to_owned()
}

async fn expect_no_lines(reader: &mut TopicReader) {
    while let Ok(batch) = tokio::time::timeout(Duration::from_millis(700), reader.next(10, 1 << 20)).await {
        assert!(batch.unwrap().records.is_empty());
    }
}
