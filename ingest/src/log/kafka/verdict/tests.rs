use proptest::prelude::*;

use super::*;
use crate::log::kafka::testing::{config, event, now};
use crate::log::kafka::{KafkaConfig, Start};

fn topic() -> TopicConfig {
    let contents = Contents::Events { format: TopicFormat::Audit, cluster: "test".into() };
    TopicConfig { topic: "a".into(), contents, start: Start::Earliest }
}

fn message(offset: i64, value: &str, config: &KafkaConfig) -> Message {
    let written = now().as_micros() / 1000 - 1000 + offset;
    Message::of_value(offset, Some(written), value.as_bytes(), config, 1000)
}

/// What messages may hold.
fn value(kind: usize, number: i64) -> String {
    let event = event(&number.to_string());
    match kind {
        0 | 1 => event,
        2 => format!(" \n{event} "),
        3 => format!("{event}\n{}", self::event(&(number + 1000).to_string())),
        4 => event.replace("\"verb\"", "\"requestURI\":\"/x?access_token=abcdefghijkl\",\"verb\""),
        5 => "{".to_owned(),
        _ => format!("{event}{{"),
    }
}

struct Bench {
    verdicts: Verdicts,
    config: KafkaConfig,
    topic: TopicConfig,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        Self { verdicts: Verdicts::new(capacity), config: config("", &[]), topic: topic() }
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
        self.verdicts.queues.lock().unwrap().kept
    }
}

#[test]
fn whoever_comes_second_decodes_nothing_that_needs_no_change() {
    let bench = Bench::new(100);
    let messages: Vec<Message> =
        (0..14).map(|number| message(number, &value(number as usize % 7, number), &bench.config)).collect();
    let open = |reader: &str, from: usize| -> Vec<bool> {
        messages[from..].iter().map(|message| bench.open(reader, message)).collect()
    };
    assert!(!bench.open("detect", &messages[0]));
    assert!(!bench.open("index", &messages[0]), "nobody has come second yet");
    assert_eq!(open("detect", 1), [false; 13]);
    let reused = open("index", 1);
    let expect: Vec<bool> = (1..14).map(|number| matches!(number % 7, 0..=2)).collect();
    assert_eq!(reused, expect);
    assert_eq!(bench.kept(), 0);
}

#[test]
fn a_reader_far_ahead_keeps_no_more_than_the_limit_and_what_is_passed_is_forgotten() {
    let bench = Bench::new(10);
    let messages: Vec<Message> =
        (0..100).map(|number| message(number, &value(0, number), &bench.config)).collect();
    bench.open("detect", &messages[0]);
    bench.open("index", &messages[0]);
    messages[1..].iter().for_each(|message| assert!(!bench.open("detect", message)));
    assert_eq!(bench.kept(), 10);
    let reused = messages[1..].iter().filter(|message| bench.open("index", message)).count();
    assert_eq!(reused, 10);
    // what a reader that is behind keeps is of no use to the other
    messages[..5].iter().for_each(|message| assert!(!bench.open("index", message)));
    assert!(!bench.open("detect", &messages[99]));
    assert_eq!(bench.kept(), 1, "its own");
}

#[test]
fn another_message_at_the_same_offset_is_decoded() {
    let limits = config("", &[]);
    let message = |offset, number| message(offset, &value(0, number), &limits);
    let (first, other) = (message(5, 1), message(5, 1000));
    for (one, two, reused) in [(&first, &first, true), (&first, &other, false)] {
        let bench = Bench::new(10);
        bench.open("detect", &message(4, 0));
        bench.open("index", &message(4, 0));
        bench.open("detect", one);
        assert_eq!(bench.open("index", two), reused);
    }
}

proptest! {
    #[test]
    fn however_two_readers_take_turns_each_gets_what_decoding_gives(
        kinds in prop::collection::vec(0..7_usize, 1..40),
        steps in prop::collection::vec((any::<bool>(), prop::option::weighted(0.05, 0..40_usize)), 0..200),
        capacity in 0..20_usize,
    ) {
        let bench = Bench::new(capacity);
        let messages: Vec<Message> = kinds
            .iter()
            .zip(0..)
            .map(|(kind, number)| message(number, &value(*kind, number), &bench.config))
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
