//! One suite for all logs.

use std::time::Duration;

use super::journal::JournalConfig;
use super::*;
use crate::quarantine::{Quarantine, QuarantineConfig};
use crate::testing::envelope;

fn memory() -> Log {
    Log::Memory(MemoryLog::new(1 << 20))
}

fn config() -> JournalConfig {
    JournalConfig { group_wait_micros: 0, keep_free_bytes: 0, ..JournalConfig::default() }
}

/// A journal beside topics of which none is there.
fn joined(directory: &std::path::Path) -> Log {
    let journal = Journal::open(&directory.join("journal"), config()).unwrap();
    let quarantine = Quarantine::open(&directory.join("quarantine"), QuarantineConfig::default()).unwrap();
    let kafka = kafka::testing::config("127.0.0.1:1", &["none"]);
    let topics = kafka::Topics::open(directory, kafka, Arc::new(quarantine)).unwrap();
    Log::Joined(Joined { journal, topics })
}

/// Runs a test on all logs.
fn on_all(test: impl AsyncFn(Log)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        test(memory()).await;
        let directory = tempfile::tempdir().unwrap();
        test(Log::Disk(Journal::open(directory.path(), config()).unwrap())).await;
        let directory = tempfile::tempdir().unwrap();
        test(joined(directory.path())).await;
    });
}

/// Runs a test on a topic of Kafka, too.
fn on_kafka_too(test: impl AsyncFn(Log)) {
    on_all(async |log| test(log).await);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = kafka::testing::Cluster::with_topics(&["own"]);
        test(cluster.own_log()).await;
    });
}

/// Reads until `count` records are there.
async fn read(reader: &mut LogReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.extend(reader.next(7, 1 << 20).await.unwrap().records);
    }
    records
}

#[test]
fn what_is_appended_is_read_in_order_with_its_positions() {
    on_all(async |log| {
        let envelopes: Vec<Envelope> = (0..50).map(envelope).collect();
        let mut expect = Vec::new();
        for chunk in envelopes.chunks(13) {
            expect.extend(log.append(chunk).await.unwrap());
        }
        let mut records = read(&mut log.reader("a", &Positions::default()).unwrap(), 50).await;
        let offsets = |partition: u32| {
            let of = |record: &&Record| record.position.partition == partition;
            records.iter().filter(of).map(|record| record.position.offset).collect::<Vec<_>>()
        };
        for partition in [0, 1] {
            assert!(offsets(partition).iter().copied().eq(0..offsets(partition).len() as u64));
        }
        records.sort_by_key(|record| expect.iter().position(|position| *position == record.position));
        let read: Vec<Envelope> = records.into_iter().map(|record| record.envelope).collect();
        assert_eq!(read, envelopes);
    });
}

#[test]
fn a_reader_resumes_where_it_was_and_waits_for_more() {
    on_all(async |log| {
        log.append(&(0..10).map(envelope).collect::<Vec<_>>()).await.unwrap();
        let mut reader = log.reader("a", &Positions::default()).unwrap();
        let first = reader.next(4, 1 << 20).await.unwrap();
        assert_eq!((first.records.len(), log.lag(&first.next)), (4, 6));
        let mut resumed = log.reader("a", &first.next).unwrap();
        let rest = read(&mut resumed, 6).await;
        assert!(rest.iter().all(|record| !first.next.covers(record.position)));
        assert_eq!(resumed.positions(), log.end());
        let waiting = tokio::spawn(async move { read(&mut resumed, 1).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        log.append(&[envelope(99)]).await.unwrap();
        assert_eq!(waiting.await.unwrap()[0].envelope, envelope(99));
    });
}

#[test]
fn what_is_read_ahead_is_the_same_and_counts_as_read_when_it_is_handed_out() {
    on_all(async |log| {
        log.append(&(0..50).map(envelope).collect::<Vec<_>>()).await.unwrap();
        let expect = read(&mut log.reader("a", &Positions::default()).unwrap(), 50).await;
        let reader = log.reader("b", &Positions::default()).unwrap();
        let mut ahead = reader.ahead(7, 1 << 20).unwrap();
        let first = ahead.next(1_000, 1 << 20).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!((first.records.len(), ahead.positions()), (7, first.next));
        let rest = read(&mut ahead, 43).await;
        assert_eq!([first.records, rest].concat(), expect);
        assert_eq!(ahead.positions(), log.end());
        log.close().await;
        assert!(matches!(ahead.next(1, 1).await, Err(LogError::Closed)));
    });
}

#[test]
fn reading_can_be_cancelled_at_any_time() {
    on_kafka_too(async |log| {
        let writer = log.clone();
        let writing = tokio::spawn(async move {
            for number in 0..200 {
                writer.append(&[envelope(number)]).await.unwrap();
            }
        });
        let mut reader = log.reader("a", &Positions::default()).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 200 {
            let batch = tokio::time::timeout(Duration::from_micros(50), reader.next(3, 1 << 20)).await;
            seen.extend(batch.map(|batch| batch.unwrap().records).unwrap_or_default());
        }
        writing.await.unwrap();
        let mut ids: Vec<EventId> = seen.iter().map(|record| record.envelope.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 200);
    });
}

#[test]
fn batches_keep_to_bytes_but_always_hold_an_event() {
    on_all(async |log| {
        log.append(&(0..10).map(envelope).collect::<Vec<_>>()).await.unwrap();
        let mut reader = log.reader("a", &Positions::default()).unwrap();
        assert_eq!(reader.next(10, 0).await.unwrap().records.len(), 1);
        let size = envelope(0).bytes.len();
        assert_eq!(reader.next(10, 2 * size - 1).await.unwrap().records.len(), 2);
    });
}

#[test]
fn checkpoints_names_and_closing() {
    on_all(async |log| {
        log.append(&(0..4).map(envelope).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(log.checkpointed("detect"), Positions::default());
        log.checkpoint("detect", &log.end()).await.unwrap();
        assert_eq!(log.checkpointed("detect"), log.end());
        for bad in ["", "A", "a/b", "..", &"x".repeat(33)] {
            assert!(matches!(log.checkpoint(bad, &log.end()).await, Err(LogError::ReaderName(_))), "{bad}");
            assert!(log.reader(bad, &log.end()).is_err(), "{bad}");
        }
        let mut reader = log.reader("index", &Positions::default()).unwrap();
        log.close().await;
        assert!(matches!(log.append(&[envelope(5)]).await, Err(AppendError::Failed(_))));
        assert_eq!(read(&mut reader, 4).await.len(), 4);
        assert!(matches!(reader.next(1, 1).await, Err(LogError::Closed)));
    });
}

#[test]
fn recent_identities_are_those_since_a_time_up_to_a_limit() {
    on_all(async |log| {
        for number in 0..20 {
            log.append(&[envelope(number)]).await.unwrap();
        }
        let received = |number| envelope(number).received_at;
        let recent = log.recent_ids(received(12), 100).unwrap();
        let mut ids: Vec<EventId> = recent.ids.iter().map(|recent| recent.id).collect();
        let mut expect: Vec<EventId> = (12..20).map(|number| envelope(number).id).collect();
        ids.sort_unstable();
        expect.sort_unstable();
        assert_eq!((ids, recent.complete_since), (expect, Some(received(12))));
        let cut = log.recent_ids(received(12), 3).unwrap();
        assert_eq!(cut.ids.len(), 3);
        let since = cut.complete_since.unwrap();
        assert!(since > received(16) && since <= received(17));
        assert_eq!(log.recent_ids(received(0), 100).unwrap().complete_since, None);
    });
}
