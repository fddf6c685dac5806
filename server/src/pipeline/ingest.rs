//! Everything that happens to a request body before it is answered: unpack, decode, quarantine,
//! deduplicate, append.

mod decoders;
mod payload;
mod quarantine;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::sync::Mutex;
use watchbell_event::Envelope;
use watchbell_ingest::decode::logs::{BulkItem, LogLimits};
use watchbell_ingest::decode::{
    Compression, DecodeError, DecodeLimits, Decoded, DecompressError, Origin, Rejected, decode_audit,
    decompress,
};
use watchbell_ingest::intake::{Intake, IntakeConfig, LookupError, OlderEvent};
use watchbell_ingest::log::kafka::{Contents, TopicFormat};
use watchbell_ingest::log::{AppendError, Log};
use watchbell_ingest::quarantine::{Quarantine, QuarantineConfig, QuarantineEntry};
use watchbell_ingest::redact::Redactor;

use self::decoders::Decoders;
use self::payload::{AUDIT, Opened, Unopened};
use super::index::IndexView;
use crate::clock;
use crate::config::Config;
use crate::files;

pub(crate) use self::payload::Payload;
pub(crate) use self::quarantine::{Quarantined, RetryError};

/// The place of what makes a body unusable.
const WHOLE_BODY: &str = "the whole body";

/// Takes events in, durably.
pub(crate) struct IngestPort {
    intake: Intake,
    decoding: Decoding,
    /// What topics hold, by the source that their events name.
    topic_formats: BTreeMap<String, TopicFormat>,
    /// Held by whoever reads through the quarantine, which takes a while.
    scans: Arc<Mutex<()>>,
    /// Knows older events. Where another process indexes, that one recognises what is sent again late.
    index: Option<Arc<IndexView>>,
    decoders: Decoders,
}

/// Bounds and secrets of decoding, and where goes what cannot be decoded: what the receiver and topics have in common.
pub(super) struct Decoding {
    pub(super) redactor: Redactor,
    pub(super) limits: DecodeLimits,
    pub(super) log_limits: LogLimits,
    pub(super) quarantine: Arc<Quarantine>,
}

impl Decoding {
    pub(super) fn open(config: &Config) -> Result<Self> {
        let ingest = &config.ingest;
        let key = match &ingest.redaction_key_file {
            Some(path) => read_redaction_key(path)?,
            None => redaction_key(&config.data_dir.join("redaction.key"))?,
        };
        let quarantine_config =
            QuarantineConfig { max_bytes: ingest.quarantine_max_bytes, ..QuarantineConfig::default() };
        let quarantine = Quarantine::open(&config.data_dir.join("quarantine"), quarantine_config)?;
        Ok(Self {
            redactor: Redactor::new(key, ingest.redact.clone()),
            limits: DecodeLimits {
                event_bytes: usize::try_from(ingest.max_event_bytes).unwrap_or(usize::MAX),
                ..DecodeLimits::default()
            },
            log_limits: LogLimits::default(),
            quarantine: Arc::new(quarantine),
        })
    }
}

/// What is known of a body beside its bytes.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) cluster: String,
    pub(crate) peer: IpAddr,
    pub(crate) history: bool,
    pub(crate) compression: Option<Compression>,
    /// Of the body once it is unpacked.
    pub(crate) max_bytes: u64,
    pub(crate) payload: Payload,
}

/// What became of a body's events. All that is counted here is durable.
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    pub(crate) stored: usize,
    pub(crate) duplicates: usize,
    pub(crate) rejected: usize,
    /// What became of each item of a bulk request.
    pub(crate) items: Vec<BulkItem>,
}

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    /// Nothing in it can be kept.
    #[error("{0}")]
    Body(String),
    /// It is too large once unpacked, or its events are.
    #[error("{0}")]
    TooLarge(String),
    /// There is no room for it.
    #[error("{0}")]
    Full(String),
    /// The log is catching up.
    #[error("the log is catching up")]
    Busy,
    /// The disk failed, or decoding broke down.
    #[error("{0}")]
    Failed(String),
}

