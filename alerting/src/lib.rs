//! Alerts: from detections to people.
//!
//! ```text
//! Detection ──► store::commit ──► alert rows      (one transaction, with the detection positions)
//!                   │ route::Router
//!                   └──────────► outbox rows ──► Dispatcher ──► notify::Notifier ──► email, Slack, webhook
//!                                pending ► sending ► sent | retry(not before) | dead
//! ```
//!
//! What must hold:
//! - Alerts, outbox rows and the detection positions commit together, so replaying the log after a crash
//!   neither loses nor repeats an alert.
//! - Every message has an id that survives restarts. Only an attempt that was in flight when the process
//!   died may be repeated, under the same id.
//! - Nothing is dropped: what exceeds a receiver's quota waits and is merged into the next message; alerts
//!   that do not fit into a message return to the outbox for the next; what a receiver refuses for good
//!   becomes a dead letter, which is listed.
//! - Secrets (webhook addresses, passwords) never reach logs, metrics, errors or the database.

mod alert;
mod dispatch;
mod links;
pub mod notify;
pub mod route;
mod sections;
mod store;
#[cfg(test)]
mod testing;

pub use alert::{
    Alert, AlertDetails, AlertId, AttemptRecord, DeadLetter, DeliveryId, DeliveryRecord, DeliveryState,
    Filter, LinkedEvent, Page, Status, StatusChange,
};
pub use dispatch::{DispatchConfig, Dispatcher};
pub use links::Links;
pub use sections::{Section, sections};
pub use store::{AlertStore, CommitReport, StoreConfig, StoreError};
