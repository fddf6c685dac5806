mod lines;
mod share;

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use watchbell_event::{Envelope, Position};

use super::testing::*;
use super::*;
use crate::log::{AppendError, LogReader, LogState};
use crate::quarantine::QuarantineConfig;
use crate::testing::envelope;

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

/// Waits until the topics are in a state.
async fn wait_for(topics: &Topics, what: &str, is_so: impl Fn(&KafkaStatus) -> bool) {
    let started = Instant::now();
    while !is_so(&topics.status()) {
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}", topics.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Events in messages of all kinds, over two topics of two partitions. Returns their ids.
fn fill(cluster: &Cluster) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..60 {
        let names: Vec<String> = (0..number % 4 + 1).map(|part| format!("{number:02}-{part}")).collect();
        let events: Vec<String> = names.iter().map(|name| event(name)).collect();
        let payload = match number % 3 {
            0 => events.join("\n"),
            1 => format!("[{}]", events.join(",")),
            _ => format!(
                r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{}]}}"#,
                events.join(",")
            ),
        };
        let topic = if number % 2 == 0 { "a" } else { "b" };
        cluster.produce(topic, number / 2 % 2, i64::from(100 - number), payload.as_bytes());
        ids.extend(names);
    }
    sorted(ids)
}

#[test]
fn all_partitions_are_read_by_time_and_alike_by_all_readers() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "b"]);
        let expect = fill(&cluster);
        let topics = cluster.open(&["a", "b"]);
        let mut found = Vec::new();
        for name in ["detect", "index"] {
            let mut reader = topics.reader(name, &Positions::default()).unwrap();
            let (records, at) = read(&mut reader, expect.len()).await;
            assert_eq!(sorted(ids(&records)), expect);
            assert!(records.is_sorted_by_key(|record| record.envelope.received_at));
            wait_for(&topics, "lag", |_| topics.lag(&at) == 0).await;
            found.push((records, at));
        }
        assert_eq!(found[0], found[1]);
        let record = &found[0].0[0];
        let Envelope { received_at, source, cluster, .. } = &record.envelope;
        assert_eq!((&**source, &**cluster), ("kafka/a", "test"));
        assert_eq!(received_at.micros_since(now()), -100_000_000);
    });
}

#[test]
fn readers_at_one_place_decode_a_message_once() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "b"]);
        let produce = |numbers: std::ops::Range<i32>| {
            for number in numbers {
                let topic = if number % 2 == 0 { "a" } else { "b" };
                let payload = event(&number.to_string());
                cluster.produce(topic, number / 2 % 2, i64::from(1_000 - number), payload.as_bytes());
            }
        };
        produce(0..8);
        let topics = cluster.open(&["a", "b"]);
        let [mut detect, mut index] =
            ["detect", "index"].map(|name| topics.reader(name, &Positions::default()).unwrap());
        let (first, second) = (read(&mut detect, 8).await, read(&mut index, 8).await);
        assert_eq!(first, second);
        // now it is known of each partition that two read it
        produce(8..40);
        let (first, second) = (read(&mut detect, 32).await, read(&mut index, 32).await);
        assert_eq!(first, second);
        let reused = |reader: &str| {
            topics.take_tallies(reader).iter().map(|(_, tally)| tally.reused).collect::<Vec<u64>>()
        };
        assert_eq!(reused("index"), [16, 16]);
    });
}

#[test]
fn a_reader_goes_on_exactly_where_it_was_also_within_a_message() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "b"]);
        let expect = fill(&cluster);
        // positions as handed out, and as an index has them that commits after any record
        for by_record in [false, true] {
            let (mut at, mut records) = (Positions::default(), Vec::new());
            for round in 1.. {
                let topics = cluster.open(&["a", "b"]);
                let mut reader = topics.reader("index", &at).unwrap();
                let batch = next(&mut reader, round % 5 + 1).await;
                if by_record {
                    batch.records.iter().for_each(|record| at.advance_past(record.position));
                } else {
                    at = batch.next.iter().fold(at, |mut at, (partition, next)| {
                        at.set_next(partition, next);
                        at
                    });
                }
                records.extend(batch.records);
                if records.len() >= expect.len() {
                    expect_nothing(&mut reader).await;
                    break;
                }
            }
            assert_eq!(sorted(ids(&records)), expect);
        }
    });
}

