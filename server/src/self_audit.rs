//! Administrative actions on this server, recorded as audit events of a cluster called `watchbell`, so that
//! they are kept, searched and matched by rules like anybody else's.

use std::sync::Arc;

use serde_json::{Value, json};
use watchbell_event::Timestamp;

use crate::clock;
use crate::config::Config;
use crate::pipeline::{IngestPort, RuleReload};
use crate::tokens::{Token, TokenChange};

/// The cluster and source of these events.
pub(crate) const CLUSTER: &str = "watchbell";

/// Writes the events into the log.
#[derive(Clone)]
pub(crate) struct SelfAudit {
    ingest: Arc<IngestPort>,
}

impl SelfAudit {
    pub(crate) fn new(ingest: Arc<IngestPort>) -> Self {
        Self { ingest }
    }

    pub(crate) async fn started(&self, config: &Config) {
        let details = json!({ "listen": config.listen.to_string(), "version": env!("CARGO_PKG_VERSION") });
        self.record("create", "servers", "watchbell", 200, details).await;
    }

    pub(crate) async fn stopping(&self) {
        self.record("delete", "servers", "watchbell", 200, json!({})).await;
    }

    pub(crate) async fn token_changed(&self, change: &TokenChange) {
        let (verb, token) = match change {
            TokenChange::Created(token) => ("create", token),
            TokenChange::Revoked(token) => ("delete", token),
        };
        tracing::info!(token = token.id, name = token.name, verb, "token changed");
        self.record(verb, "tokens", &token.id, 200, token_details(token)).await;
    }

    pub(crate) async fn rules_reloaded(&self, reload: &RuleReload) {
        let code = if reload.errors.is_empty() { 200 } else { 422 };
        let details = json!({ "rules": reload.rules, "errors": reload.errors.len() });
        self.record("update", "rules", "rules", code, details).await;
    }

    async fn record(&self, verb: &str, resource: &str, name: &str, code: u16, details: Value) {
        let event = event(verb, resource, name, code, &details, clock::now());
        // Durability first, but an audit line that cannot be written must not stop the server.
        if let Err(error) = self.ingest.take_own(CLUSTER, event.to_string().into_bytes()).await {
            tracing::error!(verb, resource, name, %error, "failed to record an administrative action");
        }
    }
}

fn token_details(token: &Token) -> Value {
    let scopes: Vec<String> = token.scopes.iter().map(ToString::to_string).collect();
    json!({ "name": token.name, "scopes": scopes })
}

/// An `audit.k8s.io/v1` Event at level Request: `details` is what was asked for.
fn event(verb: &str, resource: &str, name: &str, code: u16, details: &Value, now: Timestamp) -> Value {
    let id = blake3::hash(format!("{verb}/{resource}/{name}/{now}").as_bytes()).to_hex();
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "stage": "ResponseComplete",
        "auditID": &id[..32], "requestURI": format!("/{resource}/{name}"), "verb": verb,
        "user": { "username": "watchbell:operator" }, "sourceIPs": ["127.0.0.1"],
        "userAgent": concat!("watchbell/", env!("CARGO_PKG_VERSION")),
        "objectRef": { "resource": resource, "name": name, "apiGroup": "watchbell" },
        "responseStatus": { "code": code }, "requestObject": details,
        "requestReceivedTimestamp": now, "stageTimestamp": now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_reads_as_an_audit_event_and_holds_no_secret() {
        let token = Token {
            id: "ab12".to_owned(),
            name: "grafana".to_owned(),
            scopes: Vec::new(),
            secret_sha256: "hash-of-secret".to_owned(),
            created_at: clock::now(),
            revoked_at: None,
        };
        let text = event("create", "tokens", "ab12", 200, &token_details(&token), clock::now()).to_string();
        assert!(!text.contains("hash-of-secret"));
        let event = watchbell_event::audit::AuditEvent::parse(text.as_bytes());
        assert_eq!(event.verb.as_deref(), Some("create"));
        assert_eq!(event.facets().outcome, watchbell_event::Outcome::Success);
        assert!(event.claimed_time().is_some());
    }
}
