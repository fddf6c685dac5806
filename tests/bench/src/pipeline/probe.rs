//! Single events that are followed through the whole path: from the POST until they can be searched, and
//! until their alert arrives at the webhook.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::client::Connection;
use super::load::INGEST_PATH;
use super::server::Server;
use super::sink::Sink;
use crate::clock;
use crate::stats::{Quantiles, Times};

/// What the names of probes begin with, and how long they are.
pub(crate) const PREFIX: &str = "bench-probe-";
pub(crate) const NAME_BYTES: usize = PREFIX.len() + 8;

/// Probes are sent this often.
const SEND_EVERY: Duration = Duration::from_millis(200);
/// A search for probes runs this often.
const SEARCH_EVERY: Duration = Duration::from_millis(25);
/// A search asks for so many of the newest probes.
const SEARCH_LIMIT: usize = 40;
/// What has not been seen after this long is lost.
const DEADLINE: Duration = Duration::from_secs(20);
const USER_AGENT: &str = "watchbell-bench-probe";

/// How long probes took, from the beginning of the POST.
#[derive(Default)]
pub(crate) struct ProbeTimes {
    pub(crate) answered: Quantiles,
    pub(crate) searchable: Quantiles,
    pub(crate) alerted: Quantiles,
    /// Probes that were never found or never alerted.
    pub(crate) lost: usize,
}

/// Probes that were sent, by name.
#[derive(Default)]
struct Sent(Mutex<HashMap<String, Probe>>);

struct Probe {
    started: Instant,
    found: Option<Instant>,
}

pub(crate) fn name(number: u32) -> String {
    format!("{PREFIX}{number:08}")
}

/// Sends probes for `duration`, then waits for the last of them.
pub(crate) async fn run(server: &Server, sink: &Sink, duration: Duration) -> Result<ProbeTimes> {
    let sent = Arc::new(Sent::default());
    let finder = tokio::spawn(find(server.connect().await?, Arc::clone(&sent)));
    let answered = send(server, &sent, duration).await?;
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline && !sent.all_seen(sink) {
        tokio::time::sleep(SEARCH_EVERY).await;
        if finder.is_finished() {
            break;
        }
    }
    if finder.is_finished() {
        finder.await??;
    } else {
        finder.abort();
    }
    Ok(sent.times(sink, answered))
}

async fn send(server: &Server, sent: &Sent, duration: Duration) -> Result<Times> {
    let mut connection = server.connect().await?;
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(SEND_EVERY);
    let mut answered = Times::default();
    let mut number = 0;
    while begun.elapsed() < duration {
        ticks.tick().await;
        number += 1;
        let body = serde_json::to_vec(&event(number))?;
        let started = Instant::now();
        sent.lock().insert(name(number), Probe { started, found: None });
        let (status, answer) = connection.send(Method::POST, INGEST_PATH, body.into()).await?;
        ensure!(status.is_success(), "a probe was answered {status}: {}", String::from_utf8_lossy(&answer));
        answered.push(started.elapsed());
    }
    Ok(answered)
}

/// Searches again and again for the newest probes.
async fn find(mut connection: Connection, sent: Arc<Sent>) -> Result<()> {
    let query = format!("userAgent:\"{USER_AGENT}\"");
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("q", &query)
        .append_pair("limit", &SEARCH_LIMIT.to_string())
        .finish();
    let path = format!("/api/v1/search?{query}");
    loop {
        let answer = connection.get(&path).await?;
        let hits = answer["hits"].as_array().context("the search answered without hits")?;
        sent.found(hits, Instant::now());
        tokio::time::sleep(SEARCH_EVERY).await;
    }
}

impl Sent {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Probe>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which probes a search has found.
    fn found(&self, hits: &[Value], now: Instant) {
        let mut probes = self.lock();
        for hit in hits {
            let name = hit["event"]["auditID"].as_str().unwrap_or_default();
            if let Some(probe) = probes.get_mut(name) {
                probe.found.get_or_insert(now);
            }
        }
    }

    fn all_seen(&self, sink: &Sink) -> bool {
        self.lock().iter().all(|(name, probe)| probe.found.is_some() && sink.arrival(name).is_some())
    }

    fn times(&self, sink: &Sink, answered: Times) -> ProbeTimes {
        let (mut searchable, mut alerted, mut lost) = (Times::default(), Times::default(), 0);
        for (name, probe) in self.lock().iter() {
            let arrival = sink.arrival(name);
            if let Some(found) = probe.found {
                searchable.push(found.saturating_duration_since(probe.started));
            }
            if let Some(arrival) = arrival {
                alerted.push(arrival.saturating_duration_since(probe.started));
            }
            lost += usize::from(probe.found.is_none() || arrival.is_none());
        }
        ProbeTimes {
            answered: answered.quantiles(),
            searchable: searchable.quantiles(),
            alerted: alerted.quantiles(),
            lost,
        }
    }
}

/// Somebody makes themselves administrator of the cluster: each probe another person from another address,
/// so that each is an alert of its own whatever the rule groups by.
fn event(number: u32) -> Value {
    let name = name(number);
    let address = format!("172.16.{}.{}", number / 250 % 250, number % 250 + 1);
    let now = clock::now();
    let binding = json!({
        "kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}],
    });
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": name,
        "stage": "ResponseComplete", "verb": "create",
        "requestURI": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?fieldManager=kubectl-create",
        "user": {"username": name, "groups": ["system:authenticated"]},
        "sourceIPs": [address], "userAgent": USER_AGENT,
        "objectRef": {"resource": "clusterrolebindings", "name": name, "apiGroup": "rbac.authorization.k8s.io",
            "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201}, "requestObject": binding, "responseObject": binding,
        "requestReceivedTimestamp": now.plus_micros(-1_500), "stageTimestamp": now,
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    })
}
