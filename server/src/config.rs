//! The configuration: one YAML file in which every setting has a default. All mistakes are reported at
//! once, each with its line.

mod alerting;
mod inputs;
mod kafka;
mod reader;
mod tail;
mod tls;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use tracing_subscriber::filter::LevelFilter;
use watchbell_event::yaml::{self, Node};
use watchbell_ingest::tail::TailConfig;
use watchbell_rules::{CorrelationConfig, Lists};

use self::reader::{Errors, Section};
use crate::files;
use crate::roles::Roles;
use crate::tokens::check_cluster_name;

pub(crate) use self::alerting::AlertingConfig;
pub(crate) use self::inputs::{AccessConfig, ForwardConfig, SharedKey, SyslogConfig};
pub(crate) use self::kafka::{KafkaConfig, KafkaLogConfig};
pub(crate) use self::tls::{ClientsConfig, TlsConfig};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Config {
    /// What this process does.
    pub(crate) roles: Roles,
    pub(crate) listen: SocketAddr,
    /// Serve plain HTTP on an address that is not loopback.
    pub(crate) allow_plaintext: bool,
    pub(crate) data_dir: PathBuf,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) max_connections: usize,
    pub(crate) metrics_public: bool,
    pub(crate) ingest: IngestConfig,
    pub(crate) syslog: SyslogConfig,
    pub(crate) forward: ForwardConfig,
    /// Log files that are followed.
    pub(crate) files: TailConfig,
    pub(crate) journal: JournalConfig,
    pub(crate) kafka: Option<KafkaConfig>,
    pub(crate) rules: RulesConfig,
    pub(crate) index: IndexConfig,
    pub(crate) search: SearchConfig,
    pub(crate) alerting: AlertingConfig,
    pub(crate) log: LogConfig,
}

/// What the receiver accepts.
#[derive(Debug)]
pub(crate) struct IngestConfig {
    /// Largest body, also after decompression.
    pub(crate) max_body_bytes: u64,
    /// Largest single event.
    pub(crate) max_event_bytes: u64,
    /// Bodies being read or decoded at one time, all sources together.
    pub(crate) in_flight_bytes: u64,
    /// Of these, what one source may have at one time.
    pub(crate) in_flight_per_source_bytes: u64,
    /// What each source may send.
    pub(crate) quota: QuotaConfig,
    /// What each source of these clusters may send instead.
    pub(crate) quotas: BTreeMap<String, QuotaConfig>,
    /// How long ids are remembered to recognise duplicates.
    pub(crate) dedupe_window: Duration,
    pub(crate) dedupe_max_events: u64,
    /// Further paths whose values are redacted before anything is stored.
    pub(crate) redact: Vec<String>,
    /// The key under which they are; by default one in the data directory.
    pub(crate) redaction_key_file: Option<PathBuf>,
    pub(crate) quarantine_max_bytes: u64,
    /// An audit feed that sends hardly anything for so long is reported; zero: never.
    pub(crate) feed_silence: Duration,
}

/// Bytes of request bodies that one source may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaConfig {
    pub(crate) bytes_per_second: u64,
    /// How much may come at once after a pause.
    pub(crate) burst_bytes: u64,
}

/// The disk journal.
#[derive(Debug)]
pub(crate) struct JournalConfig {
    pub(crate) segment_bytes: u64,
    pub(crate) retention: Duration,
    pub(crate) max_bytes: u64,
    /// Intake stops below this much free disk.
    pub(crate) min_free_bytes: u64,
    /// How long an append waits for others to share its fsync.
    pub(crate) group_commit_wait: Duration,
}

/// Where rules come from.
#[derive(Debug)]
pub(crate) struct RulesConfig {
    /// Use the shipped library.
    pub(crate) builtin: bool,
    /// Further rules; one with the id of a shipped rule replaces it.
    pub(crate) directory: Option<PathBuf>,
    /// The shipped lists, and those that the operator sets.
    pub(crate) lists: Lists,
    pub(crate) reload_interval: Duration,
    pub(crate) correlation: CorrelationConfig,
}

/// The search index.
#[derive(Debug)]
pub(crate) struct IndexConfig {
    pub(crate) commit_interval: Duration,
    pub(crate) heap_bytes: u64,
    pub(crate) retention: Duration,
    pub(crate) partition_max_events: u64,
}

/// Limits of searches.
#[derive(Debug)]
pub(crate) struct SearchConfig {
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
}

/// Log output.
#[derive(Debug)]
pub(crate) struct LogConfig {
    pub(crate) json: bool,
    pub(crate) filter: String,
}

