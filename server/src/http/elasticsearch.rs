//! As much of Elasticsearch as log agents need to send to it: `_bulk`, and what they ask before they do. Served at the
//! root and below `/elasticsearch`. Templates, policies and pipelines are agreed to and kept nowhere: documents here
//! need none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, head, post};
use axum::{Extension, Json, Router, middleware};
use serde_json::{Map, Value, json};
use watchbell_ingest::decode::logs::{BulkItem, BulkRefusal};

use super::App;
use super::clusters::Clusters;
use super::error::ApiError;
use super::ingest::{self, Incoming};
use super::listener::Peer;
use super::path::Segment;
use crate::pipeline::Payload;
use crate::tokens::Caller;

/// The version whose protocol is spoken. Clients of version 8 and 9 refuse one without the header, and below 7.
const VERSION: &str = "8.19.0";
const PRODUCT: HeaderValue = HeaderValue::from_static("Elasticsearch");
/// What agents set up in Elasticsearch before they send.
const SETUP: [&str; 7] = [
    "/_alias/{name}",
    "/_component_template/{name}",
    "/_data_stream/{name}",
    "/_ilm/policy/{name}",
    "/_index_template/{name}",
    "/_ingest/pipeline/{name}",
    "/_template/{name}",
];

/// The routes, at the root and below the prefix.
pub(super) fn routes() -> Router<Arc<App>> {
    below_prefix()
        .nest("/elasticsearch", below_prefix())
        .route("/elasticsearch/", get(product))
        .layer(middleware::map_response(say_product))
}

fn below_prefix() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/", get(product))
        .route("/_bulk", post(bulk).put(bulk))
        .route("/{index}/_bulk", post(bulk_of_index).put(bulk_of_index))
        .route("/_cluster/health", get(health))
        .route("/_cat/health", get(cat_health))
        .route("/_license", get(license))
        .route("/_nodes/http", get(nodes))
        .route("/{index}", head(index_exists).fallback(super::not_found));
    SETUP.into_iter().fold(router, |router, path| router.route(path, get(nothing_set_up).put(agreed)))
}

/// Clients of Elasticsearch refuse whoever does not say this.
async fn say_product(mut response: Response) -> Response {
    response.headers_mut().insert("x-elastic-product", PRODUCT);
    response
}

async fn product(_: Caller) -> Json<Value> {
    Json(json!({
        "name": "watchbell", "cluster_name": "watchbell", "cluster_uuid": "watchbell",
        "version": {
            "number": VERSION, "build_flavor": "default", "build_type": "tar", "build_snapshot": false,
            "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    }))
}

async fn health(_: Caller, State(app): State<Arc<App>>) -> Json<Value> {
    let status = if app.pipeline.not_ready().is_none() { "green" } else { "red" };
    Json(json!({
        "cluster_name": "watchbell", "status": status, "timed_out": false,
        "number_of_nodes": 1, "number_of_data_nodes": 1,
    }))
}

/// What rsyslog asks for.
async fn cat_health(_: Caller, State(app): State<Arc<App>>) -> &'static str {
    if app.pipeline.not_ready().is_none() { "watchbell green 1 1\n" } else { "watchbell red 1 1\n" }
}

async fn license(_: Caller) -> Json<Value> {
    Json(json!({ "license": { "status": "active", "uid": "watchbell", "type": "basic", "mode": "basic" } }))
}

/// Nodes to go on with; there is none but the one that was asked.
async fn nodes(_: Caller) -> Json<Value> {
    Json(json!({ "cluster_name": "watchbell", "nodes": {} }))
}

async fn index_exists(_: Caller) -> StatusCode {
    StatusCode::OK
}

async fn nothing_set_up(_: Caller, Segment(name): Segment) -> Json<Value> {
    Json(json!({ name: {} }))
}

async fn agreed(_: Caller) -> Json<Value> {
    Json(json!({ "acknowledged": true }))
}

async fn bulk_of_index(
    State(app): State<Arc<App>>,
    Segment(index): Segment,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    take(&app, Some(index), Clusters::of(caller, &headers)?, peer, &headers, body).await
}

async fn bulk(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    take(&app, None, Clusters::of(caller, &headers)?, peer, &headers, body).await
}

/// Takes all documents or, under pressure, none: an agent that sees some items refused and some taken drops the former
/// or sends the latter again.
async fn take(
    app: &App,
    index: Option<String>,
    clusters: Clusters,
    peer: Peer,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    // each document has a cluster of its own; what cannot be read at all is known by this one
    let cluster = clusters.of_index(index.as_deref()).unwrap_or_default();
    let source = clusters.quota(&cluster);
    let (delivery, packing) = (ingest::delivery(headers), ingest::packing(headers)?);
    let incoming = Incoming { source, cluster, peer: peer.0, history: false, headers, packing, body };
    let ingested = ingest::receive(app, incoming, Payload::Bulk { index, clusters, delivery }).await?;
    let errors = ingested.items.iter().any(|item| item.refused.is_some());
    let items: Vec<Value> = ingested.items.into_iter().map(answer).collect();
    // keys are written in alphabetical order, and some agents look for `"errors":false,"items":[`
    Ok(Json(json!({ "errors": errors, "items": items, "took": 0 })))
}

/// One item's answer, as short as clients allow: they read answers into small buffers. A duplicate was created too.
fn answer(item: BulkItem) -> Value {
    let mut fields = Map::new();
    if let Some(refusal) = item.refused {
        let (status, kind) = match refusal {
            BulkRefusal::Unsupported | BulkRefusal::LongId => (400, "illegal_argument_exception"),
            BulkRefusal::NotAnObject => (400, "document_parsing_exception"),
            BulkRefusal::NoCluster => (403, "security_exception"),
        };
        fields.insert("error".to_owned(), json!({ "type": kind, "reason": refusal.to_string() }));
        fields.insert("status".to_owned(), status.into());
    } else {
        fields.insert("status".to_owned(), 201.into());
    }
    fields.extend(item.id.map(|id| ("_id".to_owned(), id.into())));
    fields.extend(item.index.map(|index| ("_index".to_owned(), index.into())));
    json!({ item.action.name(): fields })
}
