//! `GET /api/v1/alerts` and `GET /api/v1/alerts/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::{Value, json};
use watchbell_alerting::{Alert, AlertDetails, AlertId, AlertStore, Filter, Links, StoreError};

use super::App;
use super::error::ApiError;
use super::path::Segment;
use super::query::Params;
use crate::clock;
use crate::tokens::{Caller, Scope};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1_000;

/// An alert, or more about it, with where to look further.
#[derive(Serialize)]
struct Linked<T> {
    #[serde(flatten)]
    alert: T,
    links: Option<Links>,
}

/// See [`watchbell_alerting::Page`].
#[derive(Serialize)]
pub(super) struct LinkedPage {
    alerts: Vec<Linked<Alert>>,
    next_cursor: Option<String>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<LinkedPage>, ApiError> {
    caller.require(&Scope::Read)?;
    let mut params = Params::parse(&query.unwrap_or_default())?;
    let now = clock::now();
    let filter = Filter {
        min_level: params.parsed("level")?,
        status: params.parsed("status")?,
        rule_id: params.take("rule"),
        cluster: params.take("cluster"),
        since: params.time("since", now)?,
        until: params.time("until", now)?,
    };
    let limit = params.number("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)?;
    let cursor = params.take("cursor");
    params.finish(&["level", "status", "rule", "cluster", "since", "until", "limit", "cursor"])?;
    let page = read(&app, move |alerts| alerts.list(&filter, limit as u64, cursor.as_deref())).await?;
    let linked = |alert: Alert| Linked { links: links(&app, &alert), alert };
    Ok(Json(LinkedPage {
        alerts: page.alerts.into_iter().map(linked).collect(),
        next_cursor: page.next_cursor,
    }))
}

pub(super) async fn by_id(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Read)?;
    let id: AlertId = id.parse().map_err(|error| ApiError::bad_request("bad_id", format!("{error}")))?;
    let found = read(&app, move |alerts| {
        let Some(alert) = alerts.get(id)? else { return Ok(None) };
        Ok(Some((alert, alerts.deliveries(id)?)))
    });
    match found.await? {
        Some((details, deliveries)) => {
            let linked: Linked<AlertDetails> = Linked { links: links(&app, &details.alert), alert: details };
            Ok(Json(json!({ "alert": linked, "deliveries": deliveries })))
        }
        None => Err(ApiError::not_found(format!("no alert has the id {id}"))),
    }
}

fn links(app: &App, alert: &Alert) -> Option<Links> {
    app.external_url.as_deref().map(|url| Links::new(alert, url))
}

async fn read<T: Send + 'static>(
    app: &Arc<App>,
    read: impl FnOnce(&AlertStore) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = app.pipeline.alerts()?.clone();
    let read = tokio::task::spawn_blocking(move || read(&store));
    read.await.map_err(|error| ApiError::internal(&error))?.map_err(|error| match error {
        StoreError::BadCursor => ApiError::bad_request("bad_cursor", error.to_string()),
        other => ApiError::internal(&other),
    })
}