const MAX_CONFIG_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads the file, or takes the defaults where there is none.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Self::parse("", "defaults") };
        let text = files::read_text(path, MAX_CONFIG_BYTES)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads the text; `name` is what errors call it.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self> {
        let documents = match yaml::parse(text) {
            Ok(documents) if documents.len() <= 1 => documents,
            Ok(documents) => bail!("{name}:{}: only one YAML document is read", documents[1].line),
            Err(error) => bail!("{name}:{}: {}", error.line, error.reason),
        };
        let errors = Errors::default();
        let root = Section::new("", documents.first(), &errors);
        let config = Self::read(&root);
        root.finish();
        let errors = errors.into_sorted();
        if errors.is_empty() {
            return Ok(config);
        }
        let mut message = format!("the configuration has {} mistake(s):", errors.len());
        for error in errors {
            let _ = write!(message, "\n  {name}:{}: {}", error.line, error.reason);
        }
        bail!(message)
    }

    fn read(root: &Section<'_>) -> Self {
        let allow_plaintext = root.flag("allow_plaintext", false);
        let tls = TlsConfig::read(root.section("tls"));
        let ingest = IngestConfig::read(root.section("ingest"));
        Self {
            roles: read_roles(root),
            listen: root.address("listen").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            allow_plaintext,
            data_dir: root.path("data_dir").unwrap_or_else(|| PathBuf::from("./watchbell-data")),
            shutdown_deadline: root.duration_from("shutdown_deadline", Duration::from_secs(25), SECOND),
            max_connections: size(root.integer("max_connections", 1_024, 1, 100_000)),
            metrics_public: root.flag("metrics_public", false),
            syslog: SyslogConfig::read(root.section("syslog"), tls.as_ref(), ingest.max_body_bytes),
            forward: ForwardConfig::read(root.section("forward"), tls.as_ref(), allow_plaintext),
            tls,
            ingest,
            files: tail::read(root),
            journal: JournalConfig::read(root.section("journal")),
            kafka: KafkaConfig::read(root.section("kafka"), root.get("kafka").is_some()),
            rules: RulesConfig::read(root.section("rules")),
            index: IndexConfig::read(root.section("index")),
            search: SearchConfig::read(root.section("search")),
            alerting: AlertingConfig::read(root.section("alerting")),
            log: LogConfig::read(root.section("log")),
        }
    }
}

fn read_roles(root: &Section<'_>) -> Roles {
    if root.get("roles").is_none() {
        return Roles::all();
    }
    root.texts("roles").join(",").parse().unwrap_or_else(|error| {
        root.errors().add(root.line_of("roles"), format!("roles: {error}"));
        Roles::all()
    })
}

impl IngestConfig {
    fn read(section: Section<'_>) -> Self {
        // An API server takes objects of 3 MiB, which its encoder can blow up six-fold and write twice. An
        // event that is cut cannot be judged by its body, so by default none is.
        let max_body_bytes = section.bytes("max_body", 64 * MIB);
        let in_flight_bytes = section.bytes("in_flight", 256 * MIB);
        let share = (in_flight_bytes / 2).max(max_body_bytes);
        let quota = QuotaConfig {
            bytes_per_second: section.bytes("quota_per_second", 64 * MIB),
            burst_bytes: section.bytes("quota_burst", 256 * MIB),
        };
        let config = Self {
            max_body_bytes,
            max_event_bytes: section.bytes("max_event", max_body_bytes),
            in_flight_bytes,
            in_flight_per_source_bytes: section.bytes("in_flight_per_source", share),
            quota,
            quotas: quotas(&section.section("quotas"), quota, max_body_bytes),
            feed_silence: section.duration("feed_silence", Duration::from_secs(15 * 60)),
            dedupe_window: section.duration_from("dedupe_window", Duration::from_secs(30 * 60), SECOND),
            dedupe_max_events: section.integer("dedupe_max_events", 2_000_000, 1_000, 100_000_000),
            redact: redacted_paths(&section),
            redaction_key_file: section.path("redaction_key_file"),
            quarantine_max_bytes: section.bytes("quarantine_max", GIB),
        };
        for (key, value, low, high) in [
            ("max_body", config.max_body_bytes, 1 << 10, GIB),
            ("max_event", config.max_event_bytes, 1 << 10, max_body_bytes),
            ("in_flight", in_flight_bytes, max_body_bytes, 64 * GIB),
            ("in_flight_per_source", config.in_flight_per_source_bytes, max_body_bytes, in_flight_bytes),
            ("quota_per_second", quota.bytes_per_second, 1 << 10, GIB << 10),
            ("quota_burst", quota.burst_bytes, max_body_bytes, GIB << 10),
        ] {
            check_range(&section, key, value, low, high);
        }
        section.finish();
        config
    }
}

/// Paths whose parts are names: an empty part would name nothing, and the secret would be kept.
fn redacted_paths(section: &Section<'_>) -> Vec<String> {
    let paths = section.texts("redact");
    for path in paths.iter().filter(|path| path.split('.').any(|part| part.trim().is_empty())) {
        let reason =
            format!("{} {path:?} is no path such as requestObject.spec.password", section.name("redact"));
        section.errors().add(section.line_of("redact"), reason);
    }
    paths
}

