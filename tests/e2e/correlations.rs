//! Correlations through the public surface: what they find, and that a crash neither loses nor doubles a
//! count.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Server, event, run};

const RULES: &str = "
title: Settings read
name: settings_read
detection: {s: {objectRef.resource: configmaps, user.username|startswith: 'user-'}, condition: s}
---
title: Settings read again and again
id: many-reads
level: high
correlation:
  type: event_count
  rules: [settings_read]
  group-by: [user.username]
  timespan: 1h
  condition: {gte: 20}
";

/// Enough kills to hit every step between an append and a checkpoint.
const KILLS: u64 = 12;
const THRESHOLD: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_counts_every_event_once() {
    let rules = tempfile::tempdir().unwrap();
    std::fs::write(rules.path().join("rules.yml"), RULES).unwrap();
    let config = format!("rules: {{builtin: false, directory: {}}}", rules.path().display());
    let mut server = Server::start(&config).await;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..THRESHOLD {
        // One user stays one below the threshold, so a single event counted twice would show.
        let mut events = vec![read("user-at", round)];
        if round > 0 {
            events.push(read("user-below", round));
        }
        server.ingest("prod", &events).await;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokio::time::sleep(Duration::from_millis(random % 150)).await;
        if round < KILLS {
            server.kill();
            server.restart().await;
            // A sender that saw no answer sends again.
            server.ingest("prod", &events).await;
        }
    }
    let found = server.wait_for_alerts("the user at the threshold", |alerts| !alerts.is_empty()).await;
    for _ in 0..2 {
        server.kill();
        server.restart().await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let alerts = server.alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!(alerts[0]["id"], found[0]["id"]);
    assert_eq!((&alerts[0]["rule_id"], &alerts[0]["count"]), (&json!("many-reads"), &json!(1)));
    let labels = &alerts[0]["labels"];
    assert_eq!((&labels["user.username"], &labels["correlation.reached"]), (&json!("user-at"), &json!("20")));
    let details = server.json(&format!("/api/v1/alerts/{}", alerts[0]["id"].as_str().unwrap())).await;
    let events: BTreeSet<&str> = details["alert"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(events.len() as u64, THRESHOLD);
    assert!(server.data_dir().join("correlation-state").exists());
}

/// The very first events already make alerts, whose position is kept at once; so is what correlations know.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_right_after_its_first_alert_counts_on() {
    let rules = tempfile::tempdir().unwrap();
    let alerting = RULES.replace("name: settings_read\n", "name: settings_read\nid: each\nlevel: high\n");
    let alerting = alerting.replace("gte: 20", "gte: 3").replace("  rules:", "  generate: true\n  rules:");
    std::fs::write(rules.path().join("rules.yml"), alerting).unwrap();
    let config = format!("rules: {{builtin: false, directory: {}}}", rules.path().display());
    for milliseconds in [0, 5, 10, 20, 40] {
        let mut server = Server::start(&config).await;
        server.ingest("prod", &[read("user-a", 0)]).await;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        server.kill();
        server.restart().await;
        server.ingest("prod", &[read("user-a", 1), read("user-a", 2)]).await;
        let counts = |alerts: &[Value]| -> Vec<Value> {
            let mut counts: Vec<_> =
                alerts.iter().map(|alert| json!([alert["rule_id"], alert["count"]])).collect();
            counts.sort_by_key(ToString::to_string);
            counts
        };
        let expect = [json!(["each", 3]), json!(["many-reads", 1])];
        let is_told = |alerts: &[Value]| counts(alerts) == expect;
        server.wait_for_alerts("three reads, and that they are many", is_told).await;
    }
}

/// One event a second.
fn read(user: &str, number: u64) -> Value {
    let mut event = event(&format!("{user}-{number}"));
    event["user"]["username"] = json!(user);
    event["stageTimestamp"] = json!(format!("2026-01-31T08:15:{number:02}.000000Z"));
    event
}

#[test]
fn eval_lists_the_lines_of_a_correlation() {
    let dir = tempfile::tempdir().unwrap();
    let rules = RULES.replace("gte: 20", "gte: 3");
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    let events = ["user-a", "user-b", "user-a", "nobody", "user-a"];
    let mut lines: Vec<Value> = (0..).zip(events).map(|(number, user)| read(user, number)).collect();
    // It must not make those after it too late.
    lines[1]["stageTimestamp"] = json!("2999-01-31T08:15:00.000000Z");
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(dir.path().join("events.jsonl"), lines).unwrap();
    let output = run(&["rules", "eval", "--rules", "rules.yml", "--events", "events.jsonl"], dir.path());
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("1 event(s) say that they are from the future"), "{notes}");
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 1, "{text}");
    assert_eq!(found[0]["rule_id"], "many-reads");
    assert_eq!((&found[0]["event"], &found[0]["events"]), (&json!(4), &json!([0, 2, 4])));
}
