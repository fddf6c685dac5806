//! Request bodies to envelopes: split, check, repair, redact, identify.
//!
//! Accepted: an `EventList`, a single `Event`, an array of Events, and any sequence of these (NDJSON), of
//! `audit.k8s.io/v1` and `v1beta1`, with or without a byte-order mark. List items need no kind.
//!
//! An event must not vanish because of something a client wrote into a request. `requestObject` and
//! `responseObject` can hold a patch exactly as the client sent it, so flaws there (a key given twice,
//! nesting, half characters, size) are repaired: the event is kept in the form the API server acted on,
//! and handed out for the quarantine with the reason as well. `sourceIPs` holds every entry of a
//! header, and other members can be long too: what makes an event too large is cut (see `shrink`). A key given twice anywhere else was
//! not written by an API server, and such an event is rejected.

mod body;
mod compression;
mod event;
pub mod logs;
mod repair;
mod shrink;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use watchbell_event::{Envelope, Timestamp};

pub use compression::{Compression, DecompressError, decompress};

use crate::redact::Redactor;

/// Bounds of one request body.
#[derive(Clone, Debug)]
pub struct DecodeLimits {
    /// Longest event; of a longer one members are cut and, if that is not enough, it is rejected.
    pub event_bytes: usize,
    /// Lists and objects within one another; what is deeper is cut. Values above 127 count as 127.
    pub depth: usize,
    /// Keys and values in one event; of one with more, members are cut or it is rejected.
    pub values: usize,
    /// Most events in one body; beyond it the whole body is refused.
    pub events: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { event_bytes: 8 << 20, depth: 64, values: 250_000, events: 100_000 }
    }
}

/// Where a body came from; the same for all its events.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configured source, such as `audit`.
    pub source: Arc<str>,
    /// The cluster its credential or path names.
    pub cluster: Arc<str>,
    /// The address that sent it.
    pub peer: Option<IpAddr>,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Imported history, about which nobody is notified.
    pub history: bool,
}

/// What a body held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Ready for the log, in the order written.
    pub envelopes: Vec<Envelope>,
    /// What could not be kept as it was.
    pub rejected: Vec<Rejected>,
}

/// Bytes for the quarantine.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Of a body for several clusters: the one that it was for.
    pub cluster: Option<Arc<str>>,
    /// Where they stood in the body.
    pub place: Place,
    /// What is wrong with them.
    pub reason: Reason,
    /// True if the event was kept in a repaired form, which these bytes are.
    pub repaired: bool,
    /// What is not JSON as it was received, and everything else without secrets.
    pub bytes: Bytes,
}

/// A place in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Zero-based number of the event within the body.
    pub event: usize,
    /// Byte offset within the body, after decompression.
    pub offset: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} at byte {}", self.event, self.offset)
    }
}

/// Why bytes were rejected or repaired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The rest of the value cannot be read.
    #[error("not JSON: {0}")]
    Syntax(&'static str),
    /// A number, a text, …
    #[error("not an object")]
    NotAnObject,
    /// Not what the protocol it came by says.
    #[error("{0}")]
    Protocol(&'static str),
    /// In a bulk request, a line that says nothing about the document after it, or no document after it.
    #[error(
        "not an action of a bulk request (create, index, update, delete) with its document in the next line"
    )]
    NotAnAction,
    /// Another kind of object.
    #[error("kind {kind:?} of {api_version:?} is not an audit.k8s.io/v1 or v1beta1 Event")]
    WrongKind {
        /// What `kind` says, cut to 64 characters.
        kind: String,
        /// What `apiVersion` says, cut to 64 characters.
        api_version: String,
    },
    /// Neither says what it is nor looks like an audit event.
    #[error("not an audit event: it has neither apiVersion nor auditID")]
    NotAnEvent,
    /// A parser that takes the first and one that takes the last would see different events.
    #[error("a key is given twice in one object")]
    DuplicateKey,
    /// [`DecodeLimits::depth`]
    #[error("nested deeper than {0}")]
    TooDeep(usize),
    /// [`DecodeLimits::values`]
    #[error("more than {0} keys and values")]
    TooManyValues(usize),
    /// [`DecodeLimits::event_bytes`]
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// Not UTF-8, or half of a surrogate pair.
    #[error("text that is not Unicode")]
    NotUnicode,
    /// It is kept as text.
    #[error("a number beyond the range of 64-bit floating point")]
    HugeNumber,
}

impl Reason {
    /// A name for metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::NotAnObject => "not_an_object",
            Self::Protocol(_) => "protocol",
            Self::NotAnAction => "not_an_action",
            Self::WrongKind { .. } => "wrong_kind",
            Self::NotAnEvent => "not_an_event",
            Self::DuplicateKey => "duplicate_key",
            Self::TooDeep(_) => "too_deep",
            Self::TooManyValues(_) => "too_many_values",
            Self::TooLong(_) => "too_long",
            Self::NotUnicode => "not_unicode",
            Self::HugeNumber => "huge_number",
        }
    }
}

/// Nothing of the body could be kept, so the sender is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes but white space.
    #[error("the body is empty")]
    Empty,
    /// None of its values is an event or a list of events.
    #[error("{place}: {reason}")]
    Unusable {
        /// Of the first flaw.
        place: Place,
        /// The first flaw.
        reason: Reason,
    },
    /// [`DecodeLimits::events`]
    #[error("the body has more than {limit} events")]
    TooManyEvents {
        /// Events that are read.
        limit: usize,
    },
    /// What its records share is so long that repeating it in each of them would take too much.
    #[error("the records of the body would take more than {limit_bytes} bytes together")]
    TooLong {
        /// Bytes of documents that are made of one body.
        limit_bytes: usize,
    },
}

/// Reads all events of a body. Events that are not redacted share the body's memory.
///
/// # Errors
/// If nothing of it can be kept; flaws beside good events are in [`Decoded::rejected`].
pub fn decode_audit(
    body: &Bytes,
    origin: &Origin,
    limits: &DecodeLimits,
    redactor: &Redactor,
) -> Result<Decoded, DecodeError> {
    let decoded = body::decode(body, event::Decoder::new(origin, limits, redactor))?;
    for Rejected { reason, repaired, .. } in &decoded.rejected {
        let outcome = if *repaired { "repaired" } else { "rejected" };
        metrics::counter!("watchbell_ingest_flaws_total", "reason" => reason.label(), "outcome" => outcome)
            .increment(1);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests;
