//! Receivers that are slow, rude or away.

use std::time::Duration;

use serde_json::json;

use crate::sink::Sink;
use crate::support::{Server, cluster_admin_binding, event, wait_until};

#[tokio::test]
async fn an_alert_arrives_once_though_the_request_shows_twice() {
    let sink = Sink::start().await;
    let server = Server::start(&sink.config()).await;
    let exec = |stage: &str| {
        let mut exec = event("exec-1");
        exec["stage"] = json!(stage);
        exec["requestURI"] = json!("/api/v1/namespaces/shop/pods/web-0/exec?command=sh&stdin=true");
        exec["objectRef"] = json!({ "resource": "pods", "subresource": "exec", "namespace": "shop",
            "name": "web-0", "apiVersion": "v1" });
        exec["responseStatus"]["code"] = json!(101);
        exec
    };
    server.ingest("prod", &[exec("ResponseStarted"), exec("ResponseComplete")]).await;
    wait_until("a delivery", async || !sink.deliveries().is_empty()).await;
    let alerts = server.wait_for_alerts("an exec alert", |alerts| !alerts.is_empty()).await;
    assert!(alerts.iter().all(|alert| alert["count"] == 1), "{alerts:#?}");
}

#[tokio::test]
async fn a_receiver_that_says_429_is_asked_again_when_it_said() {
    let sink = Sink::start().await;
    let server = Server::start(&sink.config()).await;
    sink.answer(429);
    server.ingest("prod", &[cluster_admin_binding("b-1", "mallory")]).await;
    wait_until("a refused attempt", async || !sink.refused().is_empty()).await;
    sink.answer(200);
    wait_until("a delivery", async || !sink.deliveries().is_empty()).await;
    let waited = sink.deliveries()[0].at - *sink.refused().last().unwrap();
    assert!(waited >= Duration::from_millis(1_900), "came back after {waited:?}, was asked for 2 s");
}

#[tokio::test]
async fn a_storm_is_a_few_messages_and_every_alert_is_in_the_list() {
    let sink = Sink::start().await;
    let server = Server::start(&sink.config()).await;
    let storm: Vec<_> =
        (0..1_000).map(|n| cluster_admin_binding(&format!("st-{n}"), &format!("bot-{n}"))).collect();
    server.ingest("prod", &storm).await;
    let bots = |alerts: &[serde_json::Value]| {
        alerts.iter().filter(|alert| alert["title"] == alerts[0]["title"]).count()
    };
    server
        .wait_for_alerts("a thousand alerts", |alerts| alerts.len() == 1_000 || bots(alerts) >= 1_000)
        .await;
    wait_until("a delivery", async || !sink.deliveries().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let messages = sink.deliveries().len();
    assert!(messages <= 20, "{messages} messages for one storm");
}

#[tokio::test]
async fn imported_history_notifies_nobody() {
    let sink = Sink::start().await;
    let server = Server::start(&sink.config()).await;
    let file = server.dir.path().join("audit.log");
    std::fs::write(&file, cluster_admin_binding("h-1", "mallory").to_string() + "\n").unwrap();
    let sent = server.run(&["ingest", "--cluster", "old", file.to_str().unwrap()]);
    assert!(sent.status.success(), "{sent:?}");
    let alerts = server.wait_for_alerts("an alert", |alerts| !alerts.is_empty()).await;
    assert_eq!(alerts[0]["history"], true);
    server.ingest("prod", &[cluster_admin_binding("h-2", "trudy")]).await;
    wait_until("the live alert", async || !sink.deliveries().is_empty()).await;
    let body = sink.deliveries()[0].body.to_string();
    assert!(body.contains("trudy") && !body.contains("mallory"), "{body}");
}
