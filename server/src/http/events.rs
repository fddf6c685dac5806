//! `GET /api/v1/search` and `GET /api/v1/events/{id}`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use watchbell_event::{EventId, Timestamp};
use watchbell_query::{Hit, SearchError, SearchRequest, SearchResponse, Searcher};

use super::App;
use super::error::ApiError;
use super::query::Params;
use crate::clock;
use crate::tokens::{Caller, Scope};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1_000;

/// One event as the API shows it.
#[derive(Serialize)]
struct HitBody<'a> {
    id: EventId,
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    cluster: &'a str,
    source: &'a str,
    event: &'a RawValue,
}

pub(super) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.require(&Scope::Read)?;
    let request = search_request(&query.unwrap_or_default())?;
    let started = Instant::now();
    let timeout = app.search_timeout;
    let response = blocking(&app, move |searcher| searcher.search(&request, started + timeout)).await?;
    metrics::histogram!("watchbell_search_seconds").record(started.elapsed().as_secs_f64());
    Ok(search_body(&response)?.into_response())
}

pub(super) async fn by_id(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(&Scope::Read)?;
    let id: EventId = id.parse().map_err(|error| ApiError::bad_request("bad_id", format!("{error}")))?;
    match blocking(&app, move |searcher| searcher.by_id(id)).await? {
        Some(hit) => Ok(json_body(serde_json::to_vec(&hit_body(&hit)?))?.into_response()),
        None => Err(ApiError::not_found(format!("no event has the id {id}"))),
    }
}

fn search_request(query: &str) -> Result<SearchRequest, ApiError> {
    let mut params = Params::parse(query)?;
    let now = clock::now();
    let request = SearchRequest {
        query: params.take("q").unwrap_or_else(|| "*".to_owned()),
        from: params.time("from", now)?,
        to: params.time("to", now)?,
        limit: params.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)?,
        cursor: params.take("cursor"),
    };
    params.finish(&["q", "from", "to", "limit", "cursor"])?;
    Ok(request)
}

/// Runs a search where it may take its time, a few at once.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    search: impl FnOnce(&Searcher) -> Result<T, SearchError> + Send + 'static,
) -> Result<T, ApiError> {
    let waiting = tokio::time::timeout(app.search_timeout, Arc::clone(&app.searches).acquire_owned());
    let Ok(Ok(slot)) = waiting.await else {
        metrics::counter!("watchbell_search_refused_total").increment(1);
        return Err(ApiError::slow_down("searches_busy", "too many searches are running; try again", 2));
    };
    let searcher = app.pipeline.searcher();
    let searched = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        search(&searcher)
    });
    searched.await.map_err(|error| ApiError::internal(&error))?.map_err(search_error)
}

fn search_error(error: SearchError) -> ApiError {
    match error {
        SearchError::Query(error) => ApiError::bad_request("bad_query", error.to_string()),
        SearchError::Cursor(reason) => ApiError::bad_request("bad_cursor", reason.to_string()),
        SearchError::Timeout => ApiError::bad_request(
            "search_timeout",
            "the search took longer than search.timeout; narrow the time range, or avoid leading wildcards",
        ),
        other => ApiError::internal(&other),
    }
}

fn search_body(response: &SearchResponse) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Body<'a> {
        total: &'a watchbell_query::Total,
        hits: Vec<HitBody<'a>>,
        next_cursor: &'a Option<String>,
    }
    let hits = response.hits.iter().map(hit_body).collect::<Result<_, _>>()?;
    json_body(serde_json::to_vec(&Body { total: &response.total, hits, next_cursor: &response.next_cursor }))
}

fn hit_body(hit: &Hit) -> Result<HitBody<'_>, ApiError> {
    Ok(HitBody {
        id: hit.id,
        timestamp: hit.timestamp,
        cluster: &hit.cluster,
        source: &hit.source,
        event: serde_json::from_slice(&hit.event).map_err(|error| ApiError::internal(&error))?,
    })
}

fn json_body(body: serde_json::Result<Vec<u8>>) -> Result<Response, ApiError> {
    let body = body.map_err(|error| ApiError::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
