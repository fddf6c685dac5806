//! The log as the configuration wants it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use watchbell_ingest::log::kafka::{
    Contents, KafkaConfig, KafkaLog, OwnTopic, Share, ShareConfig, Start, TopicConfig, Topics,
};
use watchbell_ingest::log::{Joined, Journal, JournalConfig, Log};

use super::ingest::Decoding;
use crate::config::{self, Config, KafkaLogConfig};
use crate::roles::{Role, Roles};
use crate::{clock, files};

/// Name below the data directory.
const MEMBER_FILE: &str = "kafka-member";
const MAX_MEMBER_BYTES: u64 = 64;

/// Copies of events are recognised among so many of the newest ones, at 20 to 40 bytes each.
const RECENT_IDS: usize = 500_000;
/// A reader that starts looks at so many messages again to know what it had read. They are decoded in a second.
const RECENT_MESSAGES: u64 = 20_000;
/// How long an answer to a sender may take.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(8);
/// How often topics are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How long to wait at a start for a broker that says whether topics exist.
const TOPICS_PATIENCE: Duration = Duration::from_secs(10);

/// What the stages of this process read and write.
pub(super) struct Opened {
    /// What is received, and topics that others fill.
    pub(super) log: Log,
    /// What whoever alerts reads: the same, or what others have found in it.
    pub(super) to_alert_on: Log,
    /// What is read together with other processes that detect.
    pub(super) share: Option<Share>,
}

/// Opens the journal, or the topic in its place, and topics that others fill if there are any.
///
/// # Errors
/// What cannot be opened.
pub(super) async fn open(config: &Config, decoding: &Decoding) -> Result<Opened> {
    let alone = |log: Log| Opened { to_alert_on: log.clone(), log, share: None };
    let Some(kafka) = &config.kafka else { return Ok(alone(Log::Disk(open_journal(config)?))) };
    let settings = kafka_config(kafka, config, decoding);
    let topics = Topics::open(&config.data_dir, settings, Arc::clone(&decoding.quarantine))
        .context("failed to set Kafka up")?;
    let Some(own) = &kafka.log else {
        return Ok(alone(Log::Joined(Joined { journal: open_journal(config)?, topics })));
    };
    if !config.roles.are_all() {
        check_topics(&topics, config).await?;
    }
    let own_topic = OwnTopic {
        topic: Arc::clone(&own.topic),
        allow_single_replica: own.allow_single_replica,
        in_flight_bytes: size(config.ingest.in_flight_bytes),
        message_bytes: size(config.ingest.max_event_bytes),
        timeout: REPLICATION_TIMEOUT,
    };
    let sources = topics.only(|topic| topic.contents != Contents::Matches);
    let log = KafkaLog::open(sources.clone(), own_topic).context("failed to set Kafka up")?;
    let matches = || log.reading(topics.only(|topic| topic.contents == Contents::Matches));
    let to_alert_on = if config.roles.read_matches() { matches() } else { log.clone() };
    let share = match config.roles.pass_matches_on() {
        true => Some(sources.share(share_config(config, kafka, own)?).context("failed to set Kafka up")?),
        false => None,
    };
    Ok(Opened { to_alert_on: Log::Kafka(to_alert_on), log: Log::Kafka(log), share })
}

/// # Errors
/// Names the topics that are missing, and how to make them. If no broker answers, they are waited for.
async fn check_topics(topics: &Topics, config: &Config) -> Result<()> {
    let Some(missing) = topics.missing(TOPICS_PATIENCE).await else {
        tracing::warn!("no Kafka broker has said yet whether the topics exist; going on as if they did");
        return Ok(());
    };
    if missing.is_empty() {
        report_few_partitions(topics);
        return Ok(());
    }
    let names = missing.iter().map(|topic| topic.to_string()).collect::<Vec<_>>().join(", ");
    bail!(
        "Kafka lacks topics that the roles {} need: {names}. Make them, for instance with kafka-topics.sh --create \
         --partitions 6 --replication-factor 3 --config min.insync.replicas=2 --topic NAME; the topic of matches needs \
         as many partitions as all topics that are read have together",
        config.roles
    )
}