impl IngestPort {
    pub(super) fn open(
        config: &Config,
        decoding: Decoding,
        log: Log,
        index: Option<Arc<IndexView>>,
    ) -> Result<Self> {
        let ingest = &config.ingest;
        let intake_config = IntakeConfig {
            window_seconds: ingest.dedupe_window.as_secs(),
            window_ids: usize::try_from(ingest.dedupe_max_events).unwrap_or(usize::MAX),
        };
        Ok(Self {
            intake: Intake::open(log, &intake_config, clock::now())?,
            decoding,
            topic_formats: topic_formats(config),
            scans: Arc::default(),
            index,
            decoders: Decoders::start()?,
        })
    }

    /// Takes one request body; returns once its events, and what was wrong with others, are on disk.
    pub(crate) async fn take(
        self: Arc<Self>,
        request: Request,
        body: Bytes,
    ) -> Result<Ingested, IngestError> {
        let Request { peer, history, .. } = request;
        let origin = self.origin(request.payload.source(), &request.cluster, Some(peer), history);
        let Opened { decoded, items, may_be_known } = self.decode(origin, request, body).await?;
        let ingested = self.append(decoded, may_be_known).await?;
        Ok(Ingested { items, ..ingested })
    }

    /// Takes one event of this server's own.
    pub(crate) async fn take_own(&self, cluster: &str, event: Vec<u8>) -> Result<(), IngestError> {
        let origin = self.origin(AUDIT, cluster, None, false);
        let decoded = decode_audit(&event.into(), &origin, &self.decoding.limits, &self.decoding.redactor)
            .map_err(|error| IngestError::Body(error.to_string()))?;
        // it happened just now, so nobody has stored it before
        self.append(decoded, false).await.map(drop)
    }

    /// Takes lines of files; returns once they are on disk.
    pub(super) async fn take_lines(
        &self,
        envelopes: Vec<Envelope>,
        may_be_known: bool,
    ) -> Result<Ingested, IngestError> {
        self.append(Decoded { envelopes, ..Decoded::default() }, may_be_known).await
    }

    /// Whether a source brings audit events: the receiver's, or a topic of them.
    pub(super) fn is_audit(&self, source: &str) -> bool {
        source == AUDIT || self.topic_formats.get(source) == Some(&TopicFormat::Audit)
    }

    /// Makes what must not be stored unreadable.
    pub(super) fn redactor(&self) -> &Redactor {
        &self.decoding.redactor
    }

    fn origin(&self, source: &str, cluster: &str, peer: Option<IpAddr>, history: bool) -> Origin {
        Origin { source: source.into(), cluster: cluster.into(), peer, received_at: clock::now(), history }
    }

    /// Unpacks and decodes; keeps in quarantine what cannot be kept otherwise.
    async fn decode(
        self: &Arc<Self>,
        origin: Origin,
        request: Request,
        body: Bytes,
    ) -> Result<Opened, IngestError> {
        let port = Arc::clone(self);
        let decoded = self.decoders.run(move || port.decode_blocking(&origin, &request, body));
        decoded.await.map_err(|error| IngestError::Failed(error.to_string()))?
    }

    fn decode_blocking(
        &self,
        origin: &Origin,
        request: &Request,
        body: Bytes,
    ) -> Result<Opened, IngestError> {
        let limit = usize::try_from(request.max_bytes).unwrap_or(usize::MAX);
        let body = match request.compression.map(|compression| decompress(&body, compression, limit)) {
            None => body,
            Some(Ok(unpacked)) => unpacked,
            Some(Err(error @ DecompressError::TooLong { .. })) => {
                return Err(IngestError::TooLarge(error.to_string()));
            }
            Some(Err(error)) => return Err(self.refuse(origin, error.to_string(), body)),
        };
        match request.payload.open(&body, origin, &self.decoding) {
            Ok(opened) => {
                self.keep_rejected(origin, &opened.decoded)?;
                Ok(opened)
            }
            Err(Unopened::Ingest(error)) => Err(error),
            Err(Unopened::Decode(DecodeError::Empty)) => {
                Err(IngestError::Body(DecodeError::Empty.to_string()))
            }
            Err(Unopened::Decode(
                error @ (DecodeError::TooManyEvents { .. } | DecodeError::TooLong { .. }),
            )) => Err(IngestError::TooLarge(error.to_string())),
            Err(Unopened::Decode(error)) => Err(self.refuse(origin, error.to_string(), body)),
        }
    }

