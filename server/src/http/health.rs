//! Probes, metrics, and what an administrator looks at when something is wrong.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::App;
use super::error::ApiError;
use crate::tokens::{Caller, Scope};

/// The process is alive.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Requests are answered, be it with "come again later".
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    match app.pipeline.not_ready() {
        None => Ok("ready\n"),
        Some(reason) => Err(ApiError::unavailable("not_ready", reason)),
    }
}

pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    if !app.metrics_public {
        let (mut parts, _) = request.into_parts();
        Caller::from_request_parts(&mut parts, &app).await?.require(&Scope::Read)?;
    }
    app.metrics.run_upkeep();
    let text = app.metrics.render();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

pub(super) async fn status(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    Ok(Json(app.pipeline.status()))
}

pub(super) async fn rules(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    Ok(Json(app.pipeline.rules_overview()?))
}
