//! `GET /api/v1/search`, `GET /api/v1/export` and `GET /api/v1/events/{id}`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use watchbell_event::EventId;
use watchbell_query::{
    ExportPage, Hit, MAX_EXPORTED, MAX_LIMIT, SearchError, SearchRequest, SearchResponse, parse,
};

use super::error::ApiError;
use super::path::Segment;
use super::query::Params;
use super::{App, NEXT_CURSOR};
use crate::clock;
use crate::pipeline::{Pipeline, RuleQueryError};
use crate::tokens::{Caller, Scope};

const DEFAULT_LIMIT: usize = 50;
const DEFAULT_EXPORTED: usize = 1_000;
const INDEX_UNREADABLE: &str = "a part of the index cannot be read; the server's log says which, and why. A time range \
     that leaves it out still works. The index can be deleted while the server is stopped: it is rebuilt from what the log \
     still has";

pub(super) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<SearchResponse>, ApiError> {
    caller.require(&Scope::Read)?;
    let started = Instant::now();
    let deadline = started + app.search_timeout;
    let response = blocking(&app, move |pipeline| {
        let searcher = pipeline.searcher()?;
        // Reading the query compiles its expressions, so that waits for its turn too.
        let request = search_request(pipeline, query, (DEFAULT_LIMIT, MAX_LIMIT), deadline)?;
        searcher.search(&request).map_err(search_error)
    });
    let response = response.await?;
    metrics::histogram!("watchbell_search_seconds").record(started.elapsed().as_secs_f64());
    Ok(Json(response))
}

/// All events that a query finds, in the order of the log, one JSON object a line. A page may be empty although more
/// follow: only a page that names no next one is the last.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    caller.require(&Scope::Read)?;
    let started = Instant::now();
    let timeout = app.search_timeout;
    let page = blocking(&app, move |pipeline| {
        let searcher = pipeline.searcher()?;
        let limits = (DEFAULT_EXPORTED, MAX_EXPORTED);
        let request = search_request(pipeline, query, limits, Instant::now() + timeout)?;
        lines(searcher.export(&request).map_err(search_error)?)
    });
    let (lines, next_cursor) = page.await?;
    metrics::histogram!("watchbell_export_seconds").record(started.elapsed().as_secs_f64());
    let mut response = ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response();
    if let Some(cursor) = next_cursor {
        response.headers_mut().insert(NEXT_CURSOR, cursor);
    }
    Ok(response)
}

pub(super) async fn by_id(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Hit>, ApiError> {
    caller.require(&Scope::Read)?;
    let id: EventId = id.parse().map_err(|error| ApiError::bad_request("bad_id", format!("{error}")))?;
    match blocking(&app, move |pipeline| pipeline.searcher()?.by_id(id).map_err(search_error)).await? {
        Some(hit) => Ok(Json(hit)),
        None => Err(ApiError::not_found(format!("no event has the id {id}"))),
    }
}

/// Writes what was exported, and where to go on.
fn lines(page: ExportPage) -> Result<(Vec<u8>, Option<HeaderValue>), ApiError> {
    let mut lines = Vec::new();
    for hit in page.hits {
        serde_json::to_writer(&mut lines, &hit).map_err(|error| ApiError::internal(&error))?;
        lines.push(b'\n');
    }
    let cursor = page.next_cursor.map(HeaderValue::try_from).transpose();
    Ok((lines, cursor.map_err(|error| ApiError::internal(&error))?))
}

/// Reads what is asked for; `limits` are those of a page, by default and at most.
fn search_request(
    pipeline: &Pipeline,
    query: Option<String>,
    (default_limit, max_limit): (usize, usize),
    deadline: Instant,
) -> Result<SearchRequest, ApiError> {
    let mut params = Params::parse(&query.unwrap_or_default())?;
    let now = clock::now();
    let text = params.take("q").unwrap_or_else(|| "*".to_owned());
    let predicate = parse(&text).map_err(|error| ApiError::bad_request("bad_query", error.to_string()))?;
    let asked =
        [Some(text), params.peek("from"), params.peek("to")].map(Option::unwrap_or_default).join("\n");
    let mut request = SearchRequest {
        asked,
        from: params.time("from", now)?,
        to: params.time("to", now)?,
        limit: params.number("limit", default_limit, 1, max_limit)?,
        cursor: params.take("cursor"),
        ..SearchRequest::new(predicate, deadline)
    };
    params.finish(&["q", "from", "to", "limit", "cursor"])?;
    request.query = pipeline.resolve_rules(request.query).map_err(rule_query_error)?;
    Ok(request)
}

/// Runs a search where it may take its time, a few at once.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    search: impl FnOnce(&Pipeline) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let waiting = tokio::time::timeout(app.search_timeout, Arc::clone(&app.searches).acquire_owned());
    let Ok(Ok(slot)) = waiting.await else {
        metrics::counter!("watchbell_search_refused_total").increment(1);
        return Err(ApiError::slow_down("searches_busy", "too many searches are running; try again", 2));
    };
    let app = Arc::clone(app);
    let searched = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        search(&app.pipeline)
    });
    searched.await.map_err(|error| ApiError::internal(&error))?
}

fn rule_query_error(error: RuleQueryError) -> ApiError {
    match error {
        RuleQueryError::NotAnId | RuleQueryError::Unknown { .. } | RuleQueryError::TooMany(_) => {
            ApiError::bad_request("bad_query", error.to_string())
        }
        RuleQueryError::Elsewhere(_) => {
            ApiError::new(StatusCode::MISDIRECTED_REQUEST, "other_process", error.to_string())
        }
        RuleQueryError::Store(error) => ApiError::internal(&error),
    }
}

fn search_error(error: SearchError) -> ApiError {
    match error {
        // Not 503, which asks to come again: the same search would take as long.
        SearchError::Deadline => {
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "search_timeout", error.to_string())
        }
        SearchError::TooManyValues(_) => ApiError::bad_request("too_many_values", error.to_string()),
        SearchError::Cursor => ApiError::bad_request("bad_cursor", error.to_string()),
        other => ApiError {
            code: "index_unreadable",
            message: INDEX_UNREADABLE.to_owned(),
            ..ApiError::internal(&other)
        },
    }
}
