//! The cluster that librdkafka plays forgets the offsets of transactions and ends none: that a member goes on where another
//! one was is tested with real brokers (`tests/real`).

use std::collections::BTreeSet;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

/// The topics `a`, which is shared out, and `found`, to which chosen events go.
fn open(cluster: &Cluster) -> Topics {
    let mut config = cluster.config(&["a", "found"]);
    config.topics[1].contents = Contents::Matches;
    cluster.open_with(config)
}

fn share(topics: &Topics, member: &str) -> Share {
    let config = ShareConfig {
        group: "detect".to_owned(),
        transactional_id: member.to_owned(),
        target: "found".into(),
        allow_single_replica: true,
        message_bytes: 1 << 20,
    };
    topics.only(|topic| &*topic.topic == "a").share(config).unwrap()
}

/// Reads and passes on what ends with `chosen`, until so many messages were read. Returns the ids of all events.
fn sift(share: &mut Share, messages: usize, chosen: &str) -> Vec<String> {
    let (started, mut seen) = (Instant::now(), Vec::new());
    let mut count = 0;
    while count < messages {
        assert!(started.elapsed() < Duration::from_secs(30), "{count} of {messages} messages: {seen:?}");
        if let Some(message) = share.read().unwrap() {
            let ids: Vec<String> = message.events.iter().map(audit_id).collect();
            let chosen = |(number, id): (usize, &String)| id.ends_with(chosen).then_some(number);
            let numbers: Vec<usize> = ids.iter().enumerate().filter_map(chosen).collect();
            share.take(message, &numbers);
            seen.extend(ids);
            count += 1;
        }
    }
    seen
}

fn audit_id(envelope: &Envelope) -> String {
    let event: serde_json::Value = serde_json::from_slice(&envelope.bytes).unwrap();
    event["auditID"].as_str().unwrap().to_owned()
}

/// What reached the other topic, by its partitions, once there are so many.
async fn found(topics: &Topics, events: usize) -> Vec<Vec<String>> {
    let topics = topics.only(|topic| &*topic.topic == "found");
    let mut reader = topics.reader("alert", &Positions::default()).unwrap();
    let (records, _) = read(&mut reader, events).await;
    expect_nothing(&mut reader).await;
    let partitions: BTreeSet<u32> =
        topics.status().topics[0].partitions.iter().map(|p| p.log_partition).collect();
    let of = |partition: u32| records.iter().filter(move |record| record.position.partition == partition);
    partitions.into_iter().map(|partition| of(partition).map(|r| audit_id(&r.envelope)).collect()).collect()
}

#[test]
fn chosen_events_and_the_newest_go_to_the_partition_of_their_number() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "found"]);
        cluster.produce("a", 0, 30, format!("{}\n{}", event("1-yes"), event("2-no")).as_bytes());
        cluster.produce("a", 0, 20, event("3-yes").as_bytes());
        cluster.produce("a", 0, 10, format!("{{\"kind\":\"Pod\"}}\n{}", event("4-no")).as_bytes());
        cluster.produce("a", 1, 20, event("5-no").as_bytes());
        cluster.produce("a", 1, 10, event("6-yes").as_bytes());
        let topics = open(&cluster);
        wait_for(&topics, "partitions", |status| status.topics[1].partitions.len() == 2).await;
        let mut share = share(&topics, "one");
        assert_eq!(sift(&mut share, 5, "yes").len(), 6);
        assert_eq!(share.pass_on().unwrap(), 4);
        assert_eq!(found(&topics, 4).await, [vec!["1-yes", "3-yes", "4-no"], vec!["6-yes"]]);
        let held = topics.held();
        assert_eq!(
            held.iter().map(|held| (held.partition, held.offset)).collect::<Vec<_>>(),
            [(0, Some(3)), (1, Some(2))]
        );
        assert_eq!(share.pass_on().unwrap(), 0);
        assert_eq!(cluster.quarantine().list(10, None).unwrap().len(), 0, "whoever indexes keeps it");
    });
}

