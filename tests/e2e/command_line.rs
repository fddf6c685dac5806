//! The command line: what it prints and how it ends.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::{Server, cluster_admin_binding, event, event_list, run};

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
    let listed = server.run(&["alerts", "list", "--format", "json"]);
    let listed: Value =
        serde_json::from_str(String::from_utf8(listed.stdout).unwrap().lines().next().unwrap()).unwrap();
    let shown = server.run(&["alerts", "show", listed["id"].as_str().unwrap()]);
    let text = String::from_utf8(shown.stdout).unwrap();
    let around = listed["links"]["around"].as_str().unwrap();
    for expect in ["What matched", "What to do", "ATT&CK", around, &server.base] {
        assert!(text.contains(expect), "{expect}\n{text}");
    }
    let found = server.get(around.strip_prefix(&server.base).unwrap()).send().await.unwrap();
    let found: Value = found.json().await.unwrap();
    assert!(!found["hits"].as_array().unwrap().is_empty(), "{found}");
    assert_eq!(server.run(&["alerts", "show", "nonsense"]).status.code(), Some(1));

    // A token that is named outright wins over the one of the environment.
    let wrong = server.dir.path().join("wrong.token");
    std::fs::write(&wrong, "wb_1_s").unwrap();
    let refused = server.run(&["search", "--token-file", wrong.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("401"));

    let unknown = server.run(&["search", "rule:no-such-rule"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("rule:no-such-rule is no rule"));
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
    let sent = server.http.post(field("server:")).bearer_auth(field("token:")).body(event("k-1").to_string());
    assert_eq!(sent.send().await.unwrap().status(), 200);
    let search = server.http.get(format!("{}/api/v1/search?q=*", server.base)).bearer_auth(field("token:"));
    assert_eq!(search.send().await.unwrap().status(), 403);

    // What is no authority is told before a token is made.
    let key = server.dir.path().join("ca.key");
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    let refused = server.run(&["cluster", "add", "leaky", "--ca-file", key.to_str().unwrap()]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("holds a private key"));
    let tokens = server.run(&["token", "list"]);
    assert!(!String::from_utf8(tokens.stdout).unwrap().contains("leaky"));
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
fn rules_are_tried_on_every_form_that_can_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    let rule = "title: Deletion\nid: d\ndetection: {s: {verb: delete}, condition: s}\n";
    std::fs::write(dir.path().join("r.yml"), rule).unwrap();
    let events = [("l-0", "get"), ("l-1", "delete"), ("l-2", "get"), ("l-3", "delete")].map(|(id, verb)| {
        let mut event = event(id);
        event["verb"] = json!(verb);
        event
    });
    let list = event_list(&events);
    let (array, line) = (json!(events), list.to_string());
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap().into_bytes();
    let lines = events.each_ref().map(Value::to_string).join("\n\n");
    let one_by_one: Vec<u8> = events.iter().flat_map(pretty).collect();
    let pods = json!({ "kind": "PodList", "apiVersion": "v1", "items": [] });
    let bad = "nothing in it is an event";
    for (text, code, numbers, told) in [
        (line.clone().into_bytes(), 0, &[1, 3][..], ""),
        (format!("\u{feff}{line}\n{line}\n").into_bytes(), 0, &[1, 3, 5, 7], ""),
        (pretty(&list), 0, &[1, 3], ""),
        (gzip(&pretty(&list)), 0, &[1, 3], ""),
        (array.to_string().into_bytes(), 0, &[1, 3], ""),
        (pretty(&array), 0, &[1, 3], ""),
        (one_by_one, 0, &[1, 3], ""),
        (gzip(lines.as_bytes()), 0, &[2, 6], ""),
        (format!("{}\n7\n{}", events[0], events[1]).into_bytes(), 0, &[2], "line 2 is not a JSON object"),
        (json!([7, events[1]]).to_string().into_bytes(), 0, &[1], "event 0 is not a JSON object"),
        (Vec::new(), 0, &[], "events: no events"),
        (pretty(&event_list(&[])), 0, &[], "events: no events"),
        (b"\nnot json\n".to_vec(), 1, &[], &format!("events: {bad}; line 2 is not a JSON object")),
        (b"[7]".to_vec(), 1, &[], &format!("events: {bad}; event 0 is not a JSON object")),
        (pretty(&list)[..200].to_vec(), 1, &[], &format!("events: {bad}; line ")),
        (pods.to_string().into_bytes(), 1, &[], &format!("events: {bad}; line 1 is of the kind PodList")),
        (gzip(line.as_bytes())[..30].to_vec(), 1, &[], "failed to read events from events"),
    ] {
        std::fs::write(dir.path().join("events"), &text).unwrap();
        let output = run(&["rules", "eval", "--rules", "r.yml", "--events", "events"], dir.path());
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let found: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<u64> = found.iter().map(|found| found["event"].as_u64().unwrap()).collect();
        let case = String::from_utf8_lossy(&text);
        assert_eq!((output.status.code(), found), (Some(code), numbers.to_vec()), "{case}: {stderr}");
        assert!(stderr.contains(told), "{case}: {stderr}");
    }
}

#[test]
fn a_path_without_rules_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    std::fs::write(dir.path().join("lists.yml"), "- list: a\n  items: [b]\n").unwrap();
    std::fs::write(dir.path().join("untested.yml"), TOOL_RULES).unwrap();
    std::fs::write(dir.path().join("broken.yml"), "title: Broken\n").unwrap();
    std::fs::write(dir.path().join("e.json"), "{}").unwrap();
    let eval = ["rules", "eval", "--events", "e.json", "--rules"];
    for (args, path, expect) in [
        (&["rules", "check"][..], "absent", "no rules in absent: absent"),
        (&["rules", "check"], "empty", "no rules in empty"),
        (&["rules", "check"], "lists.yml", "no rules in lists.yml"),
        (&["rules", "check", "untested.yml"], "empty", "no rules in empty"),
        (&["rules", "lint"], "empty", "no rules in empty"),
        (&["rules", "list"], "empty", "no rules in empty"),
        (&["rules", "test"], "absent", "no rules in absent: absent"),
        (&["rules", "test"], "empty", "no rules in empty"),
        (&["rules", "test"], "untested.yml", "nothing was tested"),
        (&["policy", "generate", "--rules"], "empty", "no rules in empty"),
        (&eval, "absent", "no rules in absent: absent"),
        (&eval, "empty", "no rules in empty"),
        (&eval, "broken.yml", "none of the rules can be used"),
    ] {
        let output = run(&[args, &[path]].concat(), dir.path());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{args:?} {path}: {stderr}");
        assert!(stderr.contains(expect), "{args:?} {path}: {stderr}");
    }
}

