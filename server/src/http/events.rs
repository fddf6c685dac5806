//! `GET /api/v1/search` and `GET /api/v1/events/{id}`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, State};
use watchbell_event::EventId;
use watchbell_query::{Hit, MAX_LIMIT, SearchError, SearchRequest, SearchResponse, parse};

use super::App;
use super::error::ApiError;
use super::path::Segment;
use super::query::Params;
use crate::clock;
use crate::pipeline::{Pipeline, RuleQueryError};
use crate::tokens::{Caller, Scope};

const DEFAULT_LIMIT: usize = 50;

pub(super) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<SearchResponse>, ApiError> {
    caller.require(&Scope::Read)?;
    let started = Instant::now();
    let deadline = started + app.search_timeout;
    let response = blocking(&app, move |pipeline| {
        // Reading the query compiles its expressions, so that waits for its turn too.
        let mut request = search_request(&query.unwrap_or_default(), deadline)?;
        request.query = pipeline.resolve_rules(request.query).map_err(rule_query_error)?;
        pipeline.searcher().search(&request).map_err(search_error)
    });
    let response = response.await?;
    metrics::histogram!("watchbell_search_seconds").record(started.elapsed().as_secs_f64());
    Ok(Json(response))
}

pub(super) async fn by_id(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Hit>, ApiError> {
    caller.require(&Scope::Read)?;
    let id: EventId = id.parse().map_err(|error| ApiError::bad_request("bad_id", format!("{error}")))?;
    match blocking(&app, move |pipeline| pipeline.searcher().by_id(id).map_err(search_error)).await? {
        Some(hit) => Ok(Json(hit)),
        None => Err(ApiError::not_found(format!("no event has the id {id}"))),
    }
}

fn search_request(query: &str, deadline: Instant) -> Result<SearchRequest, ApiError> {
    let mut params = Params::parse(query)?;
    let now = clock::now();
    let text = params.take("q").unwrap_or_else(|| "*".to_owned());
    let predicate = parse(&text).map_err(|error| ApiError::bad_request("bad_query", error.to_string()))?;
    let asked =
        [Some(text), params.peek("from"), params.peek("to")].map(Option::unwrap_or_default).join("\n");
    let request = SearchRequest {
        asked,
        from: params.time("from", now)?,
        to: params.time("to", now)?,
        limit: params.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)?,
        cursor: params.take("cursor"),
        ..SearchRequest::new(predicate, deadline)
    };
    params.finish(&["q", "from", "to", "limit", "cursor"])?;
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
        RuleQueryError::Store(error) => ApiError::internal(&error),
    }
}

fn search_error(error: SearchError) -> ApiError {
    match error {
        SearchError::Deadline => ApiError::bad_request("search_timeout", error.to_string()),
        SearchError::TooManyValues(_) => ApiError::bad_request("too_many_values", error.to_string()),
        SearchError::Cursor => ApiError::bad_request("bad_cursor", error.to_string()),
        other => ApiError::internal(&other),
    }
}
