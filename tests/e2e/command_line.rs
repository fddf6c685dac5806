//! The command line: what it prints and how it ends.

use serde_json::{Value, json};

use crate::support::{Server, cluster_admin_binding, event, run};

#[tokio::test(flavor = "multi_thread")]
async fn ingest_search_and_alerts_work_from_a_shell() {
    let server = Server::start("").await;
    let file = server.dir.path().join("audit.log");
    let lines = [event("c-1").to_string(), cluster_admin_binding("c-2", "mallory").to_string()].join("\n");
    std::fs::write(&file, lines).unwrap();
    let path = file.to_str().unwrap();
    for expect in ["2 events stored, 0 were there already", "0 events stored, 2 were there already"] {
        let sent = server.run(&["ingest", "--cluster", "prod", path]);
        let stderr = String::from_utf8(sent.stderr).unwrap();
        assert!(sent.status.success() && stderr.contains(expect), "{stderr}");
    }
    server.wait_for_count("cluster:prod", 2).await;
    let table = server.run(&["search", "auditID:c-1"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("alice@example.org") && text.contains("configmaps"), "{text}");
    let lines = server.run(&["search", "cluster:prod", "--format", "json"]);
    let hits: Vec<Value> = String::from_utf8(lines.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(hits.len(), 2);
    server.wait_for_alerts("an alert", |alerts| !alerts.is_empty()).await;
    let alerts = server.run(&["alerts", "list"]);
    let text = String::from_utf8(alerts.stdout).unwrap();
    assert!(text.contains("mallory"), "{text}");

    let bad = server.run(&["search", "verb:"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8(bad.stderr).unwrap().contains("400"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_added_can_send_and_nothing_else() {
    let server = Server::start("").await;
    let added = server.run(&["cluster", "add", "edge", "--server", &server.base]);
    assert!(added.status.success(), "{added:?}");
    let kubeconfig = String::from_utf8(added.stdout).unwrap();
    assert!(String::from_utf8(added.stderr).unwrap().contains("--audit-webhook-config-file"));
    let field = |name: &str| {
        let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let sent = server.http.post(field("server:")).bearer_auth(field("token:")).body(event("k-1").to_string());
    assert_eq!(sent.send().await.unwrap().status(), 200);
    let search = server.http.get(format!("{}/api/v1/search?q=*", server.base)).bearer_auth(field("token:"));
    assert_eq!(search.send().await.unwrap().status(), 403);
}

#[test]
fn rules_are_tried_on_a_file_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let rule = "title: Config map read\nid: 6f7cf2a7-8a51-4a2e-9a7a-0f4f1d1c5b11\nlogsource: {product: kubernetes}\n\
        detection:\n  selection:\n    objectRef.resource: configmaps\n    verb: get\n  condition: selection\nlevel: low\n";
    let bad = "title: Broken\nlogsource: {product: kubernetes}\ndetection:\n  selection:\n    verb|rot13: x\n  condition: selection\n";
    std::fs::write(dir.path().join("good.yml"), rule).unwrap();
    std::fs::write(dir.path().join("bad.yml"), bad).unwrap();
    let events = [event("e-0").to_string(), json!({ "verb": "watch" }).to_string(), event("e-2").to_string()];
    std::fs::write(dir.path().join("events.jsonl"), events.join("\n")).unwrap();

    let eval = ["rules", "eval", "--rules", "good.yml", "--rules", "bad.yml", "--events", "events.jsonl"];
    let output = run(&eval, dir.path());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("bad.yml:5") && stderr.contains("rot13"), "{stderr}");
    let matches: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expect = |line: u64| json!({ "rule_id": "6f7cf2a7-8a51-4a2e-9a7a-0f4f1d1c5b11", "rule": "Config map read", "level": "low", "event": line });
    assert_eq!(matches, [expect(0), expect(2)]);

    let strict = run(&[&eval[..], &["--strict"]].concat(), dir.path());
    assert_eq!(strict.status.code(), Some(1));
    assert_eq!(run(&["rules", "check", "good.yml"], dir.path()).status.code(), Some(0));
    let check = run(&["rules", "check", "."], dir.path());
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8(check.stderr).unwrap().contains("bad.yml:5"));
}

#[test]
fn falco_rules_are_tried_with_all_matches_or_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "- list: maps\n  items: [configmaps]\n- macro: map\n  condition: ka.target.resource in (maps)\n\
        - rule: Read\n  desc: d\n  condition: map and ka.verb=get\n  output: o\n  priority: ERROR\n  source: k8s_audit\n\
        - rule: Any\n  desc: d\n  condition: map\n  output: o\n  priority: INFO\n  source: k8s_audit\n\
        - rule: Shell\n  desc: d\n  condition: proc.name=sh\n  output: o\n  priority: INFO\n";
    std::fs::write(dir.path().join("falco.yaml"), rules).unwrap();
    std::fs::write(dir.path().join("events.jsonl"), event("f-0").to_string()).unwrap();
    let eval = ["rules", "eval", "--rules", "falco.yaml", "--events", "events.jsonl"];
    for (matching, expect) in [("all", vec!["Read", "Any"]), ("first", vec!["Read"])] {
        let output = run(&[&eval[..], &["--matching", matching]].concat(), dir.path());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("falco.yaml:17: rule \"Shell\": source syscall"), "{stderr}");
        let found: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["rule"].clone())
            .collect();
        assert_eq!(found, expect);
    }
}