#[test]
fn what_cannot_be_decoded_is_kept_once_and_stops_nothing() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        let long = vec![b'x'; (1 << 20) + 1];
        let mixed = format!("{}\n{{\"kind\":\"Pod\"}}\n{}", event("2"), event("3"));
        let last = event("4");
        let messages: [&[u8]; 7] = [b"{", b"", b"\xff\xfe", &long, mixed.as_bytes(), b"[]", last.as_bytes()];
        for message in messages {
            cluster.produce("a", 0, 10, message);
        }
        let topics = cluster.open(&["a"]);
        for name in ["detect", "index"] {
            let mut reader = topics.reader(name, &Positions::default()).unwrap();
            let (records, at) = read(&mut reader, 3).await;
            assert_eq!(ids(&records), ["2", "3", "4"]);
            wait_for(&topics, "lag", |_| topics.lag(&at) == 0).await;
        }
        let kept = cluster.quarantine().list(100, None).unwrap();
        let mut places: Vec<_> = kept.iter().map(|entry| (&*entry.place, entry.total_bytes)).collect();
        places.reverse();
        assert_eq!(
            places,
            [
                ("partition 0, offset 0: the whole message", 1),
                ("partition 0, offset 1: the whole message", 0),
                ("partition 0, offset 2: the whole message", 2),
                ("partition 0, offset 3: the whole message", (1 << 20) + 1),
                ("partition 0, offset 4: event 1 at byte 75", 14),
            ]
        );
        let reason = "a message of 1048577 bytes is longer than 1048576";
        assert!(kept.iter().any(|entry| entry.reason == reason && entry.source == "kafka/a"));
    });
}

#[test]
fn nothing_is_passed_over_before_it_is_in_quarantine() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        let dir = cluster.quarantine_dir();
        // full with the first entry, so that the second one needs a new file
        let config = QuarantineConfig { max_bytes: 2, ..QuarantineConfig::default() };
        let quarantine = Arc::new(Quarantine::open(&dir, config).unwrap());
        let topics = cluster.open_quarantining(&["a"], quarantine);
        let mut reader = topics.reader("detect", &Positions::default()).unwrap();
        cluster.produce("a", 0, 10, b"poison");
        next(&mut reader, 10).await;
        let at = reader.positions().clone();
        std::fs::rename(&dir, dir.with_extension("away")).unwrap();
        cluster.produce("a", 0, 10, b"other poison");
        cluster.produce("a", 0, 10, event("1").as_bytes());
        let failed = loop {
            match tokio::time::timeout(PATIENCE, reader.next(10, 1 << 20)).await.unwrap() {
                Ok(batch) => assert!(batch.records.is_empty(), "{batch:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, LogError::Quarantine(_)), "{failed:?}");
        assert_eq!(*reader.positions(), at);
        std::fs::rename(dir.with_extension("away"), &dir).unwrap();
        assert_eq!(ids(&read(&mut reader, 1).await.0), ["1"]);
        assert_eq!(cluster.quarantine().list(100, None).unwrap().len(), 2);
    });
}

#[test]
fn copies_are_dropped_also_after_a_restart() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        for partition in [0, 0, 1] {
            cluster.produce("a", partition, 10, event("1").as_bytes());
        }
        let topics = cluster.open(&["a"]);
        let mut reader = topics.reader("detect", &Positions::default()).unwrap();
        let (records, _) = read(&mut reader, 1).await;
        assert_eq!(ids(&records), ["1"]);
        expect_nothing(&mut reader).await;
        let at = reader.positions().clone();
        drop((reader, topics));
        cluster.produce("a", 0, 5, event("1").as_bytes());
        cluster.produce("a", 1, 5, event("2").as_bytes());
        let topics = cluster.open(&["a"]);
        let mut reader = topics.reader("detect", &at).unwrap();
        assert_eq!(ids(&read(&mut reader, 1).await.0), ["2"]);
        expect_nothing(&mut reader).await;
    });
}

#[test]
fn brokers_that_are_away_are_waited_for() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        cluster.produce("a", 0, 10, event("1").as_bytes());
        let topics = cluster.open(&["a"]);
        let mut reader = topics.reader("detect", &Positions::default()).unwrap();
        let (_, at) = read(&mut reader, 1).await;
        cluster.mock.broker_down(1).unwrap();
        let away = |status: &KafkaStatus| matches!(status.brokers, BrokerState::Away { .. });
        wait_for(&topics, "away", away).await;
        expect_nothing(&mut reader).await;
        // one that starts meanwhile knows the partitions, too
        drop(topics);
        let topics = cluster.open(&["a"]);
        let mut late = topics.reader("index", &at).unwrap();
        wait_for(&topics, "away", away).await;
        cluster.mock.broker_up(1).unwrap();
        wait_for(&topics, "back", |status| status.brokers == BrokerState::Connected).await;
        cluster.produce("a", 1, 5, event("2").as_bytes());
        assert_eq!(ids(&read(&mut reader, 1).await.0), ["2"]);
        assert_eq!(ids(&read(&mut late, 1).await.0), ["2"]);
    });
}

