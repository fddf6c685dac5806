//! Messages of topics, in each format that a topic may have: nothing is lost without a word, numbers within a message
//! are given once, and opening a message twice gives the same.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use watchbell_event::Timestamp;
use watchbell_fuzz::documents::redactor;
use watchbell_ingest::decode::DecodeLimits;
use watchbell_ingest::decode::logs::LogLimits;
use watchbell_ingest::log::kafka::{
    Connection, Contents, KafkaConfig, Message, Start, TopicConfig, TopicFormat,
};

const MESSAGE_BYTES: usize = 4 << 10;
const ENTRY_BYTES: usize = 64;
/// What the position of an event has room for.
const MAX_EVENTS: usize = 65_536;

fuzz_target!(|data: &[u8]| {
    let config = config();
    let events = |format| Contents::Events { format, cluster: "fuzzed".into() };
    let formats = TopicFormat::ALL.into_iter().map(events);
    for contents in formats.chain([Contents::Envelopes]) {
        let topic = TopicConfig { topic: "t".into(), contents, start: Start::Earliest };
        for written in [None, Some(0), Some(i64::MAX)] {
            let open = || Message::of_value(7, written, data, &config, ENTRY_BYTES).open(&topic, 1, &config);
            let (opened, again) = (open(), open());
            assert_eq!((&opened.events, &opened.rejected), (&again.events, &again.rejected));
            assert!(opened.events.is_sorted_by(|(a, _), (b, _)| a < b));
            assert!(opened.events.iter().all(|(number, _)| *number < MAX_EVENTS));
            assert!(opened.rejected.iter().all(|entry| entry.place.contains("offset 7")));
            if data.len() > MESSAGE_BYTES {
                assert_eq!((opened.events.len(), opened.rejected.len()), (0, 1));
                assert!(opened.rejected[0].bytes.len() <= ENTRY_BYTES + 1);
            }
            if topic.contents == Contents::Envelopes {
                assert_eq!(opened.events.len() + opened.rejected.len(), 1);
            }
        }
    }
});

fn config() -> KafkaConfig {
    KafkaConfig {
        connection: Connection { brokers: String::new(), tls: None, sasl: None },
        group: String::new(),
        topics: Vec::new(),
        limits: DecodeLimits::default(),
        log_limits: LogLimits::default(),
        message_bytes: MESSAGE_BYTES,
        redactor: redactor(),
        prefetch_bytes: 0,
        recent_ids: 0,
        recent_messages: 0,
        replicated: Vec::new(),
        watch_interval: Duration::ZERO,
        now: || Timestamp::from_micros(1_770_000_000_000_000),
    }
}
