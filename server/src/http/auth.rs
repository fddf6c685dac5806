//! Who is calling, and whether they may.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::App;
use super::error::ApiError;
use super::listener::Peer;
use crate::tls::ClientCertificate;
use crate::tokens::{Caller, Credential, Scope};

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = match bearer_token(parts) {
            Some(token) => app.tokens.caller(token).ok_or("the token is unknown or revoked".to_owned()),
            None => holder_of_certificate(parts, app),
        };
        let reason = match caller {
            Ok(caller) => return Ok(caller),
            Err(reason) => reason,
        };
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
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

fn bearer_token(parts: &Parts) -> Option<&str> {
    let (scheme, token) = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who sends without a token: a client certificate may send events of the clusters it stands for.
fn holder_of_certificate(parts: &Parts, app: &App) -> Result<Caller, String> {
    let certificate = parts.extensions.get::<Arc<ClientCertificate>>();
    let (Some(certificate), Some(tls)) = (certificate, &app.tls) else {
        return Err("no bearer token was sent".to_owned());
    };
    let clusters = tls.clusters_of(certificate).map_err(|error| format!("{error:#}"))?;
    let scopes = clusters.into_iter().map(|cluster| Scope::Ingest { cluster }).collect();
    Ok(Caller { credential: Credential::Certificate(certificate.to_string()), scopes })
}

impl Caller {
    /// # Errors
    /// 403, naming the scope that is missing.
    pub(crate) fn require(&self, wanted: &Scope) -> Result<(), ApiError> {
        if self.may(wanted) {
            return Ok(());
        }
        metrics::counter!("watchbell_http_forbidden_total").increment(1);
        tracing::warn!(caller = %self.credential, %wanted, "refused a request: scope is missing");
        let held: Vec<String> = self.scopes.iter().map(ToString::to_string).collect();
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("this needs the scope {wanted}; {} has {}", self.credential, held.join(", ")),
        ))
    }
}
