//! As much of Elasticsearch as log agents need to send to it: `_bulk`, and what they ask before they do. Served below
//! `/elasticsearch`, and at the root too for clients that cannot be told a path. Templates, policies and pipelines are agreed to and kept nowhere: documents here
//! need none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::head;
use axum::{Extension, Json, middleware};
use serde_json::{Map, Value, json};
use watchbell_ingest::decode::logs::{BulkItem, BulkRefusal};

use super::App;
use super::clusters::Clusters;
use super::error::ApiError;
use super::ingest::{self, Incoming, Packing};
use super::listener::Peer;
use super::path::Segment;
use super::{Route, get, post, put};
use crate::pipeline::Payload;
use crate::sources::Source;
use crate::tokens::Caller;

/// The version whose protocol is spoken. Clients of version 8 and 9 refuse one without the header, and below 7.
const VERSION: &str = "8.19.0";
const PRODUCT: HeaderValue = HeaderValue::from_static("Elasticsearch");
/// Below which everything here is served, and at the root too.
const PREFIX: &str = "/elasticsearch";

/// The routes below the prefix.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/elasticsearch", product),
        get("/elasticsearch/", product),
        post("/elasticsearch/_bulk", bulk),
        put("/elasticsearch/_bulk", bulk),
        post("/elasticsearch/{index}/_bulk", bulk_of_index),
        put("/elasticsearch/{index}/_bulk", bulk_of_index),
        get("/elasticsearch/_cluster/health", health),
        get("/elasticsearch/_cat/health", cat_health),
        get("/elasticsearch/_license", license),
        get("/elasticsearch/_nodes/http", nodes),
        (Method::HEAD, "/elasticsearch/{index}", head(index_exists).fallback(super::not_found)),
    ];
    // what agents set up before they send
    for path in [
        "/elasticsearch/_alias/{name}",
        "/elasticsearch/_component_template/{name}",
        "/elasticsearch/_data_stream/{name}",
        "/elasticsearch/_ilm/policy/{name}",
        "/elasticsearch/_index_template/{name}",
        "/elasticsearch/_ingest/pipeline/{name}",
        "/elasticsearch/_template/{name}",
    ] {
        routes.extend([get(path, nothing_set_up), put(path, agreed)]);
    }
    let says_product =
        |(method, path, handler): Route| (method, path, handler.layer(middleware::map_response(say_product)));
    routes.into_iter().map(says_product).collect()
}

/// The same routes at the root, for clients that cannot be told a path.
pub(super) fn routes_at_root() -> impl Iterator<Item = Route> {
    routes().into_iter().filter_map(|(method, path, handler)| match path.strip_prefix(PREFIX)? {
        "" => None,
        rest => Some((method, rest, handler)),
    })
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
    take(&app, Some(index), caller, peer, &headers, body).await
}

async fn bulk(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    take(&app, None, caller, peer, &headers, body).await
}

/// Takes all documents or, under pressure, none: an agent that sees some items refused and some taken drops the former
/// or sends the latter again.
async fn take(
    app: &App,
    index: Option<String>,
    caller: Caller,
    peer: Peer,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let clusters = Clusters::of(&caller, headers)?;
    // each document has a cluster of its own; what cannot be read at all is known by this one
    let cluster = clusters.of_index(index.as_deref()).unwrap_or_default();
    let payload = Payload::Bulk { index, clusters, delivery: ingest::delivery(headers) };
    let source = Source { cluster, route: payload.source().into(), credential: Some(caller.credential) };
    let packing = Packing::of(headers);
    let incoming = Incoming { peer: peer.0, history: false, headers, packing, body, payload };
    let ingested = ingest::receive(app, &source, incoming).await?;
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
