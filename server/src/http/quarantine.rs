//! `/api/v1/quarantine`: what could not be read, and another try at it. The bytes were not redacted: all of it
//! is for administrators only.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use watchbell_event::EventId;

use super::App;
use super::error::ApiError;
use super::ingest::ingest_error;
use super::listener::Peer;
use super::path::Segment;
use super::query::Params;
use crate::pipeline::{Quarantined, RetryError};
use crate::roles::Role;
use crate::self_audit::Actor;
use crate::tokens::{Caller, Scope};

/// Who meets what cannot be read, and keeps it.
const KEEPERS: &[Role] = &[Role::Receive, Role::Index];

/// One page of what is kept, newest first, without the bytes.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    app.pipeline.roles().require_one_of(KEEPERS)?;
    let mut params = Params::parse(&query.unwrap_or_default())?;
    let limit = params.number("limit", 100, 1, 1_000)?;
    let before = params.parsed::<EventId>("cursor")?;
    params.finish(&["limit", "cursor"])?;
    // One more tells whether there is another page.
    let entries = app.pipeline.ingest().quarantined(limit + 1, before).await.map_err(retry_error)?;
    let more = entries.len() > limit;
    let entries: Vec<_> = entries.into_iter().take(limit).collect();
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.key);
    Ok(Json(json!({ "entries": entries, "next_cursor": next_cursor })))
}

/// One entry, with its bytes.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(key): Segment,
) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    app.pipeline.roles().require_one_of(KEEPERS)?;
    let Quarantined { entry, bytes } =
        app.pipeline.ingest().quarantined_entry(parse_key(&key)?).await.map_err(retry_error)?;
    let mut answer = json!({ "entry": entry });
    match str::from_utf8(&bytes) {
        Ok(text) => answer["text"] = json!(text),
        Err(_) => answer["base64"] = json!(STANDARD.encode(&bytes)),
    }
    Ok(Json(answer))
}

/// Sends an entry through the decoder again.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    Segment(key): Segment,
) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    app.pipeline.roles().require_one_of(KEEPERS)?;
    let key = parse_key(&key)?;
    let retried = app.pipeline.ingest().retry(key).await;
    let code = if retried.is_ok() { 200 } else { 422 };
    app.self_audit.quarantine_retried(&Actor::caller(&caller, peer.0), &key.to_string(), code).await;
    let (ingested, done) = retried.map_err(retry_error)?;
    Ok(Json(json!({
        "stored": ingested.stored, "duplicates": ingested.duplicates, "rejected": ingested.rejected, "done": done,
    })))
}

fn parse_key(key: &str) -> Result<EventId, ApiError> {
    key.parse().map_err(|_| {
        let message = "not a key of the quarantine: it has 32 hexadecimal digits, see GET /api/v1/quarantine";
        ApiError::bad_request("bad_id", message)
    })
}

fn retry_error(error: RetryError) -> ApiError {
    let message = error.to_string();
    match error {
        RetryError::Unknown(_) => ApiError::not_found(message),
        RetryError::Repaired
        | RetryError::Cut { .. }
        | RetryError::Done(_)
        | RetryError::Part(_)
        | RetryError::Source(_) => ApiError::new(StatusCode::CONFLICT, "not_retryable", message),
        RetryError::StillUnreadable(_) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "still_unreadable", message)
        }
        RetryError::Ingest(error) => ingest_error(error),
        RetryError::Store(error) => ApiError::internal(&error),
        RetryError::Broken(error) => ApiError::internal(&error),
    }
}
