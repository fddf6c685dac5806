//! Sources and the log: from request bodies to durable records.
//!
//! ```text
//! body ──decode (redact, identity)──► Envelope ──intake (dedupe)──► log ──► Record
//!            └──Rejected──► quarantine
//! ```

pub mod decode;
mod identity;
mod json;
pub mod redact;
