use proptest::prelude::*;

use super::*;
use crate::log::kafka::testing::{config, event, now};
use crate::log::kafka::{KafkaConfig, Start};

fn topic(format: TopicFormat) -> TopicConfig {
    let contents = Contents::Events { format, cluster: "test".into() };
    TopicConfig { topic: "a".into(), contents, start: Start::Earliest }
}

/// The first ones hold one event as it stands there.
const KINDS: usize = 13;
const USUAL: usize = 7;

/// What messages may hold.
fn value(kind: usize, number: i64) -> String {
    let event = event(&number.to_string());
    let with = |member: &str| event.replacen('{', &format!("{{{member},"), 1);
    match kind {
        0 => event,
        1 => with(r#""stageTimestamp":"2027-01-15T07:00:00Z""#),
        2 => with(r#""stageTimestamp":"2027-01-15T09:00:00Z""#),
        3 => format!(" \n{event} "),
        4 => format!("[{event}]"),
        5 => format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{event}]}}"#),
        6 => format!("\u{feff}{event}"),
        7 => format!("{event}\n{}", self::event(&(number + 1000).to_string())),
        8 => with(r#""requestURI":"/x?access_token=abcdefghijkl""#),
        9 => with(r#""requestObject":{"a":1,"a":2}"#),
        10 => "{".to_owned(),
        11 => format!("{event}{{"),
        _ => with(&format!(r#""annotations":{{"a":"{}"}}"#, "x".repeat(2 << 20))),
    }
}

/// A message that was written so many seconds before now, or says nothing of that.
fn message(offset: i64, seconds_ago: Option<i64>, value: &str, config: &KafkaConfig) -> Message {
    let written = seconds_ago.map(|seconds| now().as_micros() / 1000 - seconds * 1000);
    Message::of_value(offset, written, value.as_bytes(), config, 1000)
}

struct Bench {
    verdicts: Verdicts,
    config: KafkaConfig,
    topic: TopicConfig,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        let topic = topic(TopicFormat::Audit);
        Self { verdicts: Verdicts::new(capacity), config: config("", &[]), topic }
    }

    /// As if both readers had been at one place once.
    fn with_readers(capacity: usize) -> Self {
        let bench = Self::new(capacity);
        for reader in ["detect", "index", "detect"] {
            bench.open(reader, &bench.message(0, 0));
        }
        bench
    }

    fn message(&self, offset: i64, number: i64) -> Message {
        message(offset, Some(7), &value(0, number), &self.config)
    }

    /// Opens a message as a reader does, holds that to what decoding gives, and returns whether it was taken over.
    fn open(&self, reader: &str, message: &Message) -> bool {
        let decode = || message.open(&self.topic, 0, &self.config);
        let (opened, reused) = self.verdicts.open(&reader.into(), 7, message, &self.topic, decode);
        let expect = decode();
        assert_eq!(opened.events, expect.events);
        let reasons =
            |opened: &Opened| opened.rejected.iter().map(|entry| entry.reason.clone()).collect::<Vec<_>>();
        assert_eq!(reasons(&opened), reasons(&expect));
        reused
    }

    fn kept(&self) -> usize {
        let queues = self.verdicts.lock();
        assert_eq!(queues.kept, queues.partitions.values().map(|queue| queue.verdicts.len()).sum::<usize>());
        queues.kept
    }
}

#[test]
fn whoever_comes_second_decodes_nothing_that_needs_no_change() {
    let bench = Bench::new(100);
    let messages = (0..).zip((0..KINDS).chain(0..KINDS));
    let messages: Vec<Message> = messages
        .map(|(offset, kind)| message(offset, Some(7), &value(kind, offset), &bench.config))
        .collect();
    assert!(!bench.open("detect", &messages[0]));
    assert!(!bench.open("index", &messages[0]), "nobody had come second yet");
    messages[1..].iter().for_each(|message| assert!(!bench.open("detect", message)));
    for (number, message) in messages.iter().enumerate().skip(1) {
        assert_eq!(bench.open("index", message), number % KINDS < USUAL, "{number}");
    }
    assert_eq!(bench.kept(), 0);
}

#[test]
fn log_records_are_decoded_by_each_reader() {
    let bench = Bench { topic: topic(TopicFormat::Logs), ..Bench::with_readers(10) };
    let line = message(1, Some(7), "a line", &bench.config);
    assert!(!bench.open("detect", &line) && !bench.open("index", &line));
}

#[test]
fn a_reader_far_ahead_keeps_no_more_than_the_limit_and_what_is_passed_is_forgotten() {
    let bench = Bench::with_readers(10);
    let messages: Vec<Message> = (0..100).map(|offset| bench.message(offset, offset)).collect();
    messages[1..].iter().for_each(|message| assert!(!bench.open("detect", message)));
    assert_eq!(bench.kept(), 10);
    assert_eq!(messages[1..].iter().filter(|message| bench.open("index", message)).count(), 10);
    // what a reader that is behind keeps is of no use to the other
    messages[..5].iter().for_each(|message| assert!(!bench.open("index", message)));
    assert!(!bench.open("detect", &messages[99]));
    assert_eq!(bench.kept(), 1, "its own");
    bench.verdicts.forget(7);
    assert_eq!(bench.kept(), 0);
}

#[test]
fn a_queue_that_was_long_gives_its_memory_back() {
    let bench = Bench::with_readers(10_000);
    (1..5_000).for_each(|offset| assert!(!bench.open("detect", &bench.message(offset, offset))));
    (1..5_000).for_each(|offset| assert!(bench.open("index", &bench.message(offset, offset))));
    assert_eq!(bench.verdicts.lock().partitions[&7].verdicts.capacity(), 0);
}

#[test]
fn another_message_at_the_same_offset_is_decoded() {
    let first = |bench: &Bench| bench.message(5, 1);
    let as_long: fn(&Bench) -> Message = |bench| bench.message(5, 2);
    let later: fn(&Bench) -> Message = |bench| message(5, Some(6), &value(0, 1), &bench.config);
    for (other, reused) in [(first as fn(&Bench) -> Message, true), (as_long, false), (later, false)] {
        let bench = Bench::with_readers(10);
        bench.open("detect", &first(&bench));
        assert_eq!(bench.open("index", &other(&bench)), reused);
    }
}

#[test]
fn a_message_whose_time_depends_on_the_clock_is_decoded_by_whoever_sees_another_time() {
    fn later() -> Timestamp {
        Timestamp::from_micros(now().as_micros() + 1_000_000)
    }
    for (seconds_ago, reused) in [(Some(7), true), (None, false), (Some(-3600), false)] {
        let bench = Bench::with_readers(10);
        let at = |now| {
            let config = KafkaConfig { now, ..bench.config.clone() };
            message(1, seconds_ago, &value(1, 1), &config)
        };
        bench.open("detect", &at(now));
        assert_eq!(bench.open("index", &at(later)), reused, "{seconds_ago:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_two_readers_take_turns_each_gets_what_decoding_gives(
        kinds in prop::collection::vec(0..KINDS - 1, 1..40),
        steps in prop::collection::vec((any::<bool>(), prop::option::weighted(0.05, 0..40_usize)), 0..200),
        capacity in 0..20_usize,
    ) {
        let bench = Bench::new(capacity);
        let messages: Vec<Message> = (0..)
            .zip(&kinds)
            .map(|(offset, kind)| message(offset, Some(7), &value(*kind, offset), &bench.config))
            .collect();
        let mut at = [0; 2];
        for (second, jump) in steps {
            let place = &mut at[usize::from(second)];
            *place = jump.unwrap_or(*place);
            if let Some(message) = messages.get(*place) {
                bench.open(if second { "index" } else { "detect" }, message);
                prop_assert!(bench.kept() <= capacity);
            }
            *place += 1;
        }
    }
}
