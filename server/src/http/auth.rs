//! Who is calling, and whether they may.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::App;
use super::error::ApiError;
use super::listener::Peer;
use crate::tokens::{Caller, Scope};

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.split_once(' '));
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        if let Some(caller) = token.and_then(|token| app.tokens.caller(token)) {
            return Ok(caller);
        }
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
        let reason =
            if token.is_some() { "the token is unknown or revoked" } else { "no bearer token was sent" };
        metrics::counter!("watchbell_http_unauthenticated_total").increment(1);
        tracing::warn!(peer, path = parts.uri.path(), reason, "refused a request");
        Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            format!(
                "{reason}; send 'Authorization: Bearer TOKEN' (DATA_DIR/admin.token, or `watchbell token create`)"
            ),
        ))
    }
}

impl Caller {
    /// # Errors
    /// 403, naming the scope that is missing.
    pub(crate) fn require(&self, wanted: &Scope) -> Result<(), ApiError> {
        if self.may(wanted) {
            return Ok(());
        }
        metrics::counter!("watchbell_http_forbidden_total").increment(1);
        tracing::warn!(token = self.token_id, wanted = %wanted, "refused a request: scope is missing");
        let held: Vec<String> = self.scopes.iter().map(ToString::to_string).collect();
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("this needs the scope {wanted}; token {} has {}", self.token_id, held.join(", ")),
        ))
    }
}
