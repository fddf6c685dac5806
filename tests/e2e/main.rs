//! End-to-end tests through the public surface: the binary, its HTTP API and its files.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "tests read what they themselves made")]

mod bad_input;
mod command_line;
mod container_logs;
mod correlations;
mod crash;
mod delivery;
mod elasticsearch;
mod files;
mod forward;
mod hostile_senders;
mod kafka;
mod main_path;
mod openapi;
mod operations;
mod otlp;
mod pki;
mod quarantine;
mod roles;
mod rule_tools;
mod sink;
mod sources;
mod storage;
mod support;
mod syslog;
mod tls;
mod tokens;