#[test]
fn what_was_not_committed_is_read_and_passed_on_again() {
    run(async {
        for api in [RDKafkaApiKey::TxnOffsetCommit, RDKafkaApiKey::EndTxn, RDKafkaApiKey::AddPartitionsToTxn]
        {
            let cluster = Cluster::with_topics(&["a", "found"]);
            let topics = open(&cluster);
            wait_for(&topics, "partitions", |status| status.topics[1].partitions.len() == 2).await;
            cluster.produce("a", 0, 15, event("1-yes").as_bytes());
            let mut share = share(&topics, "one");
            sift(&mut share, 1, "yes");
            let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
            cluster.mock.request_errors(api, &[error; 4]);
            assert!(share.pass_on().is_err(), "{api:?}");
            cluster.mock.clear_request_errors(api);
            cluster.produce("a", 0, 10, event("2-yes").as_bytes());
            let started = Instant::now();
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                assert!(started.elapsed() < Duration::from_secs(30), "{api:?}: {seen:?}");
                // until the transaction is decided, it is not known where to go on
                let Ok(Some(message)) = share.read() else { continue };
                seen.extend(message.events.iter().map(audit_id));
                share.take(message, &[0]);
            }
            assert_eq!(share.pass_on().unwrap(), 2, "{api:?}");
            assert_eq!(found(&topics, 2).await, [vec!["1-yes", "2-yes"], vec![]], "{api:?}");
        }
    });
}

#[test]
fn partitions_are_shared_out_and_what_is_taken_away_is_not_passed_on() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "found"]);
        for partition in [0, 1] {
            cluster.produce("a", partition, 30, event(&format!("{partition}-yes")).as_bytes());
        }
        let topics = open(&cluster);
        wait_for(&topics, "partitions", |status| status.topics[1].partitions.len() == 2).await;
        let mut first = share(&topics, "one");
        sift(&mut first, 2, "yes");
        let mut second = share(&topics, "two");
        let started = Instant::now();
        let mut taken_over = Vec::new();
        while taken_over.is_empty() {
            assert!(started.elapsed() < Duration::from_secs(30));
            let _ = first.read().unwrap();
            if let Some(message) = second.read().unwrap() {
                taken_over.extend(message.events.iter().map(audit_id));
                second.take(message, &[0]);
            }
        }
        assert_eq!(first.pass_on().unwrap(), 1);
        assert_eq!(second.pass_on().unwrap(), 1);
        assert_eq!(sorted(found(&topics, 2).await.concat()), ["0-yes", "1-yes"]);
    });
}

#[test]
fn a_group_begins_where_it_was_told_to() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "found"]);
        cluster.produce("a", 0, 30, event("old").as_bytes());
        let mut config = cluster.config(&["a", "found"]);
        config.topics[0].start = Start::Latest;
        config.topics[1].contents = Contents::Matches;
        let topics = cluster.open_with(config);
        wait_for(&topics, "partitions", |status| status.topics[1].partitions.len() == 2).await;
        let mut first = share(&topics, "one");
        assert!(first.read().unwrap().is_none());
        drop(first);
        cluster.produce("a", 0, 20, event("new").as_bytes());
        assert_eq!(sift(&mut share(&topics, "two"), 1, "yes"), ["new"]);
    });
}

#[test]
fn who_reads_the_matches_waits_for_members_that_catch_up() {
    run(async {
        let cluster = Cluster::with_topics(&["a", "found"]);
        for (partition, seconds_ago) in [(0, 90), (0, 60), (1, 80), (1, 1)] {
            let id = format!("{partition}-{seconds_ago}-yes");
            cluster.produce("a", partition, seconds_ago, event(&id).as_bytes());
        }
        let topics = open(&cluster);
        wait_for(&topics, "partitions", |status| status.topics[1].partitions.len() == 2).await;
        let matches = topics.only(|topic| &*topic.topic == "found");
        let mut reader = matches.reader("alert", &Positions::default()).unwrap();
        expect_nothing(&mut reader).await;
        let mut share = share(&topics, "one");
        // all of one partition, and nothing of the other one, as one with a long backlog does
        let (mut others, mut count) = (Vec::new(), 0);
        while count < 4 {
            let Some(message) = share.read().unwrap() else { continue };
            count += 1;
            match audit_id(&message.events[0]).starts_with('0') {
                true => share.take(message, &[0]),
                false => others.push(message),
            }
        }
        share.pass_on().unwrap();
        expect_nothing(&mut reader).await;
        others.into_iter().for_each(|message| share.take(message, &[0]));
        share.pass_on().unwrap();
        // what is of now waits for nobody
        let found = read(&mut reader, 4).await.0;
        assert_eq!(ids(&found), ["0-90-yes", "1-80-yes", "0-60-yes", "1-1-yes"]);
    });
}