    /// Keeps a body of which nothing can be used, once, and makes the answer to its sender.
    fn refuse(&self, origin: &Origin, reason: String, bytes: Bytes) -> IngestError {
        let entry = QuarantineEntry {
            time: origin.received_at,
            source: origin.source.to_string(),
            cluster: origin.cluster.to_string(),
            peer: origin.peer,
            place: WHOLE_BODY.to_owned(),
            reason: reason.clone(),
            repaired: false,
            bytes,
        };
        match self.keep(&[entry]) {
            Ok(()) => IngestError::Body(reason),
            Err(error) => error,
        }
    }

    /// Keeps what of a body could not be kept otherwise.
    fn keep_rejected(&self, origin: &Origin, decoded: &Decoded) -> Result<(), IngestError> {
        let entries: Vec<_> = decoded.rejected.iter().map(|rejected| entry(origin, rejected)).collect();
        self.keep(&entries)
    }

    fn keep(&self, entries: &[QuarantineEntry]) -> Result<(), IngestError> {
        if entries.is_empty() {
            return Ok(());
        }
        // What is not even in quarantine must be sent again.
        self.decoding
            .quarantine
            .append(entries)
            .map(drop)
            .map_err(|error| IngestError::Failed(error_chain(&error)))
    }

    async fn append(&self, decoded: Decoded, may_be_known: bool) -> Result<Ingested, IngestError> {
        let rejected = decoded.rejected.iter().filter(|rejected| !rejected.repaired).count();
        let older = async |older: Vec<OlderEvent>| {
            if may_be_known { self.stored_before(older).await } else { Ok(vec![false; older.len()]) }
        };
        let receipt = self.intake.append(decoded.envelopes, older).await?;
        metrics::counter!("watchbell_ingest_events_total").increment(receipt.stored as u64);
        metrics::counter!("watchbell_ingest_rejected_events_total").increment(rejected as u64);
        Ok(Ingested { stored: receipt.stored, duplicates: receipt.duplicates, rejected, items: Vec::new() })
    }

    /// Asks the index for events that are older than the window of remembered ids, once it has them all.
    async fn stored_before(&self, older: Vec<OlderEvent>) -> Result<Vec<bool>, LookupError> {
        let Some(index) = &self.index else { return Ok(vec![false; older.len()]) };
        let (indexed, forgotten) = (index.positions(), self.intake.forgotten_end());
        if forgotten.iter().any(|(partition, end)| indexed.next(partition) < end) {
            return Err(LookupError::Behind);
        }
        let searcher = index.searcher();
        let asked: Vec<_> = older.iter().map(|event| (event.id, event.time)).collect();
        let looked_up = tokio::task::spawn_blocking(move || searcher.contains(&asked));
        let failed = |error: &dyn std::error::Error| LookupError::Failed(error_chain(error));
        looked_up.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

impl From<AppendError> for IngestError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full(_) => Self::Full(error.to_string()),
            AppendError::Backpressure => Self::Busy,
            AppendError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            AppendError::Failed(_) => Self::Failed(error.to_string()),
        }
    }
}

fn topic_formats(config: &Config) -> BTreeMap<String, TopicFormat> {
    let topics = config.kafka.iter().flat_map(|kafka| &kafka.topics);
    let formats = topics.filter_map(|topic| match topic.contents {
        Contents::Events { format, .. } => Some((topic.source(), format)),
        Contents::Envelopes | Contents::Matches => None,
    });
    formats.collect()
}

fn entry(origin: &Origin, rejected: &Rejected) -> QuarantineEntry {
    QuarantineEntry {
        time: origin.received_at,
        source: origin.source.to_string(),
        cluster: rejected.cluster.as_ref().unwrap_or(&origin.cluster).to_string(),
        peer: origin.peer,
        place: rejected.place.to_string(),
        reason: rejected.reason.to_string(),
        repaired: rejected.repaired,
        bytes: rejected.bytes.clone(),
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// The key under which redacted values are hashed, made at the first start. With another key, equal values
/// no longer correlate across the change.
fn redaction_key(path: &Path) -> Result<[u8; 32]> {
    if !path.exists() {
        let mut key = [0; 32];
        getrandom::fill(&mut key).context("failed to get random bytes from the operating system")?;
        files::write_private(path, &key)?;
    }
    read_redaction_key(path)
}

fn read_redaction_key(path: &Path) -> Result<[u8; 32]> {
    match files::read(path, 1 << 10)?.try_into() {
        Ok(key) => Ok(key),
        Err(_) => bail!("{} must hold 32 bytes; restore it from a backup", path.display()),
    }
}
