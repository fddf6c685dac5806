//! What a user sees when everything works.

use serde_json::json;

use crate::support::{Server, cluster_admin_binding, event};

#[tokio::test]
async fn an_event_is_answered_stored_searched_and_alerted_on() {
    let server = Server::start("").await;
    let events = [event("a-1"), cluster_admin_binding("a-2", "mallory")];
    let answer = server.ingest("prod", &events).await;
    assert_eq!(answer, json!({ "stored": 2, "duplicates": 0, "rejected": 0, "durability": "fsync" }));

    server.wait_for_count("cluster:prod", 2).await;
    for (query, expect) in [
        ("user.username:alice@example.org", 1),
        ("user.name:alice* AND event.action:get", 1),
        ("sourceIPs:10.1.0.0/16", 2),
        ("annotations.authorization.k8s.io/decision:allow AND verb:create", 1),
        ("requestObject.roleRef.name:cluster-admin", 1),
        ("responseStatus.code:[200 TO 200]", 1),
        ("NOT verb:get", 1),
        ("_exists_:requestObject.subjects", 1),
        ("objectRef.namespace:kube-system", 0),
    ] {
        assert_eq!(server.count(&format!("cluster:prod AND ({query})")).await, expect, "{query}");
    }
    let hit = &server.search("auditID:a-1").await["hits"][0];
    assert_eq!(hit["event"], event("a-1"));
    assert_eq!(hit["@timestamp"], "2026-01-31T08:15:00.004201Z");
    assert_eq!((&hit["cluster"], &hit["source"]), (&json!("prod"), &json!("kubernetes_audit")));
    let by_id = server.json(&format!("/api/v1/events/{}", hit["id"].as_str().unwrap())).await;
    assert_eq!(&by_id, hit);

    let alerts = server
        .wait_for_alerts("one alert for the binding", |alerts| {
            alerts.iter().any(|alert| alert["labels"]["user.name"] == "mallory")
        })
        .await;
    assert!(alerts.iter().all(|alert| alert["labels"]["user.name"] != "alice@example.org"), "{alerts:#?}");
    let rule = alerts[0]["rule_id"].as_str().unwrap();
    let matched = server.search(&format!("rule:{rule}")).await;
    assert_eq!(matched["hits"][0]["event"]["auditID"], "a-2");
    assert_eq!(matched["total"]["value"], 1);
    server.wait_for_count(&format!("cluster:prod AND NOT rule:{rule}"), 1).await;
    let unknown = server.get("/api/v1/search?q=NOT%20rule:no-such-rule").send().await.unwrap();
    assert_eq!(unknown.status(), 400);
    assert!(unknown.text().await.unwrap().contains("rule:no-such-rule is no rule"));

    let explanation = &alerts[0]["explanation"];
    assert!(!explanation["matched"].as_array().unwrap().is_empty(), "{explanation:#}");
    assert_eq!(explanation["context"]["user.username"], "mallory");
    assert!(!explanation["next_steps"].as_array().unwrap().is_empty(), "{explanation:#}");
    let link = alerts[0]["links"]["alert"].as_str().unwrap();
    let linked = server.json(link.strip_prefix(&server.base).unwrap()).await;
    assert_eq!(linked["alert"]["id"], alerts[0]["id"]);
    assert_eq!(linked["alert"]["links"], alerts[0]["links"]);
}

#[tokio::test]
async fn a_retried_batch_is_stored_once_and_a_repeated_audit_id_hides_nothing() {
    let server = Server::start("").await;
    let mut other = event("same-id");
    other["verb"] = json!("delete");
    server.ingest("prod", &[event("same-id")]).await;
    let answer = server.ingest("prod", &[event("same-id"), other]).await;
    assert_eq!((&answer["stored"], &answer["duplicates"]), (&json!(1), &json!(1)));
    server.ingest("test", &[event("same-id")]).await;
    server.wait_for_count("auditID:same-id", 3).await;
    server.wait_for_count("auditID:same-id AND verb:delete", 1).await;
}

#[tokio::test]
async fn a_restart_changes_nothing_that_was_answered() {
    let mut server = Server::start("").await;
    let events: Vec<_> = (0..50).map(|n| event(&format!("r-{n}"))).collect();
    server.ingest("prod", &events).await;
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    server.restart().await;
    server.wait_for_count("cluster:prod", 50).await;
    let again = server.ingest("prod", &events).await;
    assert_eq!((&again["stored"], &again["duplicates"]), (&json!(0), &json!(50)));
}

#[tokio::test]
async fn the_index_can_be_deleted_and_comes_back_from_the_log() {
    let mut server = Server::start("").await;
    server.ingest("prod", &[event("x-1"), event("x-2")]).await;
    server.wait_for_count("cluster:prod", 2).await;
    server.stop();
    std::fs::remove_dir_all(server.data_dir().join("index")).unwrap();
    server.restart().await;
    server.wait_for_count("cluster:prod", 2).await;
}

#[tokio::test]
async fn values_of_secrets_are_nowhere_in_the_data_directory() {
    let mut server = Server::start("").await;
    let mut created = event("s-1");
    created["level"] = json!("RequestResponse");
    created["verb"] = json!("create");
    created["objectRef"]["resource"] = json!("secrets");
    let password = "cGx1cGVyZmVjdC1wYXNzd29yZA==";
    created["requestObject"] = json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "db" },
        "data": { "password": password }, "stringData": { "token": "plain-sesame" } });
    server.ingest("prod", &[created]).await;
    server.wait_for_count("auditID:s-1 AND objectRef.resource:secrets", 1).await;
    let stored = server.search("auditID:s-1").await["hits"][0]["event"]["requestObject"].to_string();
    assert!(stored.contains("redacted:"), "{stored}");
    server.stop();
    for file in files(&server.data_dir()) {
        let bytes = std::fs::read(&file).unwrap();
        for secret in [password, "plain-sesame"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds {secret}", file.display());
        }
    }
}

#[tokio::test]
async fn pages_do_not_shift_when_events_arrive_between_them() {
    let server = Server::start("").await;
    let at = |n: usize| {
        let mut event = event(&format!("p-{n}"));
        event["stageTimestamp"] = json!(format!("2026-01-31T08:15:00.{:06}Z", n / 2));
        event
    };
    server.ingest("prod", &(0..30).map(at).collect::<Vec<_>>()).await;
    server.wait_for_count("cluster:prod", 30).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            server.json(&format!("/api/v1/search?q=cluster:prod&from=now-20000d&limit=7{cursor}")).await;
        for hit in page["hits"].as_array().unwrap() {
            seen.push(hit["event"]["auditID"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        let n = 100 + seen.len();
        server.ingest("prod", &[at(n)]).await;
        server.wait_for_count(&format!("auditID:p-{n}"), 1).await;
    }
    let mut expect: Vec<String> = (0..30).rev().map(|n| format!("p-{n}")).collect();
    assert_eq!(seen.len(), 30, "{seen:?}");
    seen.sort();
    expect.sort();
    assert_eq!(seen, expect);
}

#[tokio::test]
async fn administrative_actions_are_events_too() {
    let server = Server::start("").await;
    let made = server.run(&["token", "create", "grafana", "--scope", "read"]);
    assert!(made.status.success(), "{made:?}");
    server.wait_for_count("cluster:watchbell AND verb:create AND objectRef.resource:tokens", 1).await;
    server.wait_for_count("cluster:watchbell AND objectRef.resource:servers", 1).await;
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