#[test]
fn a_value_that_no_server_would_take_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    for (args, expect) in [
        (&["alerts", "list", "--level", "severe"][..], "unknown level \"severe\"; known: informational"),
        (&["search", "--from", "yesterday"], "it must be an RFC 3339 time"),
        (&["search", "--to", "now+1h"], "it must be an RFC 3339 time"),
        (&["token", "create", "x", "--scope", "write"], "unknown scope \"write\"; known: read"),
        (&["token", "create", "x", "--scope", "ingest:a/b"], "a cluster name is"),
        (&["ingest", "a.log", "--cluster", "a/b"], "a cluster name is"),
        (&["quarantine", "show", "nope"], "a key is 32 hexadecimal digits"),
        (&["quarantine", "retry", "nope"], "a key is 32 hexadecimal digits"),
        (&["cluster", "add", "watchbell"], "is taken by this server"),
    ] {
        let output = run(args, dir.path());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expect), "{args:?}: {stderr}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rules_are_tested_on_their_samples() {
    let dir = tempfile::tempdir().unwrap();
    let rule = "title: Config map read\ndetection:\n  read:\n    verb: [get, list]\n    resource: configmaps\n  condition: read\n";
    let samples = "event: {verb: get, resource: configmaps}\nmatch: [{}]\nno-match: [{verb: create}]\n";
    std::fs::write(dir.path().join("read.yml"), rule).unwrap();
    std::fs::write(dir.path().join("read.samples.yml"), samples).unwrap();
    let check = |arguments: &[&str], code: i32, expect: &[&str]| {
        let output = run(&[&["rules", "test"], arguments].concat(), dir.path());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        expect.iter().for_each(|expect| assert!(text.contains(expect), "{expect} is not in {text}"));
    };
    check(&["."], 0, &["1 rules, 2 samples, 0 cases of the correlation suite, 0 failures"]);
    check(
        &["read.yml", "--mutate"],
        1,
        &[
            "read.yml:4: no sample fails without read: verb: list",
            "read.yml:5: no sample fails without read: resource",
        ],
    );
    std::fs::write(dir.path().join("read.samples.yml"), samples.replace("create", "list")).unwrap();
    check(
        &["."],
        1,
        &["--- ./read.samples.yml:3\n+++ ./read.yml\n- no-match\n+ match\n", "\"verb\":\"list\""],
    );
    std::fs::write(dir.path().join("read.samples.yml"), "match: {}\n").unwrap();
    check(&["."], 1, &["read.samples.yml:1: match takes a list"]);
    check(&[], 0, &[" 0 failures"]);
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

