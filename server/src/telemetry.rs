//! Logs on standard error and the metrics registry.
//!
//! Never in either: tokens, passwords, webhook URLs, bodies of Secrets, or whole events.

mod descriptions;

use std::io::IsTerminal;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;

/// Latencies from a millisecond to half a minute.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Starts logging.
///
/// # Errors
/// When logging has been started before.
pub(crate) fn start_logs(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.filter).context("failed to read log.level")?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = if config.json { logs.json().try_init() } else { logs.with_target(false).try_init() };
    started.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}

/// Starts counting; the handle renders what `/metrics` shows.
///
/// # Errors
/// When counting has been started before.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .install_recorder()
        .context("failed to start metrics")?;
    for (name, meaning) in descriptions::DESCRIPTIONS {
        // The recorder keeps one text for a name, whatever its kind.
        metrics::describe_counter!(*name, *meaning);
    }
    Ok(metrics)
}
