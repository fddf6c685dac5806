//! `POST /ingest/audit/{cluster}`: what API servers send to. `POST /ingest/logs/{cluster}`: what log agents send to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Value, json};
use watchbell_ingest::decode::logs::BodyForm;

use super::App;
use super::body::{self, Share};
use super::error::ApiError;
use super::listener::Peer;
use super::otlp;
use super::path::Segment;
use super::query::Params;
use crate::pipeline::{IngestError, Ingested, Payload, Request};
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
    by_path(&app, sent, Payload::Audit).await
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
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_text = content_type.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/plain"));
    let form = if is_text { BodyForm::Lines } else { BodyForm::ByContent };
    let delivery = delivery(&headers);
    let sent = Sent { cluster, query, caller, peer, headers, body };
    by_path(&app, sent, Payload::Logs { form, delivery }).await
}

/// What a sender repeats when it sends a body again.
pub(super) fn delivery(headers: &HeaderMap) -> Option<Vec<u8>> {
    let key = headers.get("idempotency-key").or_else(|| headers.get("x-request-id"))?;
    Some(key.as_bytes().to_vec())
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

/// Takes what is sent to a path that names the cluster.
async fn by_path(app: &App, sent: Sent, payload: Payload) -> Result<Json<Value>, ApiError> {
    let Sent { cluster, query, caller, peer, headers, body } = sent;
    check_cluster_name(&cluster).map_err(|error| ApiError::bad_request("bad_cluster", format!("{error}")))?;
    caller.require(&Scope::Ingest { cluster: cluster.clone() })?;
    let history = history(&query.unwrap_or_default())?;
    let source = format!("{}/{cluster}", caller.token_id);
    let packing = packing(&headers)?;
    let incoming = Incoming { source, cluster, peer: peer.0, history, headers: &headers, packing, body };
    let ingested = receive(app, incoming, payload).await?;
    Ok(Json(json!({
        "stored": ingested.stored, "duplicates": ingested.duplicates, "rejected": ingested.rejected,
        "durability": "fsync",
    })))
}

/// A body that may be sent, before anything of it was read.
pub(super) struct Incoming<'a> {
    /// Whose quota it counts against.
    pub(super) source: String,
    /// Empty where each record has its own.
    pub(super) cluster: String,
    pub(super) peer: IpAddr,
    pub(super) history: bool,
    pub(super) headers: &'a HeaderMap,
    pub(super) packing: Packing,
    pub(super) body: Body,
}

/// How a body is packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packing {
    Plain,
    Gzip,
    /// One message in gRPC's framing, which says whether this one is compressed.
    Grpc {
        /// How, if it is.
        gzip: bool,
    },
}

/// Reads a body and takes it in, under all limits.
pub(super) async fn receive(
    app: &App,
    incoming: Incoming<'_>,
    payload: Payload,
) -> Result<Ingested, ApiError> {
    let started = Instant::now();
    let Incoming { source, cluster, peer, history, headers, packing, body } = incoming;
    let read = body::read(headers, body, app.max_body_bytes, &app.budget).await;
    let (bytes, mut share) = read.inspect_err(|error| {
        if error.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The sender will give up on these events: somebody has to know.
            tracing::error!(source, %peer, "a batch was too large to be taken; its events will be lost");
        }
    })?;
    let (bytes, gzip) = match packing {
        Packing::Plain => (bytes, false),
        Packing::Gzip => (bytes, true),
        Packing::Grpc { gzip } => match otlp::grpc_unframed(&bytes)? {
            (_, true) if !gzip => {
                return Err(ApiError::bad_request("bad_body", "a compressed message without grpc-encoding"));
            }
            message => message,
        },
    };
    let request = Request { cluster, peer, history, gzip, max_bytes: app.max_body_bytes, payload };
    let ingested = take(app, &source, &mut share, request, bytes).await?;
    metrics::histogram!("watchbell_ingest_answer_seconds").record(started.elapsed().as_secs_f64());
    Ok(ingested)
}

/// Takes in a body for which `share` has room already.
pub(crate) async fn take(
    app: &App,
    source: &str,
    share: &mut Share,
    request: Request,
    bytes: Bytes,
) -> Result<Ingested, ApiError> {
    app.quota.take(source, bytes.len()).map_err(|wait| {
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
    let twice = request.gzip && usual < app.max_body_bytes;
    for max_bytes in if twice { vec![usual, app.max_body_bytes] } else { vec![app.max_body_bytes] } {
        if request.gzip {
            app.budget.grow(share, max_bytes)?;
        }
        let request = Request { max_bytes, ..request.clone() };
        ingested = app.pipeline.ingest().take(request, bytes.clone()).await;
        if !matches!(ingested, Err(IngestError::TooLarge(_))) {
            break;
        }
    }
    ingested.map_err(api_error)
}

/// `?history=true` marks imported history, about which nobody is notified. API servers add `timeout`.
fn history(query: &str) -> Result<bool, ApiError> {
    let mut params = Params::parse(query)?;
    let _ = params.take("timeout");
    let history = params.parsed::<bool>("history")?.unwrap_or(false);
    params.finish(&["history", "timeout"])?;
    Ok(history)
}

/// What `Content-Encoding` says.
pub(super) fn packing(headers: &HeaderMap) -> Result<Packing, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Packing::Plain) };
    match encoding.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
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
