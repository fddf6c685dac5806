//! The process is killed again and again under load. Afterwards every answered event is there exactly once,
//! every alert was delivered at least once under one id, and only attempts in flight were repeated.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::sink::{Sink, alert_id};
use crate::support::{Server, cluster_admin_binding, event, event_list};

const KILLS: u64 = 50;
const SENDERS: u64 = 4;
const EVENTS_PER_BATCH: u64 = 20;

/// What the senders know: every batch is sent again until it is answered, as an API server does.
#[derive(Default)]
struct Ledger {
    answered: BTreeSet<String>,
    attackers: BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_load_lose_nothing_and_double_nothing() {
    let sink = Sink::start().await;
    let mut server = Server::start(&sink.config()).await;
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut unanswered: HashMap<u64, Vec<Value>> = HashMap::new();
    let mut next_batch = 0;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;

    for _ in 0..KILLS {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let pending = unanswered.remove(&sender);
                next_batch += 1_000;
                tokio::spawn(send_until_dead(target(&server), pending, next_batch, Arc::clone(&ledger)))
            })
            .collect();
        // xorshift: the moment of the kill differs every time, but a failure can be repeated.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_millis(20 + random % 250)).await;
        server.kill();
        for (sender, task) in (0..SENDERS).zip(senders) {
            unanswered.extend(task.await.unwrap().map(|batch| (sender, batch)));
        }
        server.restart().await;
    }
    for batch in unanswered.into_values() {
        server.ingest("prod", &batch).await;
        note_answered(&ledger, &batch);
    }

    let (answered, attackers) = {
        let ledger = ledger.lock().unwrap();
        (ledger.answered.clone(), ledger.attackers.clone())
    };
    assert!(answered.len() as u64 > KILLS * EVENTS_PER_BATCH, "too little load: {}", answered.len());
    server.wait_for_count("cluster:prod", answered.len() as u64).await;
    let found = all_audit_ids(&server).await;
    let doubled: Vec<_> = found.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "found more than once: {doubled:?}");
    assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), answered);
    assert!(kept_packed_bytes(&server) > 0);

    let alerts = all_alerts(&server, attackers.len()).await;
    assert_eq!(alerts.len(), attackers.len(), "one alert for each attacker");
    wait_for_deliveries(&sink, &alerts).await;
    check_repetitions(&sink);
}

/// Where to send, as whom.
#[derive(Clone)]
struct Target {
    url: String,
    token: String,
    http: reqwest::Client,
}

fn target(server: &Server) -> Target {
    Target {
        url: format!("{}/ingest/audit/prod", server.base),
        token: server.admin_token(),
        http: server.http.clone(),
    }
}

/// Sends batch after batch until the server is gone; returns the batch that was not answered.
async fn send_until_dead(
    target: Target,
    pending: Option<Vec<Value>>,
    first: u64,
    ledger: Arc<Mutex<Ledger>>,
) -> Option<Vec<Value>> {
    let fresh = (first..).map(batch);
    for batch in pending.into_iter().chain(fresh) {
        let body = event_list(&batch).to_string();
        match target.http.post(&target.url).bearer_auth(&target.token).body(body).send().await {
            Ok(response) if response.status().is_success() => note_answered(&ledger, &batch),
            _ => return Some(batch),
        }
    }
    None
}

/// Ordinary events and one that must raise an alert of its own. Every other batch is long, so that the index keeps it as
/// the journal has compressed it.
fn batch(number: u64) -> Vec<Value> {
    let ordinary = (1..EVENTS_PER_BATCH).map(|n| {
        let mut event = event(&format!("{number}-{n}"));
        if number.is_multiple_of(2) {
            event["annotations"]["padding"] = format!("{number}-{n} ").repeat(8_000 / 8).into();
        }
        event
    });
    let attack = cluster_admin_binding(&format!("{number}-attack"), &format!("attacker-{number}"));
    ordinary.chain([attack]).collect()
}

fn note_answered(ledger: &Mutex<Ledger>, batch: &[Value]) {
    let mut ledger = ledger.lock().unwrap();
    for event in batch {
        let id = event["auditID"].as_str().unwrap();
        ledger.answered.insert(id.to_owned());
        if id.ends_with("-attack") {
            ledger.attackers.insert(event["user"]["username"].as_str().unwrap().to_owned());
        }
    }
}

/// Bytes of what the index keeps as the journal has compressed it.
fn kept_packed_bytes(server: &Server) -> u64 {
    let partitions = std::fs::read_dir(server.data_dir().join("index/partitions")).unwrap();
    let kept = partitions.map(|partition| partition.unwrap().path().join("events").metadata().unwrap().len());
    kept.sum()
}

/// How often each audit id is found, over all pages.
async fn all_audit_ids(server: &Server) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = server.json(&format!("/api/v1/search?q=cluster:prod&limit=1000{cursor}")).await;
        for hit in page["hits"].as_array().unwrap() {
            *found.entry(hit["event"]["auditID"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The ids of the alerts about attackers, once there are as many as expected.
async fn all_alerts(server: &Server, expect: usize) -> BTreeSet<String> {
    for _ in 0..100 {
        let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page =
                server.json(&format!("/api/v1/alerts?level=high&limit=1000&cluster=prod{cursor}")).await;
            for alert in page["alerts"].as_array().unwrap() {
                let user = alert["labels"]["user.name"].as_str().unwrap_or_default();
                // A rule may be one of several that match a binding; each counts for itself.
                if user.starts_with("attacker-") && alert["title"] == page["alerts"][0]["title"] {
                    ids.insert(alert["id"].as_str().unwrap().to_owned());
                }
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        if ids.len() >= expect {
            return ids;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not all alerts appeared\n{}", server.log());
}

async fn wait_for_deliveries(sink: &Sink, alerts: &BTreeSet<String>) {
    for _ in 0..300 {
        let delivered: BTreeSet<String> = sink.alert_ids().into_iter().collect();
        if alerts.is_subset(&delivered) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let delivered: BTreeSet<String> = sink.alert_ids().into_iter().collect();
    let missing: Vec<_> = alerts.difference(&delivered).take(5).collect();
    panic!(
        "{} of {} alerts never delivered, such as {missing:?}",
        alerts.len() - delivered.len(),
        alerts.len()
    );
}

/// A message that arrived twice was in flight when the process died, and carried the same id.
fn check_repetitions(sink: &Sink) {
    let mut by_alert: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut by_id: HashMap<String, u64> = HashMap::new();
    for delivery in sink.deliveries() {
        *by_id.entry(delivery.id.clone()).or_default() += 1;
        for alert in delivery.body["alerts"].as_array().unwrap() {
            let alert = alert_id(alert);
            by_alert.entry(alert).or_default().insert(delivery.id.clone());
        }
    }
    for (alert, ids) in by_alert {
        assert_eq!(ids.len(), 1, "alert {alert} was sent under several ids: {ids:?}");
    }
    let repeated: u64 = by_id.values().map(|times| times - 1).sum();
    assert!(repeated <= KILLS, "{repeated} messages were repeated over {KILLS} kills");
}