const TOOL_RULES: &str = "title: Pod with host processes\nid: 0d2b2a1e-3c6f-4c56-9b0f-2f4a2b7f7a11\nlevel: high\n\
    tags: [attack.privilege-escalation, attack.t1611]\nlogsource: {product: kubernetes}\ndetection:\n  pod:\n    \
    verb: create\n    objectRef.resource: pods\n  host:\n    requestObject.spec.hostPID: true\n  \
    condition: pod and host\n";

#[test]
fn rules_are_listed_and_placed_in_attack() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.yml"), TOOL_RULES).unwrap();
    let json = |arguments: &[&str]| -> Value {
        let output = run(arguments, dir.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let rule = json(&["rules", "list", "r.yml", "--format", "json"]);
    assert_eq!(
        (&rule["needs"], &rule["level"], &rule["line"]),
        (&json!(["request"]), &json!("high"), &json!(1))
    );
    let table = run(&["rules", "list"], dir.path());
    assert!(String::from_utf8(table.stdout).unwrap().contains("Privileged container"));
    let layer = json(&["rules", "coverage", "r.yml", "--format", "json"]);
    assert_eq!(layer["domain"], "enterprise-attack");
    assert_eq!(layer["techniques"][0]["techniqueID"], "T1611");
    assert_eq!(layer["techniques"][0]["tactic"], "privilege-escalation");
    let table = run(&["rules", "coverage", "r.yml"], dir.path());
    assert!(String::from_utf8(table.stdout).unwrap().contains("T1611"));
}

#[test]
fn a_policy_that_starves_a_rule_is_told_and_a_generated_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.yml"), TOOL_RULES).unwrap();
    let metadata = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n  - level: Metadata\n";
    std::fs::write(dir.path().join("metadata.yaml"), metadata).unwrap();
    std::fs::write(dir.path().join("broken.yaml"), "rules: []").unwrap();
    let generated = run(&["policy", "generate", "--rules", "r.yml"], dir.path());
    assert_eq!(generated.status.code(), Some(0));
    std::fs::write(dir.path().join("generated.yaml"), &generated.stdout).unwrap();
    let lint = |policy: &str, more: &[&str]| {
        run(&[&["rules", "lint", "r.yml", "--audit-policy", policy][..], more].concat(), dir.path())
    };
    let found = lint("metadata.yaml", &["--format", "json"]);
    assert_eq!(found.status.code(), Some(1));
    let finding: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(finding["kind"], "starved");
    let message = "line 4 of the policy logs create pods at Metadata; the rule needs Request";
    assert_eq!(finding["message"], message);
    let told = lint("metadata.yaml", &[]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8(told.stdout).unwrap().contains(message));
    let fed = lint("generated.yaml", &[]);
    assert_eq!((fed.status.code(), fed.stdout.len()), (Some(0), 0));
    let broken = lint("broken.yaml", &[]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(
        String::from_utf8(broken.stderr).unwrap().contains("broken.yaml:1: an audit policy has kind: Policy")
    );
}

#[test]
fn a_rule_is_explained_on_an_event() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("r.yml"), TOOL_RULES).unwrap();
    let pod = |host: bool| {
        json!({
            "level": "Request", "verb": "create", "objectRef": {"resource": "pods"},
            "requestObject": {"spec": {"hostPID": host}},
        })
    };
    std::fs::write(dir.path().join("event.json"), pod(true).to_string()).unwrap();
    std::fs::write(dir.path().join("other.json"), pod(false).to_string()).unwrap();
    std::fs::write(dir.path().join("list.json"), event_list(&[pod(true)]).to_string()).unwrap();
    std::fs::write(dir.path().join("two.json"), event_list(&[pod(true), pod(true)]).to_string()).unwrap();
    std::fs::write(dir.path().join("none.json"), "[]").unwrap();
    for (rule, event, code, expect) in [
        ("r.yml", "event.json", 0, "matches"),
        ("r.yml", "list.json", 0, "matches"),
        ("r.yml", "two.json", 1, "two.json holds 2 events"),
        ("r.yml", "none.json", 1, "none.json holds no event"),
        ("r.yml", "other.json", 1, "- requestObject.spec.hostPID is \"true\" (in any case)   [event: false]"),
        ("Pod with host processes", "event.json", 1, "there is no rule"),
        ("r.yml", "absent.json", 1, "failed to read events from absent.json: No such file"),
    ] {
        let output = run(&["rules", "explain", rule, event], dir.path());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expect), "{text}");
    }
    let by_title =
        run(&["rules", "explain", "Pod with host processes", "event.json", "--rules", "."], dir.path());
    assert_eq!(by_title.status.code(), Some(0), "{by_title:?}");
}

