//! The HTTP surface: which path does what, and what every handler shares.

mod alerts;
mod auth;
mod body;
mod clusters;
mod elasticsearch;
mod error;
mod events;
mod health;
mod ingest;
mod linger;
pub(crate) mod listener;
mod openapi;
mod otlp;
mod path;
mod quarantine;
mod query;
mod sources;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{self, MethodRouter};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use self::body::Budget;
pub(crate) use self::body::Share;
pub(crate) use self::clusters::Clusters;
pub(crate) use self::error::ApiError;
pub(crate) use self::ingest::take;
pub(crate) use self::query::{TIME_FORMS, parse_time};
use crate::config::Config;
use crate::pipeline::Pipeline;
use crate::quota::SourceQuota;
use crate::self_audit::SelfAudit;
use crate::tls::Tls;
use crate::tokens::Tokens;

/// The header that says where the next page of lines begins; there is none behind the last.
pub(crate) const NEXT_CURSOR: &str = "watchbell-next-cursor";

/// Who may do what, and where it is noted that somebody did.
pub(crate) struct Access {
    pub(crate) tokens: Tokens,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) self_audit: SelfAudit,
}

/// What handlers share.
pub(crate) struct App {
    pub(crate) tokens: Tokens,
    pub(crate) tls: Option<Arc<Tls>>,
    self_audit: SelfAudit,
    pub(crate) pipeline: Pipeline,
    pub(crate) quota: SourceQuota,
    metrics: PrometheusHandle,
    metrics_public: bool,
    pub(crate) budget: Budget,
    pub(crate) max_body_bytes: u64,
    /// Where people reach this server; absent if nothing is known of it.
    external_url: Option<String>,
    /// Searches at one time.
    searches: Arc<Semaphore>,
    search_timeout: std::time::Duration,
}

impl App {
    pub(crate) fn new(
        config: &Config,
        access: Access,
        pipeline: Pipeline,
        metrics: PrometheusHandle,
    ) -> Self {
        let Access { tokens, tls, self_audit } = access;
        Self {
            tokens,
            tls,
            self_audit,
            pipeline,
            quota: SourceQuota::new(&config.ingest.quota, &config.ingest.quotas),
            metrics,
            metrics_public: config.metrics_public,
            budget: Budget::new(config.ingest.in_flight_bytes, config.ingest.in_flight_per_source_bytes),
            max_body_bytes: config.ingest.max_body_bytes,
            external_url: config.alerting.dispatch.external_url.clone(),
            searches: Arc::new(Semaphore::new(config.search.concurrency)),
            search_timeout: config.search.timeout,
        }
    }
}

/// Everything that can be asked for, and who answers. `openapi.yaml` describes each of them.
fn routes() -> Vec<Route> {
    let mut routes = vec![
        post("/ingest/audit/{cluster}", ingest::audit),
        post("/ingest/logs/{cluster}", ingest::logs),
        post("/v1/logs", otlp::http),
        post("/opentelemetry.proto.collector.logs.v1.LogsService/Export", otlp::grpc),
        get("/api/v1/search", events::search),
        get("/api/v1/export", events::export),
        get("/api/v1/events/{id}", events::by_id),
        get("/api/v1/alerts", alerts::list),
        get("/api/v1/alerts/{id}", alerts::by_id),
        get("/api/v1/rules", health::rules),
        get("/api/v1/sources", sources::list),
        get("/api/v1/quarantine", quarantine::list),
        get("/api/v1/quarantine/{key}", quarantine::show),
        post("/api/v1/quarantine/{key}/retry", quarantine::retry),
        get("/api/v1/tokens", tokens::list),
        post("/api/v1/tokens", tokens::create),
        delete("/api/v1/tokens/{id}", tokens::revoke),
        get("/api/v1/status", health::status),
        get("/api/v1/openapi.json", openapi::document),
        get("/healthz", health::healthz),
        get("/readyz", health::readyz),
        get("/metrics", health::metrics),
    ];
    routes.extend(elasticsearch::routes());
    routes
}

/// Method, path and handler.
type Route = (Method, &'static str, MethodRouter<Arc<App>>);

fn get<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    (Method::GET, path, routing::get(handler))
}

fn post<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    (Method::POST, path, routing::post(handler))
}

fn put<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    (Method::PUT, path, routing::put(handler))
}

fn delete<T: 'static>(path: &'static str, handler: impl Handler<T, Arc<App>>) -> Route {
    (Method::DELETE, path, routing::delete(handler))
}

/// Answers all routes, and says so where there is none.
pub(crate) fn router(app: Arc<App>) -> Router {
    routes()
        .into_iter()
        .chain(elasticsearch::routes_at_root())
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // `body::read` bounds bodies; axum's own limit would answer in another form.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not possible at {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}
