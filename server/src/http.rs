//! The HTTP surface: which path does what, and what every handler shares.

mod alerts;
mod auth;
mod body;
mod error;
mod events;
mod health;
mod ingest;
mod linger;
pub(crate) mod listener;
mod path;
mod query;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use self::body::Budget;
use self::error::ApiError;
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::quota::SourceQuota;
use crate::tokens::Tokens;

/// The header that says where the next page of lines begins; there is none behind the last.
pub(crate) const NEXT_CURSOR: &str = "watchbell-next-cursor";

/// What handlers share.
pub(crate) struct App {
    pub(crate) tokens: Tokens,
    pub(crate) pipeline: Pipeline,
    pub(crate) quota: SourceQuota,
    metrics: PrometheusHandle,
    metrics_public: bool,
    budget: Budget,
    max_body_bytes: u64,
    /// Where people reach this server; absent if nothing is known of it.
    external_url: Option<String>,
    /// Searches at one time.
    searches: Arc<Semaphore>,
    search_timeout: std::time::Duration,
}

impl App {
    pub(crate) fn new(
        config: &Config,
        tokens: Tokens,
        pipeline: Pipeline,
        metrics: PrometheusHandle,
    ) -> Self {
        Self {
            tokens,
            pipeline,
            quota: SourceQuota::new(config.ingest.quota_bytes_per_second, config.ingest.quota_burst_bytes),
            metrics,
            metrics_public: config.metrics_public,
            budget: Budget::new(config.ingest.in_flight_bytes),
            max_body_bytes: config.ingest.max_body_bytes,
            external_url: config.alerting.dispatch.external_url.clone(),
            searches: Arc::new(Semaphore::new(config.search.concurrency)),
            search_timeout: config.search.timeout,
        }
    }
}

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/ingest/audit/{cluster}", post(ingest::audit))
        .route("/api/v1/search", get(events::search))
        .route("/api/v1/export", get(events::export))
        .route("/api/v1/events/{id}", get(events::by_id))
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/alerts/{id}", get(alerts::by_id))
        .route("/api/v1/rules", get(health::rules))
        .route("/api/v1/quarantine", get(health::quarantine))
        .route("/api/v1/status", get(health::status))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(not_found)
        // `body::read` bounds bodies; axum's own limit would answer in another form.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn not_found(uri: axum::http::Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}