/// Partitions of the log that share one of the matches have one watermark: where one lags, correlations take its events for
/// late.
fn report_few_partitions(topics: &Topics) {
    let (mut matches, mut needed) = (None, 0);
    for (topic, status) in topics.topics().zip(topics.status().topics) {
        match topic.contents {
            Contents::Matches => matches = Some((&topic.topic, status.partitions.len())),
            _ => needed += status.partitions.len(),
        }
    }
    if let Some((topic, partitions)) = matches.filter(|(_, partitions)| *partitions < needed) {
        tracing::warn!(
            topic = &**topic,
            partitions,
            needed,
            "the topic of matches has fewer partitions than all topics that are read have together: correlations may take \
             events for late when one of these lags; give it as many"
        );
    }
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
    // where nothing is received, nobody has dropped copies before
    let window = size(config.ingest.dedupe_max_events);
    KafkaConfig {
        connection: kafka.connection.clone(),
        group: kafka.group.clone(),
        topics: looked_at(kafka, &config.roles),
        limits: decoding.limits.clone(),
        log_limits: decoding.log_limits.clone(),
        message_bytes: size(config.ingest.max_body_bytes),
        redactor: decoding.redactor.clone(),
        prefetch_bytes: size(kafka.prefetch_bytes),
        replicated: replicated(kafka, &config.roles),
        recent_ids: if config.roles.has(Role::Receive) { RECENT_IDS } else { window.max(RECENT_IDS) },
        recent_messages: RECENT_MESSAGES,
        watch_interval: WATCH_INTERVAL,
        now: clock::now,
    }
}

/// The topics that concern a process with these roles. The log does always: what is done to a process is recorded in it.
fn looked_at(kafka: &config::KafkaConfig, roles: &Roles) -> Vec<TopicConfig> {
    let reads_all = roles.has(Role::Detect) || roles.has(Role::Index);
    let topics = kafka.topics.iter().filter(|topic| reads_all || topic.contents == Contents::Envelopes);
    let matches = kafka.log.as_ref().filter(|_| roles.pass_matches_on() || roles.read_matches());
    let matches = matches.map(|log| TopicConfig {
        topic: Arc::clone(&log.matches_topic),
        contents: Contents::Matches,
        start: Start::Earliest,
    });
    topics.cloned().chain(matches).collect()
}

/// The topics that are written, unless they may be lost with one broker.
fn replicated(kafka: &config::KafkaConfig, roles: &Roles) -> Vec<Arc<str>> {
    let Some(log) = kafka.log.as_ref().filter(|log| !log.allow_single_replica) else { return Vec::new() };
    let matches = roles.pass_matches_on().then(|| Arc::clone(&log.matches_topic));
    [Arc::clone(&log.topic)].into_iter().chain(matches).collect()
}

fn share_config(config: &Config, kafka: &config::KafkaConfig, log: &KafkaLogConfig) -> Result<ShareConfig> {
    let group = format!("{}-detect", kafka.group);
    let member = member_name(&config.data_dir.join(MEMBER_FILE))?;
    Ok(ShareConfig {
        transactional_id: format!("{group}-{member}"),
        group,
        target: Arc::clone(&log.matches_topic),
        allow_single_replica: log.allow_single_replica,
        message_bytes: size(config.ingest.max_event_bytes),
    })
}

/// The name under which this data directory writes transactions, made at the first start.
fn member_name(path: &Path) -> Result<String> {
    if !path.exists() {
        let mut random = [0; 8];
        getrandom::fill(&mut random).context("failed to get random bytes from the operating system")?;
        files::write_private(path, format!("{:016x}\n", u64::from_le_bytes(random)).as_bytes())?;
    }
    let name = files::read_text(path, MAX_MEMBER_BYTES)?.trim().to_owned();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        bail!("{} must hold a name of letters and digits; without the file, one is made", path.display());
    }
    Ok(name)
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