#[test]
fn reading_begins_where_it_was_told_to_and_that_is_kept() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        cluster.produce("a", 0, 10, event("1").as_bytes());
        let mut config = cluster.config(&["a"]);
        config.topics[0].start = Start::Latest;
        let topics = cluster.open_with(config.clone());
        wait_for(&topics, "partitions", |status| status.topics[0].partitions.len() == 2).await;
        drop(topics);
        // while nothing ran and nothing had been read
        cluster.produce("a", 0, 9, event("2").as_bytes());
        let topics = cluster.open_with(config);
        let mut reader = topics.reader("detect", &Positions::default()).unwrap();
        assert_eq!(ids(&read(&mut reader, 1).await.0), ["2"]);
    });
}

#[test]
fn a_topic_may_come_later() {
    run(async {
        let cluster = Cluster::new();
        let topics = cluster.open(&["a"]);
        let mut reader = topics.reader("detect", &Positions::default()).unwrap();
        let missing =
            |status: &KafkaStatus| status.topics[0].problem.as_deref() == Some("there is no such topic");
        wait_for(&topics, "missing", missing).await;
        expect_nothing(&mut reader).await;
        cluster.mock.create_topic("a", 2, 1).unwrap();
        cluster.produce("a", 1, 5, event("1").as_bytes());
        assert_eq!(ids(&read(&mut reader, 1).await.0), ["1"]);
        assert!(topics.status().topics[0].problem.is_none());
    });
}

#[test]
fn what_retention_took_is_passed_over() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        cluster.produce("a", 0, 100, event("first").as_bytes());
        let topics = cluster.open(&["a"]);
        let mut reader = topics.reader("detect", &Positions::default()).unwrap();
        let (_, at) = read(&mut reader, 1).await;
        drop((reader, topics));
        // the cluster keeps 5 MiB of a partition
        let filling = format!(r#"{}{{"auditID":"{}"}}"#, event("big"), "y".repeat(900_000));
        for _ in 0..12 {
            cluster.produce("a", 0, 50, filling.as_bytes());
        }
        cluster.produce("a", 0, 5, event("last").as_bytes());
        let topics = cluster.open(&["a"]);
        let mut reader = topics.reader("detect", &at).unwrap();
        let mut found = Vec::new();
        while found.last().is_none_or(|id| id != "last") {
            found.extend(ids(&next(&mut reader, 10).await.records));
        }
        let at = reader.positions().clone();
        wait_for(&topics, "lag", |_| topics.lag(&at) == 0).await;
    });
}

#[test]
fn a_partition_that_ends_before_the_position_is_another_one() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        cluster.produce("a", 0, 10, event("1").as_bytes());
        let topics = cluster.open(&["a"]);
        wait_for(&topics, "partitions", |status| status.topics[0].partitions.len() == 2).await;
        // what is looked at again after a start is there, and is not
        for position in [5, 5_000] {
            let number = topics.status().topics[0].partitions[0].log_partition;
            let mut at = Positions::default();
            at.set_next(number, position::at(position));
            let mut reader = topics.reader("detect", &at).unwrap();
            // what was known before is no news
            let first = next(&mut reader, 10).await;
            assert!(ids(&first.records).iter().all(|id| id != "5000"));
            let renumbered = topics.status().topics[0].partitions[0].log_partition;
            assert!(renumbered > number);
            cluster.produce("a", 0, 5, event(&position.to_string()).as_bytes());
            let mut records = Vec::new();
            while ids(&records).last() != Some(&position.to_string()) {
                records.extend(next(&mut reader, 10).await.records);
            }
            let at = reader.positions();
            assert!(records.iter().all(|record| record.position.partition == renumbered));
            assert_eq!(position::message(at.next(number)), position);
        }
    });
}

