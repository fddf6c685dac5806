//! The log as the configuration wants it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use watchbell_ingest::log::kafka::{KafkaConfig, Topics};
use watchbell_ingest::log::{Joined, Journal, JournalConfig, Log};

use super::ingest::Decoding;
use crate::clock;
use crate::config::{self, Config};

/// Copies of events are recognised among so many of the newest ones, at 20 to 40 bytes each.
const RECENT_IDS: usize = 500_000;
/// A reader that starts looks at so many messages again to know what it had read. They are decoded in a second.
const RECENT_MESSAGES: u64 = 20_000;
/// How often topics are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Opens the journal, and topics if there are any.
///
/// # Errors
/// What cannot be opened.
pub(super) fn open(config: &Config, decoding: &Decoding) -> Result<Log> {
    let journal = open_journal(config).context("failed to open the journal")?;
    let Some(kafka) = &config.kafka else { return Ok(Log::Disk(journal)) };
    let kafka = kafka_config(kafka, config, decoding);
    let topics = Topics::open(&config.data_dir, kafka, Arc::clone(&decoding.quarantine))
        .context("failed to set Kafka up")?;
    Ok(Log::Joined(Joined { journal, topics }))
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
    Ok(Journal::open(&config.data_dir.join("journal"), settings)?)
}

fn kafka_config(kafka: &config::KafkaConfig, config: &Config, decoding: &Decoding) -> KafkaConfig {
    KafkaConfig {
        connection: kafka.connection.clone(),
        group: kafka.group.clone(),
        topics: kafka.topics.clone(),
        limits: decoding.limits.clone(),
        message_bytes: usize::try_from(config.ingest.max_body_bytes).unwrap_or(usize::MAX),
        redactor: decoding.redactor.clone(),
        prefetch_bytes: usize::try_from(kafka.prefetch_bytes).unwrap_or(usize::MAX),
        recent_ids: RECENT_IDS,
        recent_messages: RECENT_MESSAGES,
        watch_interval: WATCH_INTERVAL,
        now: clock::now,
    }
}
