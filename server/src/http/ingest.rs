//! `POST /ingest/audit/{cluster}`: what API servers send to. `POST /ingest/logs/{cluster}`: what log agents send to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use serde_json::{Value, json};
use watchbell_ingest::decode::logs::BodyForm;

use super::App;
use super::body;
use super::error::ApiError;
use super::listener::Peer;
use super::path::Segment;
use super::query::Params;
use crate::clock;
use crate::pipeline::{Compression, IngestError, Ingested, Payload, Request};
use crate::sources::{Delivery, Source};
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
    let sent = Sent { cluster, query, caller, peer, headers, body };
    answer(&app, sent, Payload::Audit).await
}

pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Segment(cluster): Segment,
    RawQuery(query): RawQuery,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let header = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
    let content_type = header("content-type").unwrap_or_default().to_ascii_lowercase();
    let form = if content_type.starts_with(b"text/plain") { BodyForm::Lines } else { BodyForm::ByContent };
    let delivery = header("idempotency-key").or_else(|| header("x-request-id"));
    let sent = Sent { cluster, query, caller, peer, headers, body };
    answer(&app, sent, Payload::Logs { form, delivery }).await
}

/// A request as it came.
struct Sent {
    cluster: String,
    query: Option<String>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
}

async fn answer(app: &App, sent: Sent, payload: Payload) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let Sent { cluster, query, caller, peer, headers, body } = sent;
    check_cluster_name(&cluster).map_err(|error| ApiError::bad_request("bad_cluster", format!("{error}")))?;
    caller.require(&Scope::Ingest { cluster: cluster.clone() })?;
    let history = history(&query.unwrap_or_default())?;
    let source = Source { cluster, route: payload.source().into(), credential: Some(caller.credential) };
    let body = Incoming { source: &source, peer: peer.0, history, headers: &headers, body, payload };
    let ingested = receive(app, body).await?;
    metrics::histogram!("watchbell_ingest_answer_seconds").record(started.elapsed().as_secs_f64());
    Ok(Json(json!({
        "stored": ingested.stored, "duplicates": ingested.duplicates, "rejected": ingested.rejected,
        "durability": app.pipeline.durability(),
    })))
}

/// A body that may be sent, before anything of it was read.
struct Incoming<'a> {
    source: &'a Source,
    peer: IpAddr,
    history: bool,
    headers: &'a HeaderMap,
    body: Body,
    payload: Payload,
}

/// Takes a body in, under all limits, and counts it with its source.
async fn receive(app: &App, incoming: Incoming<'_>) -> Result<Ingested, ApiError> {
    let (source, peer) = (incoming.source, incoming.peer);
    let mut bytes = 0;
    let taken = read_and_take(app, incoming, &mut bytes).await;
    let outcome = taken.as_ref().map_err(|error| error.code);
    app.pipeline.sources().note(source, &Delivery { peer: Some(peer), bytes, outcome }, clock::now());
    taken
}

async fn read_and_take(app: &App, incoming: Incoming<'_>, length: &mut u64) -> Result<Ingested, ApiError> {
    let Incoming { source, peer, history, headers, body, payload } = incoming;
    let compression = compression(headers)?;
    let mut share = app.budget.share(source);
    let read = body::read(headers, body, app.max_body_bytes, &app.budget, &mut share).await;
    let bytes = read.inspect_err(|error| {
        if error.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The sender will give up on these events: somebody has to know.
            let cluster = &source.cluster;
            tracing::error!(cluster, %peer, "a batch was too large to be taken; its events will be lost");
        }
    })?;
    *length = bytes.len() as u64;
    app.quota.take(source, bytes.len()).map_err(|wait| {
        metrics::counter!("watchbell_ingest_refused_total", "reason" => "quota").increment(1);
        let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
        let message = "this source sends more than its quota (ingest.quota_per_second, ingest.quotas)";
        ApiError::slow_down("quota", message, seconds)
    })?;

    // Room for the unpacked bytes is taken before unpacking: what is usual first, all that is allowed if need be.
    let usual = (bytes.len() as u64).saturating_mul(20).min(app.max_body_bytes);
    let mut ingested = Err(IngestError::TooLarge(String::new()));
    let twice = compression.is_some() && usual < app.max_body_bytes;
    for max_bytes in if twice { vec![usual, app.max_body_bytes] } else { vec![app.max_body_bytes] } {
        if compression.is_some() {
            app.budget.grow(&mut share, max_bytes)?;
        }
        let (cluster, payload) = (source.cluster.clone(), payload.clone());
        let request = Request { cluster, peer, history, compression, max_bytes, payload };
        ingested = app.pipeline.ingest().take(request, bytes.clone()).await;
        if !matches!(ingested, Err(IngestError::TooLarge(_))) {
            break;
        }
    }
    ingested.map_err(ingest_error)
}

/// `?history=true` marks imported history, about which nobody is notified. API servers add `timeout`.
fn history(query: &str) -> Result<bool, ApiError> {
    let mut params = Params::parse(query)?;
    let _ = params.take("timeout");
    let history = params.parsed::<bool>("history")?.unwrap_or(false);
    params.finish(&["history", "timeout"])?;
    Ok(history)
}

/// How the body is compressed, if it is.
///
/// # Errors
/// 415, with what is known in `Accept-Encoding`.
fn compression(headers: &HeaderMap) -> Result<Option<Compression>, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(None) };
    match encoding.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(None),
        "gzip" | "x-gzip" => Ok(Some(Compression::Gzip)),
        "zstd" => Ok(Some(Compression::Zstd)),
        other => Err(ApiError::unknown_encoding(other)),
    }
}

pub(super) fn ingest_error(error: IngestError) -> ApiError {
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