#[test]
fn the_slowest_reader_is_shown_to_other_tools() {
    run(async {
        let cluster = Cluster::with_topics(&["a"]);
        for number in 0..10 {
            cluster.produce("a", 0, 10, event(&number.to_string()).as_bytes());
        }
        let topics = cluster.open(&["a"]);
        let mut positions = Vec::new();
        for (name, count) in [("detect", 10), ("index", 4)] {
            let mut reader = topics.reader(name, &Positions::default()).unwrap();
            let mut at = Positions::default();
            for _ in 0..count {
                next(&mut reader, 1).await.records.iter().for_each(|record| at.advance_past(record.position));
            }
            positions.push((name, at));
        }
        positions.iter().for_each(|(name, at)| topics.checkpoint(name, at));
        let other = client(&topics.shared, 1).unwrap();
        let mut asked = rdkafka::TopicPartitionList::new();
        asked.add_partition("a", 0);
        let started = Instant::now();
        loop {
            let committed = other.committed_offsets(asked.clone(), PATIENCE).unwrap();
            let offset = committed.find_partition("a", 0).unwrap().offset();
            // the last event's message may be read again: that it was the last one is not known here
            if offset == rdkafka::Offset::Offset(3) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{offset:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn what_is_appended_to_a_topic_is_read_as_it_was() {
    run(async {
        let cluster = Cluster::with_topics(&["own"]);
        let log = cluster.own_log();
        let envelopes: Vec<Envelope> = (0..30)
            .map(|number| Envelope { cluster: format!("c{}", number % 4).into(), ..envelope(number) })
            .collect();
        let mut expect: Vec<(Position, Envelope)> = Vec::new();
        for chunk in envelopes.chunks(7) {
            expect.extend(log.append(chunk).await.unwrap().into_iter().zip(chunk.iter().cloned()));
        }
        assert_eq!(log.durability(), "in-sync replicas, possibly one");
        // a copy is kept by the topic, but not read
        log.append(&envelopes[..3]).await.unwrap();
        let mut reader = log.reader("detect", &Positions::default()).unwrap();
        let mut found = Vec::new();
        while found.len() < envelopes.len() {
            let batch = reader.next(5, 1 << 20).await.unwrap();
            found.extend(batch.records.into_iter().map(|record| (record.position, record.envelope)));
        }
        found.sort_by_key(|(position, _)| *position);
        expect.sort_by_key(|(position, _)| *position);
        assert_eq!(found, expect);
        // the end is looked up again and again, so it may be an earlier one that is reached first
        let started = Instant::now();
        let at_end = |reader: &LogReader| {
            log.end().iter().all(|(partition, end)| reader.positions().next(partition) == end)
        };
        while log.lag(&reader.positions()) > 0 || !at_end(&reader) {
            assert!(started.elapsed() < PATIENCE, "{:?}", log.topics());
            let _ = tokio::time::timeout(Duration::from_millis(50), reader.next(5, 1 << 20)).await;
        }
    });
}

#[test]
fn a_body_of_very_many_short_events_is_one_append() {
    run(async {
        let cluster = Cluster::with_topics(&["own"]);
        let (message_bytes, timeout) = (1 << 20, Duration::from_secs(60));
        let log = cluster.own_log_with(OwnTopic { message_bytes, timeout, ..own_topic() });
        log.append(&[envelope(0)]).await.unwrap();
        // more than the client would queue by itself before the first answer comes
        cluster.mock.broker_round_trip_time(1, Duration::from_secs(1)).unwrap();
        let envelopes: Vec<Envelope> = (1..=120_000).map(envelope).collect();
        assert_eq!(log.append(&envelopes).await.map(|positions| positions.len()).unwrap(), envelopes.len());
    });
}

#[test]
fn an_append_that_cannot_be_answered_is_refused() {
    run(async {
        let cluster = Cluster::with_topics(&["own"]);
        let log = cluster.own_log();
        log.append(&[envelope(1)]).await.unwrap();
        let long = Envelope { bytes: vec![b'x'; 1 << 16].into(), ..envelope(2) };
        assert!(matches!(log.append(&[long]).await, Err(AppendError::TooLarge { .. })));
        let large = Envelope { bytes: vec![b'x'; 60_000].into(), ..envelope(3) };
        let (first, second) = (vec![large.clone(); 10], vec![large; 10]);
        let both = tokio::join!(log.append(&first), log.append(&second));
        assert!(both.0.is_ok() && matches!(both.1, Err(AppendError::Backpressure)), "{both:?}");
        cluster.mock.broker_down(1).unwrap();
        let failed = log.append(&[envelope(4)]).await.unwrap_err();
        assert!(matches!(failed, AppendError::Failed(_)), "{failed:?}");
        let started = Instant::now();
        while !matches!(log.status().state, LogState::Refusing(_)) {
            assert!(started.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.mock.broker_up(1).unwrap();
        while log.append(&[envelope(4)]).await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(90));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(log.status().state, LogState::Open);
        log.close().await;
        assert!(matches!(log.append(&[envelope(5)]).await, Err(AppendError::Failed(_))));
    });
}
