//! `POST /ingest/audit/{cluster}`: what API servers send to.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::App;
use super::body;
use super::error::ApiError;
use super::listener::Peer;
use super::path::Segment;
use super::query::Params;
use crate::pipeline::{IngestError, Request};
use crate::tokens::{Caller, Scope, check_cluster_name};

pub(super) async fn audit(
    State(app): State<Arc<App>>,
    Segment(cluster): Segment,
    RawQuery(query): RawQuery,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    check_cluster_name(&cluster).map_err(|error| ApiError::bad_request("bad_cluster", format!("{error}")))?;
    caller.require(&Scope::Ingest { cluster: cluster.clone() })?;
    let history = history(&query.unwrap_or_default())?;
    let gzip = is_gzip(&headers)?;
    let read = body::read(&headers, body, app.max_body_bytes, &app.budget).await;
    let (bytes, mut share) = read.inspect_err(|error| {
        if error.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The sender will give up on these events: somebody has to know.
            tracing::error!(cluster, peer = %peer.0, "a batch was too large to be taken; its events will be lost");
        }
    })?;
    let source = format!("{}/{cluster}", caller.token_id);
    app.quota.take(&source, bytes.len()).map_err(|wait| {
        metrics::counter!("watchbell_ingest_refused_total", "reason" => "quota").increment(1);
        let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
        ApiError::slow_down(
            "quota",
            "this source sends more than its quota (ingest.quota_per_second)",
            seconds,
        )
    })?;

    // Room for the unpacked bytes is taken before unpacking: what is usual first, all that is allowed if need be.
    let usual = (bytes.len() as u64).saturating_mul(20).min(app.max_body_bytes);
    let mut ingested = Err(IngestError::TooLarge(String::new()));
    let twice = gzip && usual < app.max_body_bytes;
    for max_bytes in if twice { vec![usual, app.max_body_bytes] } else { vec![app.max_body_bytes] } {
        if gzip {
            app.budget.grow(&mut share, max_bytes)?;
        }
        let request = Request { cluster: cluster.clone(), peer: peer.0, history, gzip, max_bytes };
        ingested = app.pipeline.ingest().take(request, bytes.clone()).await;
        if !matches!(ingested, Err(IngestError::TooLarge(_))) {
            break;
        }
    }
    let ingested = ingested.map_err(api_error)?;
    metrics::histogram!("watchbell_ingest_answer_seconds").record(started.elapsed().as_secs_f64());
    Ok(Json(json!({
        "stored": ingested.stored, "duplicates": ingested.duplicates, "rejected": ingested.rejected,
        "durability": app.pipeline.durability(),
    })))
}

/// `?history=true` marks imported history, about which nobody is notified. API servers add `timeout`.
fn history(query: &str) -> Result<bool, ApiError> {
    let mut params = Params::parse(query)?;
    let _ = params.take("timeout");
    let history = params.parsed::<bool>("history")?.unwrap_or(false);
    params.finish(&["history", "timeout"])?;
    Ok(history)
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    match encoding.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        other => {
            let message = format!("content-encoding {other:?} is not supported; known: gzip, identity");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_encoding", message))
        }
    }
}

fn api_error(error: IngestError) -> ApiError {
    match error {
        IngestError::Body(reason) => ApiError::bad_request("bad_body", reason),
        IngestError::TooLarge(reason) => ApiError::too_large("body_too_large", reason),
        IngestError::Full(reason) => ApiError::slow_down("log_full", reason, 10),
        IngestError::Busy => ApiError::slow_down("log_busy", "the log is catching up; send it again", 1),
        IngestError::Failed(reason) => {
            metrics::counter!("watchbell_ingest_refused_total", "reason" => "failed").increment(1);
            tracing::error!(reason, "failed to take events; the sender is told to come again");
            ApiError::unavailable(
                "log_failed",
                "events cannot be taken at the moment; the server's log says why",
            )
        }
    }
}
