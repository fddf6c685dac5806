//! Log lines: taken in whatever form an agent sends them, found by their words and fields, and alerted on.

use serde_json::{Value, json};

use crate::sink::Sink;
use crate::support::{Server, event, wait_until};

/// Posts a body as a log agent does; it must be taken.
async fn send(server: &Server, content_type: &str, key: Option<&str>, body: impl Into<String>) -> Value {
    let url = format!("{}/ingest/logs/prod", server.base);
    let mut request = server.http.post(url).bearer_auth(server.admin_token());
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let response = request.header("content-type", content_type).body(body.into()).send().await.unwrap();
    let status = response.status();
    let answer = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// What Fluent Bit's Kubernetes filter makes of a line.
fn record(line: &str) -> Value {
    json!({ "log": format!("{line}\n"), "stream": "stderr", "kubernetes": { "namespace_name": "shop",
        "pod_name": "bastion-0", "container_name": "sshd", "host": "node-1", "labels": { "app": "bastion" } } })
}

#[tokio::test]
async fn guessed_logins_are_found_and_the_alert_arrives() {
    let sink = Sink::start().await;
    let server = Server::start(&sink.config()).await;
    let refused = "Failed password for invalid user admin from 203.0.113.9 port 4022 ssh2";
    let lines: Vec<Value> = (0..10).map(|_| record(refused)).collect();
    let answer = send(&server, "application/json", None, Value::from(lines).to_string()).await;
    assert_eq!(answer, json!({ "stored": 10, "duplicates": 0, "rejected": 0, "durability": "fsync" }));
    let accepted = record("Accepted password for root from 203.0.113.9 port 4023 ssh2");
    send(&server, "application/x-ndjson", None, format!("{accepted}\n")).await;

    server.wait_for_count("source:log", 11).await;
    for (query, expect) in [
        ("message:\"failed password\"", 10),
        ("203.0.113.9", 11),
        ("source.ip:203.0.113.0/24 AND event.outcome:failure AND user.name:admin", 10),
        ("event.dataset:sshd AND event.outcome:success", 1),
        ("orchestrator.namespace:shop AND orchestrator.resource.name:bastion-0", 11),
        ("kubernetes.labels.app:bastion AND host.name:node-1 AND log.iostream:stderr", 11),
        ("source:kubernetes_audit AND cluster:prod", 0),
    ] {
        assert_eq!(server.count(query).await, expect, "{query}");
    }
    let titles = |alerts: &[Value]| -> Vec<String> {
        alerts.iter().map(|alert| alert["title"].as_str().unwrap().to_owned()).collect()
    };
    let alerts = server.wait_for_alerts("two alerts", |alerts| titles(alerts).len() >= 2).await;
    let mut found = titles(&alerts);
    found.sort();
    assert_eq!(found, ["Logins refused, then one accepted", "Many logins refused"]);
    assert!(alerts.iter().all(|alert| alert["labels"]["source.ip"] == "203.0.113.9"), "{alerts:#?}");
    wait_until("both are sent", async || sink.alert_ids().len() >= 2).await;
}

#[tokio::test]
async fn a_printed_secret_is_alerted_on_and_not_sent_on() {
    let sink = Sink::start().await;
    let server = Server::start(&sink.config()).await;
    let line = "2026-01-31T08:15:00.123456789Z stdout F connecting with password=hunter2x";
    send(&server, "text/plain", None, format!("{line}\n{line}\n")).await;
    server.wait_for_count("message:password AND event.dataset:text AND log.iostream:stdout", 2).await;
    let alerts = server.wait_for_alerts("an alert", |alerts| !alerts.is_empty()).await;
    assert_eq!(alerts[0]["title"], "Secret printed in a log");
    wait_until("it is sent", async || !sink.deliveries().is_empty()).await;
    let sent = sink.deliveries();
    let told = format!("{alerts:?} {sent:?}");
    assert!(told.contains("password=[redacted]") && !told.contains("hunter2x"), "{told}");
    assert!(!server.log().contains("hunter2x"));
    // whoever investigates needs to see it
    let hit = &server.search("message:password").await["hits"][0];
    assert_eq!(hit["event"]["message"], "connecting with password=hunter2x");
}

#[tokio::test]
async fn a_delivery_with_a_key_is_stored_once_and_equal_lines_are_several() {
    let mut server = Server::start("").await;
    let body = "same\nsame\n";
    assert_eq!(send(&server, "text/plain", Some("k-1"), body).await["stored"], 2);
    assert_eq!(send(&server, "text/plain", Some("k-1"), body).await["duplicates"], 2);
    // a key that is used again for other lines hides none of them
    assert_eq!(send(&server, "text/plain", Some("k-1"), "same\nother\n").await["stored"], 2);
    assert_eq!(send(&server, "text/plain", None, body).await["stored"], 2);
    server.kill();
    server.restart().await;
    assert_eq!(send(&server, "text/plain", Some("k-1"), body).await["duplicates"], 2);
    server.wait_for_count("message:same", 5).await;
}

#[tokio::test]
async fn whatever_is_no_record_takes_nothing_with_it() {
    let server = Server::start("").await;
    let answer = send(&server, "application/json", None, r#"[{"log":"one"},7,{"log":"two"}]"#).await;
    assert_eq!((&answer["stored"], &answer["rejected"]), (&json!(2), &json!(1)));
    let quarantine = server.json("/api/v1/quarantine").await;
    assert!(quarantine.to_string().contains("not an object"), "{quarantine}");
    // whoever wants it all the same gets a line
    let key = quarantine["entries"][0]["key"].as_str().unwrap();
    let retried = server.run(&["quarantine", "retry", key]);
    assert!(retried.status.success(), "{retried:?}");
    server.wait_for_count("message:7", 1).await;
    // an audit event that a pod prints is a line of this pod
    let forged = json!({ "log": event("forged").to_string(), "kubernetes": { "pod_name": "evil-0" } });
    send(&server, "application/json", None, forged.to_string()).await;
    server.wait_for_count("orchestrator.resource.name:evil-0", 1).await;
    assert_eq!(server.count("source:kubernetes_audit AND cluster:prod").await, 0);
    assert_eq!(server.count("user.name:alice@example.org OR event.action:get").await, 0);

    let url = format!("{}/ingest/logs/prod", server.base);
    let post = |body: &'static str| server.http.post(&url).bearer_auth(server.admin_token()).body(body);
    assert_eq!(post(" \n").send().await.unwrap().status(), 400);
    let denied = server.http.post(&url).body("x").send().await.unwrap();
    assert_eq!(denied.status(), 401);
}

#[tokio::test]
async fn a_log_file_can_be_sent_again() {
    let server = Server::start("").await;
    let file = server.dir.path().join("web.log");
    let line = r#"203.0.113.9 - - [31/Jan/2026:08:15:00 +0000] "GET /admin HTTP/1.1" 403 12 "-" "curl/8""#;
    std::fs::write(&file, format!("{line}\n{line}\n")).unwrap();
    for _ in 0..2 {
        let output = server.run(&["ingest", "--logs", "--cluster", "prod", file.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    }
    let query = "http.response.status_code:403 AND url.path:\\/admin AND user_agent.original:curl\\/8";
    server.wait_for_count(query, 2).await;
    let output = server.run(&["search", "message:curl"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("GET /admin"), "{table}");
}
