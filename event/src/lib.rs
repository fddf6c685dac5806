//! The vocabulary that every stage shares. Nothing here does I/O, reads the clock or keeps state.
//!
//! What passes between stages is always one of these types:
//!
//! ```text
//! ingest ──Envelope──► log ──Record──► rules ──Detection──► alerting
//!                           └─Record──► query
//! ```

pub mod audit;
mod detection;
mod explanation;
mod facets;
mod id;
pub mod log;
mod position;
pub mod predicate;
mod record;
pub mod secrets;
pub mod stored;
mod time;
pub mod yaml;

pub use detection::{ContributingEvent, CorrelationMatch, Detection, Level};
pub use explanation::{Counted, CountedRule, Deferred, Explanation, MetCondition};
pub use facets::{Facets, Outcome};
pub use id::EventId;
pub use position::{Position, Positions};
pub use record::{ENVELOPE_VERSION, Envelope, Format, Record};
pub use time::{FUTURE_TOLERANCE_MICROS, Timestamp};