#[test]
fn a_correlation_is_listed_and_explained_through_the_rules_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let correlation = "---\ntitle: Many of them\nname: many\ncorrelation:\n  type: event_count\n  \
        rules: [0d2b2a1e-3c6f-4c56-9b0f-2f4a2b7f7a11]\n  group-by: [user.name]\n  timespan: 1h\n  \
        condition: {gte: 3}\n";
    std::fs::write(dir.path().join("r.yml"), format!("{TOOL_RULES}{correlation}")).unwrap();
    let list = run(&["rules", "list", "r.yml", "--format", "json"], dir.path());
    let listed: Vec<Value> = String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<_> = listed.iter().map(|rule| (&rule["correlation"], &rule["needs"])).collect();
    assert_eq!(shown, [(&json!(false), &json!(["request"])), (&json!(true), &json!(["request"]))]);
    for (host, code, expect) in [(true, 0, ") matches\n"), (false, 1, ") does not match\n")] {
        let event = json!({
            "level": "Request", "verb": "create", "objectRef": {"resource": "pods"},
            "requestObject": {"spec": {"hostPID": host}},
        });
        std::fs::write(dir.path().join("event.json"), event.to_string()).unwrap();
        let output = run(&["rules", "explain", "many", "event.json", "--rules", "r.yml"], dir.path());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.starts_with("Many of them (r.yml:14) is a correlation"), "{text}");
        assert!(text.contains(&format!("Pod with host processes (r.yml:1{expect}")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_in_pieces_that_the_server_takes() {
    let server = Server::start("ingest: {max_body: 8KiB}\n").await;
    let file = server.dir.path().join("audit.log");
    let events: Vec<String> = (0..60).map(|number| event(&format!("p-{number}")).to_string()).collect();
    std::fs::write(&file, format!("\n{}\n", events.join("\n"))).unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() > 3 * (8 << 10));
    for expect in ["60 events stored, 0 were there already", "0 events stored, 60 were there already"] {
        let sent = server.run(&["ingest", "--cluster", "prod", file.to_str().unwrap()]);
        let stderr = String::from_utf8(sent.stderr).unwrap();
        assert!(sent.status.success() && stderr.contains(expect), "{stderr}");
    }
    let long = format!("{}\n", json!({ "kind": "Event", "x": "y".repeat(9 << 10) }));
    std::fs::write(&file, long).unwrap();
    let refused = server.run(&["ingest", "--cluster", "prod", file.to_str().unwrap()]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("413"));
}
