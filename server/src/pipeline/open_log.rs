//! The log as the configuration wants it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use watchbell_ingest::log::kafka::{KafkaConfig, KafkaLog, OwnTopic, Topics};
use watchbell_ingest::log::{Joined, Journal, JournalConfig, Log};

use super::ingest::Decoding;
use crate::clock;
use crate::config::{self, Config};

/// Copies of events are recognised among so many of the newest ones, at 20 to 40 bytes each.
const RECENT_IDS: usize = 500_000;
/// A reader that starts looks at so many messages again to know what it had read. They are decoded in a second.
const RECENT_MESSAGES: u64 = 20_000;
/// How long an answer to a sender may take.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(8);
/// How often topics are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Opens the journal, or the topic in its place, and topics that others fill if there are any.
///
/// # Errors
/// What cannot be opened.
pub(super) fn open(config: &Config, decoding: &Decoding) -> Result<Log> {
    let Some(kafka) = &config.kafka else { return Ok(Log::Disk(open_journal(config)?)) };
    let settings = kafka_config(kafka, config, decoding);
    let topics = Topics::open(&config.data_dir, settings, Arc::clone(&decoding.quarantine))
        .context("failed to set Kafka up")?;
    let Some(own) = &kafka.log else {
        return Ok(Log::Joined(Joined { journal: open_journal(config)?, topics }));
    };
    let own = OwnTopic {
        topic: Arc::clone(&own.topic),
        allow_single_replica: own.allow_single_replica,
        in_flight_bytes: size(config.ingest.in_flight_bytes),
        message_bytes: size(config.ingest.max_event_bytes),
        timeout: REPLICATION_TIMEOUT,
    };
    Ok(Log::Kafka(KafkaLog::open(topics, own).context("failed to set Kafka up")?))
}

fn open_journal(config: &Config) -> Result<Journal> {
    let journal = &config.journal;
    let settings = JournalConfig {
        segment_bytes: journal.segment_bytes,
        max_bytes: journal.max_bytes,
        keep_free_bytes: journal.min_free_bytes,
        retention_seconds: journal.retention.as_secs(),
        group_wait_micros: u64::try_from(journal.group_commit_wait.as_micros()).unwrap_or(u64::MAX),
        ..JournalConfig::default()
    };
    Journal::open(&config.data_dir.join("journal"), settings).context("failed to open the journal")
}

fn kafka_config(kafka: &config::KafkaConfig, config: &Config, decoding: &Decoding) -> KafkaConfig {
    KafkaConfig {
        connection: kafka.connection.clone(),
        group: kafka.group.clone(),
        topics: kafka.topics.clone(),
        limits: decoding.limits.clone(),
        log_limits: decoding.log_limits.clone(),
        message_bytes: size(config.ingest.max_body_bytes),
        redactor: decoding.redactor.clone(),
        prefetch_bytes: size(kafka.prefetch_bytes),
        replicated: kafka
            .log
            .as_ref()
            .filter(|log| !log.allow_single_replica)
            .map(|log| Arc::clone(&log.topic)),
        recent_ids: RECENT_IDS,
        recent_messages: RECENT_MESSAGES,
        watch_interval: WATCH_INTERVAL,
        now: clock::now,
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
