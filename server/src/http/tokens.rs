//! `GET` and `POST /api/v1/tokens` and `DELETE /api/v1/tokens/{id}`: what `watchbell token` does, from afar.

use std::sync::Arc;

use anyhow::Result;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::body;
use super::error::ApiError;
use super::listener::Peer;
use super::path::Segment;
use crate::clock;
use crate::self_audit::Actor;
use crate::tokens::{Caller, Scope, Token, TokenChange, Tokens, check_new_token};

/// What a new token is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    scopes: Vec<String>,
}

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    let tokens: Vec<Value> = blocking(&app, Tokens::list).await?.iter().map(Token::summary).collect();
    Ok(Json(json!({ "tokens": tokens })))
}

/// Makes a token. The answer is the only place where its secret is ever shown.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.require(&Scope::Admin)?;
    let NewToken { name, scopes } = body::read_json(body).await?;
    let scopes = check_new_token(&name, &scopes)
        .map_err(|error| ApiError::bad_request("bad_token", error.to_string()))?;
    let (token, secret) = blocking(&app, move |tokens| tokens.create(&name, scopes, clock::now())).await?;
    let answer = json!({ "token": token.summary(), "secret": secret });
    let actor = Actor::caller(&caller, peer.0);
    app.self_audit.token_changed(&actor, &TokenChange::Created(token)).await;
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(peer): Extension<Peer>,
    Segment(id): Segment,
) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    let asked = id.clone();
    let Some(token) = blocking(&app, move |tokens| tokens.revoke(&asked, clock::now())).await? else {
        return Err(ApiError::not_found(format!("no token has the id {id:?}")));
    };
    let answer = json!({ "token": token.summary() });
    let actor = Actor::caller(&caller, peer.0);
    app.self_audit.token_changed(&actor, &TokenChange::Revoked(token)).await;
    Ok(Json(answer))
}

/// Reads or changes the token file where that may block.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Tokens) -> Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || work(&app.tokens)).await;
    let done = done.map_err(|error| ApiError::internal(&error))?;
    done.map_err(|error| ApiError::internal(error.as_ref()))
}
