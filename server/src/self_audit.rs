//! Administrative actions on this server, recorded as audit events of a cluster called `watchbell`, so that
//! they are kept, searched and matched by rules like anybody else's.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::{Value, json};
use watchbell_event::Timestamp;

use crate::clock;
use crate::config::Config;
use crate::feeds::FeedChange;
use crate::pipeline::{IngestPort, RuleReload};
use crate::tls::TlsReload;
use crate::tokens::{Caller, Credential, Token, TokenChange};

/// The cluster and source of these events.
pub(crate) const CLUSTER: &str = "watchbell";

/// Who did something.
pub(crate) struct Actor {
    username: String,
    address: IpAddr,
}

impl Actor {
    /// Somebody at this machine.
    pub(crate) fn operator() -> Self {
        Self { username: "watchbell:operator".to_owned(), address: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    /// The sender of a request.
    pub(crate) fn caller(caller: &Caller, address: IpAddr) -> Self {
        let username = match &caller.credential {
            Credential::Token { id, .. } => format!("watchbell:token:{id}"),
            Credential::Certificate(names) => format!("watchbell:certificate:{names}"),
            Credential::Address(address) => format!("watchbell:address:{address}"),
            Credential::Datagram => "watchbell:datagram".to_owned(),
        };
        Self { username, address }
    }
}

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
        let details = json!({ "listen": config.listen.to_string(), "version": env!("CARGO_PKG_VERSION"),
            "roles": config.roles.names() });
        let started = Action { verb: "create", resource: "servers", name: "watchbell", code: 200, details };
        self.record(&Actor::operator(), started).await;
    }

    pub(crate) async fn stopping(&self) {
        let details = json!({});
        let stopping = Action { verb: "delete", resource: "servers", name: "watchbell", code: 200, details };
        self.record(&Actor::operator(), stopping).await;
    }

    pub(crate) async fn token_changed(&self, actor: &Actor, change: &TokenChange) {
        let (verb, token) = match change {
            TokenChange::Created(token) => ("create", token),
            TokenChange::Revoked(token) => ("delete", token),
        };
        tracing::info!(token = token.id, name = token.name, verb, actor = actor.username, "token changed");
        let details = token_details(token);
        self.record(actor, Action { verb, resource: "tokens", name: &token.id, code: 200, details }).await;
    }

    pub(crate) async fn rules_reloaded(&self, reload: &RuleReload) {
        let code = if reload.errors.is_empty() { 200 } else { 422 };
        let details = json!({ "rules": reload.rules, "errors": reload.errors.len() });
        let reloaded = Action { verb: "update", resource: "rules", name: "rules", code, details };
        self.record(&Actor::operator(), reloaded).await;
    }

    pub(crate) async fn tls_reloaded(&self, reload: &TlsReload) {
        let code = if reload.problem.is_none() { 200 } else { 422 };
        let details = json!({ "expires_at": reload.expires_at, "problem": reload.problem });
        let reloaded = Action { verb: "update", resource: "certificates", name: "tls", code, details };
        self.record(&Actor::operator(), reloaded).await;
    }

    pub(crate) async fn feed_changed(&self, change: &FeedChange) {
        let FeedChange { cluster, is_silent, usual_events, events } = change;
        let (state, code) = if *is_silent { ("silent", 503) } else { ("back", 200) };
        tracing::warn!(cluster, state, usual_events, events, "an audit feed changed");
        let details = json!({ "state": state, "usual_events": usual_events, "events": events });
        let changed = Action { verb: "update", resource: "feeds", name: cluster, code, details };
        self.record(&Actor::operator(), changed).await;
    }

    pub(crate) async fn quarantine_retried(&self, actor: &Actor, key: &str, code: u16) {
        let details = json!({});
        let retried = Action { verb: "update", resource: "quarantine", name: key, code, details };
        self.record(actor, retried).await;
    }

    async fn record(&self, actor: &Actor, action: Action<'_>) {
        let Action { verb, resource, name, .. } = action;
        let event = event(actor, &action, clock::now());
        // Durability first, but an audit line that cannot be written must not stop the server.
        if let Err(error) = self.ingest.take_own(CLUSTER, event.to_string().into_bytes()).await {
            tracing::error!(verb, resource, name, %error, "failed to record an administrative action");
        }
    }
}

/// What was done.
struct Action<'a> {
    verb: &'static str,
    resource: &'static str,
    name: &'a str,
    code: u16,
    /// What was asked for.
    details: Value,
}

fn token_details(token: &Token) -> Value {
    let scopes: Vec<String> = token.scopes.iter().map(ToString::to_string).collect();
    json!({ "name": token.name, "scopes": scopes })
}

/// An `audit.k8s.io/v1` Event at level Request.
fn event(actor: &Actor, action: &Action<'_>, now: Timestamp) -> Value {
    let Action { verb, resource, name, code, details } = action;
    let id = blake3::hash(format!("{verb}/{resource}/{name}/{now}").as_bytes()).to_hex();
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "stage": "ResponseComplete",
        "auditID": &id[..32], "requestURI": format!("/{resource}/{name}"), "verb": verb,
        "user": { "username": actor.username }, "sourceIPs": [actor.address],
        "userAgent": concat!("watchbell/", env!("CARGO_PKG_VERSION")),
        "objectRef": { "resource": resource, "name": name, "apiGroup": "watchbell" },
        "responseStatus": { "code": code }, "requestObject": details,
        "requestReceivedTimestamp": now, "stageTimestamp": now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Scope;

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
        let credential = Credential::Token { id: "cd34".to_owned(), name: "ops".to_owned() };
        let caller = Caller { credential, scopes: vec![Scope::Admin] };
        let actor = Actor::caller(&caller, Ipv4Addr::new(10, 0, 0, 7).into());
        let details = token_details(&token);
        let created = Action { verb: "create", resource: "tokens", name: "ab12", code: 200, details };
        let text = event(&actor, &created, clock::now()).to_string();
        assert!(!text.contains("hash-of-secret"));
        let event = watchbell_event::audit::AuditEvent::parse(text.as_bytes());
        assert!(text.contains("watchbell:token:cd34") && text.contains("10.0.0.7"));
        assert_eq!(event.verb.as_deref(), Some("create"));
        assert_eq!(event.facets().outcome, watchbell_event::Outcome::Success);
        assert!(event.claimed_time().is_some());
    }
}
