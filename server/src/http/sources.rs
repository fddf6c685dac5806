//! `GET /api/v1/sources`: who sends what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;

use super::App;
use super::error::ApiError;
use crate::clock;
use crate::roles::Role;
use crate::tokens::{Caller, Scope};

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require(&Scope::Admin)?;
    app.pipeline.roles().require_one_of(&[Role::Receive, Role::Index])?;
    Ok(Json(app.pipeline.sources().overview(clock::now())))
}
