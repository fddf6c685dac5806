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
use crate::clock;
use crate::pipeline::{Compression, IngestError, Ingested, Payload, Request};
use crate::roles::Role;
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
    let source = Source { cluster, route: payload.source().into(), credential: Some(caller.credential) };
    let packing = Packing::of(&headers);
    let incoming = Incoming { peer: peer.0, history, headers: &headers, packing, body, payload };
    let ingested = receive(app, &source, incoming).await?;
    Ok(Json(json!({
        "stored": ingested.stored, "duplicates": ingested.duplicates, "rejected": ingested.rejected,
        "durability": app.pipeline.durability(),
    })))
}

/// A body that may be sent, before anything of it was read.
pub(super) struct Incoming<'a> {
    pub(super) peer: IpAddr,
    pub(super) history: bool,
    pub(super) headers: &'a HeaderMap,
    /// Or why it cannot be unpacked.
    pub(super) packing: Result<Packing, ApiError>,
    pub(super) body: Body,
    pub(super) payload: Payload,
}

/// How a body is packed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packing {
    /// Whole, if it is compressed.
    Body(Option<Compression>),
    /// One message in gRPC's framing, which says whether this one is compressed.
    Grpc(Option<Compression>),
}

impl Packing {
    /// What `Content-Encoding` says.
    ///
    /// # Errors
    /// 415, with what is known in `Accept-Encoding`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Body(None)) };
        match encoding.to_str().unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Body(None)),
            "gzip" | "x-gzip" => Ok(Self::Body(Some(Compression::Gzip))),
            "zstd" => Ok(Self::Body(Some(Compression::Zstd))),
            other => Err(ApiError::unknown_encoding(other)),
        }
    }

    /// What is packed, and how it is compressed.
    fn open(self, body: Bytes) -> Result<(Bytes, Option<Compression>), ApiError> {
        match self {
            Self::Body(compression) => Ok((body, compression)),
            Self::Grpc(compression) => match otlp::grpc_unframed(&body)? {
                (message, false) => Ok((message, None)),
                (message, true) if compression.is_some() => Ok((message, compression)),
                _ => Err(ApiError::bad_request("bad_body", "a compressed message without grpc-encoding")),
            },
        }
    }
}

/// Takes a body in, under all limits, and counts it with its source.
pub(super) async fn receive(
    app: &App,
    source: &Source,
    incoming: Incoming<'_>,
) -> Result<Ingested, ApiError> {
    app.pipeline.roles().require_one_of(&[Role::Receive])?;
    let (started, peer) = (Instant::now(), incoming.peer);
    let mut bytes = 0;
    let taken = read_and_take(app, source, incoming, &mut bytes).await;
    let outcome = taken.as_ref().map_err(|error| error.code);
    app.pipeline.sources().note(source, &Delivery { peer: Some(peer), bytes, outcome }, clock::now());
    if taken.is_ok() {
        metrics::histogram!("watchbell_ingest_answer_seconds").record(started.elapsed().as_secs_f64());
    }
    taken
}

async fn read_and_take(
    app: &App,
    source: &Source,
    incoming: Incoming<'_>,
    length: &mut u64,
) -> Result<Ingested, ApiError> {
    let Incoming { peer, history, headers, packing, body, payload } = incoming;
    let packing = packing?;
    let mut share = app.budget.share(source);
    let read = body::read(headers, body, app.max_body_bytes, &app.budget, &mut share).await;
    let bytes = read.inspect_err(|error| {
        if error.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The sender will give up on these events: somebody has to know.
            let cluster = &source.cluster;
            tracing::error!(
                cluster,
                %peer,
                limit_bytes = app.max_body_bytes,
                "a body is larger than ingest.max_body and was refused; if its sender does not cut it, its events \
                 are lost"
            );
        }
    })?;
    *length = bytes.len() as u64;
    let (bytes, compression) = packing.open(bytes)?;
    let cluster = source.cluster.clone();
    let max_bytes = app.max_body_bytes;
    let request = Request { cluster, peer, history, compression, max_bytes, payload };
    take(app, source, &mut share, (request, bytes)).await
}

/// Takes in a body for which `share` has room already.
pub(crate) async fn take(
    app: &App,
    source: &Source,
    share: &mut Share,
    (request, bytes): (Request, Bytes),
) -> Result<Ingested, ApiError> {
    app.quota.take(source, bytes.len() + request.payload.bytes_beside_body()).map_err(|wait| {
        metrics::counter!("watchbell_ingest_refused_total", "reason" => "quota").increment(1);
        let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
        let message = "this source sends more than its quota (ingest.quota_per_second, ingest.quotas)";
        ApiError::slow_down("quota", message, seconds)
    })?;

    // Room for the unpacked bytes is taken before unpacking: what is usual first, all that is allowed if need be.
    let usual = (bytes.len() as u64).saturating_mul(20).min(app.max_body_bytes);
    let mut ingested = Err(IngestError::TooLarge(String::new()));
    let twice = request.compression.is_some() && usual < app.max_body_bytes;
    for max_bytes in if twice { vec![usual, app.max_body_bytes] } else { vec![app.max_body_bytes] } {
        if request.compression.is_some() {
            app.budget.grow(share, max_bytes)?;
        }
        let request = Request { max_bytes, ..request.clone() };
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