/// `quotas: {CLUSTER: {per_second, burst}}`; what is not given is as usual.
fn quotas(section: &Section<'_>, usual: QuotaConfig, max_body_bytes: u64) -> BTreeMap<String, QuotaConfig> {
    let mut quotas = BTreeMap::new();
    for entry in section.entries() {
        if let Err(error) = check_cluster_name(&entry.key) {
            section.errors().add(entry.line, format!("{}: {error}", section.name(&entry.key)));
        }
        let own = Section::new(section.name(&entry.key), Some(&entry.value), section.errors());
        let quota = QuotaConfig {
            bytes_per_second: own.bytes("per_second", usual.bytes_per_second),
            burst_bytes: own.bytes("burst", usual.burst_bytes),
        };
        check_range(&own, "per_second", quota.bytes_per_second, 1 << 10, GIB << 10);
        check_range(&own, "burst", quota.burst_bytes, max_body_bytes, GIB << 10);
        own.finish();
        quotas.insert(entry.key.clone(), quota);
    }
    quotas
}

fn check_range(section: &Section<'_>, key: &str, value: u64, low: u64, high: u64) {
    if !(low..=high).contains(&value) {
        let reason = format!("{} must be from {low} to {high} bytes, but is {value}", section.name(key));
        section.errors().add(section.line_of(key), reason);
    }
}

impl JournalConfig {
    fn read(section: Section<'_>) -> Self {
        let config = Self {
            segment_bytes: section.bytes("segment_size", 128 * MIB),
            retention: section.duration_from("retention", days(7), SECOND),
            max_bytes: section.bytes("max_size", 64 * GIB),
            min_free_bytes: section.bytes("min_free_disk", GIB),
            group_commit_wait: section.duration("group_commit_wait", Duration::from_millis(2)),
        };
        if config.segment_bytes < MIB || config.max_bytes < config.segment_bytes.saturating_mul(2) {
            let reason = "journal: segment_size must be at least 1MiB and max_size at least two segments";
            section.errors().add(section.line(), reason);
        }
        section.finish();
        config
    }
}

impl RulesConfig {
    fn read(section: Section<'_>) -> Self {
        let config = Self {
            builtin: section.flag("builtin", true),
            directory: section.path("directory"),
            lists: lists(&section),
            reload_interval: section.duration_from("reload_interval", Duration::from_secs(5), SECOND / 10),
            correlation: CorrelationConfig {
                lateness_micros: micros(section.duration("correlation_lateness", Duration::from_secs(60))),
                idle_micros: micros(section.duration_from(
                    "correlation_idle",
                    Duration::from_secs(30),
                    SECOND,
                )),
                rule_budget_bytes: size(section.bytes("correlation_rule_memory", 64 * MIB)),
                total_budget_bytes: size(section.bytes("correlation_memory", 256 * MIB)),
                ..CorrelationConfig::default()
            },
        };
        section.finish();
        config
    }
}

/// The shipped lists under those of `lists: {NAME: [values]}`.
fn lists(rules: &Section<'_>) -> Lists {
    let mut lists = Lists::shipped();
    let section = rules.section("lists");
    for entry in section.entries() {
        let name = section.name(&entry.key);
        let items = entry.value.items().unwrap_or(std::slice::from_ref(&entry.value));
        let values: Vec<String> = items.iter().filter_map(Node::scalar_text).collect();
        let set = match values.len() == items.len() {
            true => lists.override_with(&entry.key, values),
            false => Err("the values must be a list of texts".to_owned()),
        };
        if let Err(reason) = set {
            section.errors().add(entry.line, format!("{name}: {reason}"));
        }
    }
    lists
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl IndexConfig {
    fn read(section: Section<'_>) -> Self {
        let config = Self {
            commit_interval: section.duration("commit_interval", Duration::from_secs(1)),
            heap_bytes: section.bytes("heap", 64 * MIB),
            retention: section.duration_from("retention", days(90), days(1)),
            partition_max_events: section.integer("partition_max_events", 10_000_000, 1_000, 1_000_000_000),
        };
        if !(16 * MIB..=2 * GIB).contains(&config.heap_bytes) {
            section.errors().add(section.line_of("heap"), "index.heap must be from 16MiB to 2GiB");
        }
        section.finish();
        config
    }
}

impl SearchConfig {
    fn read(section: Section<'_>) -> Self {
        let config = Self {
            timeout: section.duration_from("timeout", Duration::from_secs(10), SECOND / 100),
            concurrency: size(section.integer("concurrency", 2, 1, 64)),
        };
        section.finish();
        config
    }
}

impl LogConfig {
    fn read(section: Section<'_>) -> Self {
        let json = section.parsed("format", false, |format| match format {
            "text" => Ok(false),
            "json" => Ok(true),
            _ => Err(format!("unknown log format {format:?}; known: text, json")),
        });
        let filter = section.text("level").unwrap_or_else(|| "info".to_owned());
        // a word alone that is no level would be the name of a part of the program, and all others silent
        let is_level = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
        let is_sound = filter.parse::<tracing_subscriber::EnvFilter>().is_ok();
        if !is_sound || !filter.split(',').any(|word| is_level(word.trim())) {
            section
                .errors()
                .add(section.line_of("level"), "log.level must be error, warn, info, debug or trace");
        }
        section.finish();
        Self { json, filter }
    }
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
