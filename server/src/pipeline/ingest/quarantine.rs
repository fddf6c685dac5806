//! What could not be read: listing it, and trying again to read it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, spawn_blocking};
use watchbell_event::{EventId, Format, Timestamp};
use watchbell_ingest::decode::logs::{BodyForm, Sequence, decode_log_body};
use watchbell_ingest::decode::{DecodeError, Decoded, Origin, decode_audit};
use watchbell_ingest::quarantine::{Quarantine, QuarantineError, QuarantinedEntry};

use super::{AUDIT, IngestError, IngestPort, Ingested, LOGS, WHOLE_BODY};
use crate::clock;

/// An entry with what is kept of its bytes.
pub(crate) struct Quarantined {
    pub(crate) entry: QuarantinedEntry,
    pub(crate) bytes: Bytes,
}

/// Why an entry was not read, or not read again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetryError {
    /// It never was there, or was rotated out.
    #[error("the quarantine has no entry {0}")]
    Unknown(EventId),
    /// The bytes are what was stored.
    #[error("the event was kept in a repaired form, so there is nothing to be tried again")]
    Repaired,
    /// The rest is lost.
    #[error("only {kept} of its {total} bytes were kept, so it cannot be tried again")]
    Cut { kept: usize, total: usize },
    /// A retry worked before.
    #[error("it was read at {0} already")]
    Done(Timestamp),
    /// It came through something that is not a decoder of this server.
    #[error("entries that came through {0:?} cannot be tried again")]
    Source(String),
    /// The limits or the decoder say no, as before.
    #[error("it still cannot be read: {0}")]
    StillUnreadable(String),
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error(transparent)]
    Store(#[from] QuarantineError),
    #[error("failed to finish")]
    Broken(#[from] JoinError),
}

impl IngestPort {
    /// What could not be read and is older than `before`, newest first.
    pub(crate) async fn quarantined(
        self: &Arc<Self>,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<QuarantinedEntry>, RetryError> {
        self.scan(move |quarantine| quarantine.list(limit, before)).await
    }

    /// One entry.
    pub(crate) async fn quarantined_entry(self: &Arc<Self>, key: EventId) -> Result<Quarantined, RetryError> {
        let found = self.scan(move |quarantine| quarantine.get(key)).await?;
        let (entry, bytes) = found.ok_or(RetryError::Unknown(key))?;
        Ok(Quarantined { entry, bytes })
    }

    /// Sends an entry through the decoder again, as if it arrived now. If nothing is rejected this time, the entry
    /// is marked as done, which is the second value.
    pub(crate) async fn retry(self: &Arc<Self>, key: EventId) -> Result<(Ingested, bool), RetryError> {
        let found = self.quarantined_entry(key).await?;
        check(&found)?;
        let port = Arc::clone(self);
        let decoded = spawn_blocking(move || port.decode_again(&found)).await??;
        let ingested = self.append(decoded, true).await?;
        let done = ingested.rejected == 0;
        if done {
            self.scan(move |quarantine| quarantine.mark_done(key, clock::now())).await?;
        }
        Ok((ingested, done))
    }

    fn decode_again(&self, found: &Quarantined) -> Result<Decoded, RetryError> {
        let kept = &found.entry;
        let origin = self.origin(&kept.source, &kept.cluster, kept.peer, false);
        let format = self.format(&kept.source).ok_or_else(|| RetryError::Source(kept.source.clone()))?;
        let decoded = match format {
            Format::Log => self.decode_lines_again(&origin, found),
            _ => decode_audit(&found.bytes, &origin, &self.limits, &self.redactor),
        };
        let decoded = decoded.map_err(|error| RetryError::StillUnreadable(error.to_string()))?;
        if decoded.envelopes.is_empty() {
            let reason = decoded.rejected.first().map(|rejected| rejected.reason.to_string());
            return Err(RetryError::StillUnreadable(reason.unwrap_or_default()));
        }
        self.keep_rejected(&origin, &decoded)?;
        Ok(decoded)
    }

    /// What a source sends, if it is one of this server.
    fn format(&self, source: &str) -> Option<Format> {
        match source {
            AUDIT => Some(Format::KubernetesAudit),
            LOGS => Some(Format::Log),
            _ => self.topic_formats.get(source).copied(),
        }
    }

    /// The key numbers the lines, so that they are stored once however often this is asked for.
    fn decode_lines_again(&self, origin: &Origin, found: &Quarantined) -> Result<Decoded, DecodeError> {
        let delivery = Sequence::delivery(origin, &found.entry.key.0);
        let form = BodyForm::ByContent;
        decode_log_body(&found.bytes, form, origin, &delivery, &self.log_limits, &self.redactor)
    }

    /// Reads through the files where that may block, one request at a time.
    async fn scan<T: Send + 'static>(
        self: &Arc<Self>,
        scan: impl FnOnce(&Quarantine) -> Result<T, QuarantineError> + Send + 'static,
    ) -> Result<T, RetryError> {
        let turn = Arc::clone(&self.scans).lock_owned().await;
        let port = Arc::clone(self);
        let scanned = spawn_blocking(move || {
            let _turn = turn;
            scan(&port.quarantine)
        });
        Ok(scanned.await??)
    }
}

fn check(Quarantined { entry, bytes }: &Quarantined) -> Result<(), RetryError> {
    if let Some(at) = entry.done_at {
        return Err(RetryError::Done(at));
    }
    if entry.repaired {
        return Err(RetryError::Repaired);
    }
    if bytes.len() < entry.total_bytes {
        return Err(RetryError::Cut { kept: bytes.len(), total: entry.total_bytes });
    }
    match (entry.source.as_str(), entry.place.as_str()) {
        // Lines are never refused, so this is what could not be unpacked: no line is in it as it stands.
        (LOGS, WHOLE_BODY) => Err(RetryError::StillUnreadable(entry.reason.clone())),
        _ => Ok(()),
    }
}
