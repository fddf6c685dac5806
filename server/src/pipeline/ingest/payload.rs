//! What a body holds, and how it is decoded.

use std::sync::Arc;

use bytes::Bytes;
use watchbell_ingest::decode::logs::{
    BodyForm, BulkItem, DecodedBulk, EntriesForm, LogLimits, OtlpForm, Sequence, SyslogMessage, decode_bulk,
    decode_forward, decode_log_body, decode_otlp, decode_syslog,
};
use watchbell_ingest::decode::{DecodeError, Decoded, Origin, decode_audit};

use super::{Decoding, IngestError};
use crate::http::Clusters;

/// The names of sources in records.
pub(super) const AUDIT: &str = "audit";
pub(super) const LOGS: &str = "logs";
const BULK: &str = "bulk";
pub(super) const OTLP: &str = "otlp";
const SYSLOG: &str = "syslog";
const FORWARD: &str = "forward";

/// A chunk of Fluentd's, 8 MiB unless it is told otherwise, may hold many short lines.
const MAX_FORWARD_RECORDS: usize = 250_000;

/// What a body holds.
#[derive(Clone)]
pub(crate) enum Payload {
    /// Audit events.
    Audit,
    /// Log lines.
    Logs {
        form: BodyForm,
        /// What the sender repeats when it sends the body again.
        delivery: Option<Vec<u8>>,
    },
    /// A bulk request of an Elasticsearch client.
    Bulk { index: Option<String>, clusters: Clusters, delivery: Option<Vec<u8>> },
    /// OpenTelemetry's log records.
    Otlp { form: OtlpForm, delivery: Option<Vec<u8>> },
    /// Syslog messages; the body is empty.
    Syslog(Vec<SyslogMessage>),
    /// Entries of the forward protocol.
    Forward { tag: String, form: EntriesForm, chunk: Option<Vec<u8>> },
}

/// A decoded body.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) decoded: Decoded,
    /// Of a bulk request.
    pub(super) items: Vec<BulkItem>,
    /// Whether its events may be known from before: those of an anonymous delivery have identities of their own.
    pub(super) may_be_known: bool,
}

/// Why a body gave nothing.
pub(super) enum Unopened {
    /// It cannot be decoded.
    Decode(DecodeError),
    /// Something failed here.
    Ingest(IngestError),
}

/// What bytes that were kept can be tried as.
pub(super) enum Again {
    Is(Payload),
    /// Only a part, which says nothing without the rest.
    Part,
    /// What could not be unpacked: nothing is in it as it stands.
    Packed,
    /// There is no such source.
    Unknown,
}

impl From<DecodeError> for Unopened {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl Payload {
    /// The name of the source in records.
    pub(crate) fn source(&self) -> &'static str {
        match self {
            Self::Audit => AUDIT,
            Self::Logs { .. } => LOGS,
            Self::Bulk { .. } => BULK,
            Self::Otlp { .. } => OTLP,
            Self::Syslog(_) => SYSLOG,
            Self::Forward { .. } => FORWARD,
        }
    }

    /// How much it holds itself.
    pub(crate) fn bytes_beside_body(&self) -> usize {
        match self {
            Self::Syslog(messages) => messages.iter().map(|message| message.frame.bytes.len()).sum(),
            _ => 0,
        }
    }

    /// What the bytes of a whole body, or of a part of one, are that came from this source and could not be read.
    pub(super) fn again(source: &str, is_whole: bool, cluster: &str, bytes: &[u8], key: Vec<u8>) -> Again {
        let delivery = Some(key);
        match (source, is_whole) {
            (AUDIT, _) => Again::Is(Self::Audit),
            (LOGS | BULK, false) => Again::Is(Self::Logs { form: BodyForm::ByContent, delivery }),
            // a body for several clusters does not say for which
            (BULK, true) if !cluster.is_empty() => {
                Again::Is(Self::Bulk { index: None, clusters: Clusters::just(cluster), delivery })
            }
            (OTLP, true) => Again::Is(Self::Otlp { form: OtlpForm::of(bytes), delivery }),
            // lines and entries are never refused as a whole
            (LOGS | FORWARD, true) => Again::Packed,
            (BULK | OTLP | SYSLOG | FORWARD, _) => Again::Part,
            _ => Again::Unknown,
        }
    }

    fn delivery(&self) -> Option<&[u8]> {
        match self {
            Self::Audit | Self::Syslog(_) => None,
            Self::Forward { chunk, .. } => chunk.as_deref(),
            Self::Logs { delivery, .. } | Self::Bulk { delivery, .. } | Self::Otlp { delivery, .. } => {
                delivery.as_deref()
            }
        }
    }

    pub(super) fn open(&self, body: &Bytes, origin: &Origin, with: &Decoding) -> Result<Opened, Unopened> {
        if let Self::Audit = self {
            let decoded = decode_audit(body, origin, &with.limits, &with.redactor)?;
            return Ok(Opened { decoded, may_be_known: true, ..Opened::default() });
        }
        let id = delivery_id(self.delivery(), body).map_err(Unopened::Ingest)?;
        let delivery = Sequence::delivery(origin, &id);
        let (limits, redactor) = (&with.log_limits, &with.redactor);
        let may_be_known = self.delivery().is_some() || matches!(self, Self::Otlp { .. });
        let decoded = match self {
            Self::Audit => Decoded::default(),
            Self::Logs { form, .. } => decode_log_body(body, *form, origin, &delivery, limits, redactor)?,
            Self::Otlp { form, .. } => decode_otlp(body, *form, origin, &delivery, limits, redactor)?,
            Self::Syslog(messages) => {
                let envelopes = decode_syslog(messages, origin, &delivery, limits, redactor);
                Decoded { envelopes, ..Decoded::default() }
            }
            Self::Forward { tag, form, .. } => {
                let limits = LogLimits { records: MAX_FORWARD_RECORDS, ..limits.clone() };
                decode_forward(body, (tag, *form), origin, &delivery, &limits, redactor)?
            }
            Self::Bulk { index, clusters, .. } => {
                let cluster_of = |index: Option<&str>| clusters.of_index(index).map(Arc::from);
                let bulk = decode_bulk(body, index.as_deref(), &cluster_of, (origin, &id), limits, redactor)?;
                return Ok(opened_bulk(bulk, may_be_known));
            }
        };
        Ok(Opened { decoded, may_be_known, ..Opened::default() })
    }
}

fn opened_bulk(DecodedBulk { decoded, items }: DecodedBulk, may_be_known: bool) -> Opened {
    let may_be_known = may_be_known || items.iter().any(|item| item.id.is_some());
    Opened { decoded, items, may_be_known }
}

/// What numbers the records of a body. A key counts together with the body: a proxy may give one key to several, and
/// no line must be taken for another.
fn delivery_id(key: Option<&[u8]>, body: &[u8]) -> Result<Vec<u8>, IngestError> {
    let mut random = [0; 16];
    Ok(match key {
        Some(key) => [blake3::hash(body).as_bytes(), key].concat(),
        None => {
            getrandom::fill(&mut random).map_err(|error| IngestError::Failed(error.to_string()))?;
            random.to_vec()
        }
    })
}
