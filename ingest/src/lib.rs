//! Sources and the log: from request bodies to durable records.
//!
//! ```text
//! body ──decode (redact, identity)──► Envelope ──intake (dedupe)──► log ──► Record
//!            └──Rejected──► quarantine
//! ```

pub mod decode;
mod identity;
pub mod intake;
mod json;
pub mod log;
mod mix;
pub mod quarantine;
pub mod redact;
pub mod tail;
#[cfg(test)]
mod testing;
