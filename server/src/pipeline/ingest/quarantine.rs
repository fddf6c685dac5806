//! What could not be read: listing it, and trying again to read it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, spawn_blocking};
use watchbell_event::{EventId, Timestamp};
use watchbell_ingest::decode::Decoded;
use watchbell_ingest::log::kafka::WHOLE_MESSAGE;
use watchbell_ingest::quarantine::{Quarantine, QuarantineError, QuarantinedEntry};

use super::payload::{Again, OTLP, Opened, Payload, Unopened};
use super::{IngestError, IngestPort, Ingested, WHOLE_BODY};
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
    /// What it was sent with, such as a tag or a resource, was not kept.
    #[error(
        "it came through {0:?} with something that is not kept (a resource, a tag, a cluster), so it cannot be tried again"
    )]
    Part(String),
    /// It came through something that this server does not have, or has no more, such as a topic.
    #[error("it came through {0:?}, which this server does not read, so it cannot be tried again")]
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
        let payload = self.payload(found)?;
        let Opened { decoded, items, .. } =
            payload.open(&found.bytes, &origin, &self.decoding).map_err(|error| match error {
                Unopened::Decode(error) => RetryError::StillUnreadable(error.to_string()),
                Unopened::Ingest(error) => RetryError::Ingest(error),
            })?;
        if decoded.envelopes.is_empty() {
            let rejected = decoded.rejected.first().map(|rejected| rejected.reason.to_string());
            let refused = items.iter().find_map(|item| item.refused).map(|refusal| refusal.to_string());
            return Err(RetryError::StillUnreadable(rejected.or(refused).unwrap_or_default()));
        }
        self.keep_rejected(&origin, &decoded)?;
        Ok(decoded)
    }

    /// What the bytes are now. The key numbers what is in them, so that it is stored once however often this is asked
    /// for.
    fn payload(&self, Quarantined { entry, bytes }: &Quarantined) -> Result<Payload, RetryError> {
        let format = self.format(&entry.source);
        // a message of other formats may be tried as any part of it
        let is_request = format == OTLP && entry.place.ends_with(WHOLE_MESSAGE);
        let is_whole = entry.place == WHOLE_BODY || is_request;
        let key = entry.key.0.to_vec();
        match Payload::again(format, is_whole, &entry.cluster, bytes, key) {
            Again::Is(payload) => Ok(payload),
            Again::Part => Err(RetryError::Part(entry.source.clone())),
            Again::Packed => Err(RetryError::StillUnreadable(entry.reason.clone())),
            Again::Unknown => Err(RetryError::Source(entry.source.clone())),
        }
    }

    /// The source whose bodies a topic's messages are like; every other source is like itself.
    fn format<'a>(&self, source: &'a str) -> &'a str {
        match self.topic_formats.get(source) {
            Some(format) => format.name(),
            None => source,
        }
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
            scan(&port.decoding.quarantine)
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
    Ok(())
}
