//! Who is calling, and whether they may.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::App;
use super::error::ApiError;
use super::listener::Peer;
use crate::tls::ClientCertificate;
use crate::tokens::{Caller, Credential, Scope};

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let caller = match token(parts) {
            Some(token) => app.tokens.caller(&token).ok_or("the token is unknown or revoked".to_owned()),
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

/// The token: as a bearer's, as the password of whatever user, or as the key of whatever name. Agents that speak
/// Elasticsearch's protocol know only the last two.
fn token(parts: &Parts) -> Option<Cow<'_, str>> {
    let (scheme, value) = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("bearer") || is("apikey") && value.starts_with("wb_") {
        return Some(Cow::Borrowed(value));
    }
    if !is("basic") && !is("apikey") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    Some(Cow::Owned(pair.split_once(':')?.1.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_each_agent_sends_it() {
        let encode = |text: &str| STANDARD.encode(text);
        for (header, expect) in [
            ("Bearer wb_1_a".to_owned(), Some("wb_1_a")),
            ("bearer  wb_1_a ".to_owned(), Some("wb_1_a")),
            (format!("Basic {}", encode("elastic:wb_1_a")), Some("wb_1_a")),
            (format!("ApiKey {}", encode("id:wb_1_a")), Some("wb_1_a")),
            ("ApiKey wb_1_a".to_owned(), Some("wb_1_a")),
            ("Basic wb_1_a".to_owned(), None),
            (format!("Basic {}", encode("no colon")), None),
            ("Digest wb_1_a".to_owned(), None),
            ("Bearer".to_owned(), None),
        ] {
            let request = axum::http::Request::builder().header("authorization", &header).body(()).unwrap();
            assert_eq!(token(&request.into_parts().0).as_deref(), expect, "{header}");
        }
    }
}
