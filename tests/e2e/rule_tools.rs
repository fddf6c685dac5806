//! The tools for rules that need a server, or that all of them share.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::{BINARY, Server, event, event_list, run, wait_until};

const RULES: &str = "
title: Settings read
id: settings-read
name: settings_read
level: low
detection: {s: {objectRef.resource: configmaps, user.username|startswith: 'user-'}, condition: s}
---
title: Settings read again and again
id: many-reads
level: high
correlation:
  type: event_count
  rules: [settings_read]
  group-by: [user.name]
  timespan: 10m
  condition: {gte: 3}
---
title: Secret settings written
id: body
detection: {s: {verb: create, requestObject.data.password: '*'}, condition: s}
";

/// A read by a user, so many seconds after midnight of a day in January.
fn read(user: &str, day: u32, second: u32) -> Value {
    let mut event = event(&format!("{user}-{day}-{second}"));
    event["user"]["username"] = json!(user);
    event["stageTimestamp"] =
        json!(format!("2026-01-{day:02}T08:{:02}:{:02}.000000Z", second / 60, second % 60));
    event
}

async fn import(server: &Server, events: &[Value]) {
    let url = format!("{}/ingest/audit/prod?history=true", server.base);
    let body = event_list(events).to_string();
    let answer = server.http.post(url).bearer_auth(server.admin_token()).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

fn json_of(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_tested_on_what_a_server_keeps() {
    let server = Server::start("rules: {builtin: false}").await;
    let path = server.dir.path().join("mine.yml");
    std::fs::write(&path, RULES).unwrap();
    let file = path.to_str().unwrap();
    // Alice reads three times on one day and, hours later, three times more; Bob reads twice.
    let reads = |user: &str, day: u32, seconds: &[u32]| {
        seconds.iter().map(|second| read(user, day, *second)).collect::<Vec<_>>()
    };
    import(&server, &reads("user-alice", 3, &[0, 60, 120])).await;
    import(&server, &[reads("user-bob", 4, &[0, 60]), reads("user-alice", 5, &[0, 1, 2])].concat()).await;
    import(&server, &[read("nobody", 6, 0)]).await;
    server.wait_for_count("cluster:prod", 9).await;
    let backtest = |rule: &str, more: &[&str]| {
        let args =
            [&["rules", "backtest", rule, "--format", "json", "--query", "cluster:prod"], more].concat();
        server.run(&args)
    };

    let output = backtest("many-reads", &["--rules", file]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json_of(&output);
    assert_eq!((&report["complete"], &report["events"]), (&json!(true), &json!(9)));
    assert_eq!(report["rules"].as_array().unwrap().len(), 1);
    let found = &report["rules"][0];
    assert_eq!(
        (&found["rule_id"], &found["matches"], &found["alerts"]),
        (&json!("many-reads"), &json!(2), &json!(2))
    );
    assert_eq!(found["counted"], json!([{ "rule": "Settings read", "matches": 8 }]));
    let day = |day: &str| json!({ "day": day, "matches": 1, "alerts": 1 });
    assert_eq!(found["days"], json!([day("2026-01-03"), day("2026-01-05")]));
    assert_eq!(found["top"]["user.name"]["values"], json!([{ "value": "user-alice", "matches": 2 }]));
    let sample = &found["samples"][0];
    assert_eq!((&sample["actor"], &sample["cluster"]), (&json!("user-alice"), &json!("prod")));
    assert_eq!(sample["object"], "configmaps/settings in shop");
    assert_eq!(sample["events"].as_array().unwrap().len(), 3);
    assert_eq!(server.count(&format!("id:{}", sample["event_id"].as_str().unwrap())).await, 1);

    // Between two times, and with what the rule counts.
    let output = backtest(file, &["--from", "2026-01-04T00:00:00Z", "--to", "2026-01-06T00:00:00Z"]);
    let report = json_of(&output);
    assert_eq!((output.status.code(), &report["events"]), (Some(0), &json!(5)), "{output:?}");
    let counts = report["rules"].as_array().unwrap().iter();
    let counts: Vec<_> = counts.map(|rule| (&rule["rule_id"], &rule["matches"], &rule["silent"])).collect();
    let expect = [
        (&json!("settings-read"), &json!(5), &json!(true)),
        (&json!("many-reads"), &json!(1), &json!(false)),
        (&json!("body"), &json!(0), &json!(false)),
    ];
    assert_eq!(counts, expect);

    // Alone, a rule that correlations count makes alerts of its own: one each day and user.
    let report = json_of(&backtest("Settings read", &["--rules", file]));
    let found = &report["rules"][0];
    assert_eq!(
        (&found["matches"], &found["alerts"], &found["silent"]),
        (&json!(8), &json!(3), &json!(false))
    );

    let table =
        server.run(&["rules", "backtest", "many-reads", "--rules", file, "--from", "2026-01-01T00:00:00Z"]);
    let text = String::from_utf8(table.stdout).unwrap();
    for expect in ["2 alerts from 2 matches", "counted: Settings read, 8 matches", "2026-01-05", "user-alice"]
    {
        assert!(text.contains(expect), "{expect} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_test_says_how_it_ended() {
    let server = Server::start("rules: {builtin: false}").await;
    let dir = server.dir.path();
    std::fs::write(dir.join("mine.yml"), RULES).unwrap();
    std::fs::write(dir.join("half.yml"), format!("{RULES}---\ntitle: Broken\n")).unwrap();
    let (mine, half) = (dir.join("mine.yml"), dir.join("half.yml"));
    let (mine, half) = (mine.to_str().unwrap(), half.to_str().unwrap());
    for (args, code, expect) in [
        (vec![mine], 0, "no events"),
        (vec!["many-reads"], 1, "there is no rule with the id, name, title or file \"many-reads\""),
        (vec![half], 1, "half.yml:"),
        (vec![mine, "--query", "verb:"], 1, "400"),
        (vec![mine, "--from", "yesterday"], 2, "it must be an RFC 3339 time"),
        (vec![mine, "--set", "a b=x"], 2, "the name of a list"),
        (vec![mine, "--set", "nobodies=x"], 0, "none of the rules reads a list of this name"),
        (vec![mine, "--server", "http://127.0.0.1:1"], 1, "is the server running?"),
    ] {
        let query = if args.contains(&"--query") { vec![] } else { vec!["--query", "cluster:prod"] };
        let output = server.run(&[vec!["rules", "backtest"], args.clone(), query].concat());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(expect), "{args:?}: {text}");
    }
}

#[test]
fn a_back_test_that_is_stopped_shows_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine.yml"), RULES).unwrap();
    let check = |more: &[&str], interrupt: bool| {
        let (address, waits) = half_a_server();
        let child = Command::new(BINARY)
            .args(["rules", "backtest", "settings-read", "--rules", "mine.yml", "--format", "json"])
            .args(["--server", &address])
            .args(more)
            .env("WATCHBELL_TOKEN", "t")
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        waits.recv().unwrap();
        if interrupt {
            let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            assert!(sent.unwrap().success());
        }
        let output = child.wait_with_output().unwrap();
        let report = json_of(&output);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!((&report["complete"], &report["events"]), (&json!(false), &json!(1)));
        assert_eq!(report["rules"][0]["alerts"], 1);
        assert!(String::from_utf8(output.stderr).unwrap().contains("stopped before the last event"));
    };
    check(&[], true);
    check(&["--max-time", "2s"], false);
}

/// A server that gives one page of an export and tells when it is asked for the next, which never comes.
fn half_a_server() -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (waits, asked) = mpsc::channel();
    let line = json!({ "id": "00112233445566778899aabbccddeeff", "@timestamp": "2026-01-03T08:00:00.000000Z",
        "cluster": "prod", "source": "kubernetes_audit", "event": read("user-a", 3, 0) });
    std::thread::spawn(move || {
        let mut unanswered = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]);
            let body = match request.split_whitespace().nth(1) {
                Some(path) if path.contains("cursor=") => {
                    unanswered.push(stream);
                    let _ = waits.send(());
                    continue;
                }
                Some(path) if path.starts_with("/api/v1/export") => format!("{line}\n"),
                _ => json!({ "total": { "value": 2, "relation": "eq" } }).to_string(),
            };
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\nwatchbell-next-cursor: next";
            write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_all_events_in_the_order_of_the_log() {
    let server = Server::start("").await;
    for n in (0..30).rev() {
        server.ingest("prod", &[read("user-x", 3, n)]).await;
    }
    import(&server, &[read("user-y", 2, 0)]).await;
    server.wait_for_count("cluster:prod", 31).await;
    let (mut cursor, mut users) = (String::new(), Vec::new());
    let mut times: Vec<String> = Vec::new();
    loop {
        let path = format!("/api/v1/export?q=cluster:prod&limit=7&cursor={cursor}");
        let response = server.get(&path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let next =
            response.headers().get("watchbell-next-cursor").map(|next| next.to_str().unwrap().to_owned());
        for line in response.text().await.unwrap().lines() {
            let hit: Value = serde_json::from_str(line).unwrap();
            assert_eq!(hit["history"], hit["event"]["user"]["username"] == "user-y");
            assert!(hit["received_at"].as_str().unwrap() > "2020");
            times.push(hit["@timestamp"].as_str().unwrap().to_owned());
            users.push(hit["event"]["user"]["username"].clone());
        }
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!((times.len(), &users[30]), (31, &json!("user-y")));
    assert!(times.is_sorted_by(|a, b| a > b), "{times:?}");
    let refused = server.http.get(format!("{}/api/v1/export", server.base)).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    for (query, code) in
        [("limit=10001", "bad_parameter"), ("cursor=x", "bad_cursor"), ("q=verb:", "bad_query")]
    {
        let answer = server.get(&format!("/api/v1/export?{query}")).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], code, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_what_became_of_its_rules() {
    let rules = tempfile::tempdir().unwrap();
    std::fs::write(rules.path().join("rules.yml"), RULES).unwrap();
    let server =
        Server::start(&format!("rules: {{builtin: false, directory: {}}}", rules.path().display())).await;
    let mut starved = event("s-1");
    starved["verb"] = json!("create");
    starved["stageTimestamp"] = read("user-a", 3, 2)["stageTimestamp"].clone();
    server.ingest("prod", &[read("user-a", 3, 0), read("user-a", 3, 1), starved]).await;
    let listed = || -> Vec<Value> {
        let output = server.run(&["rules", "list", "--format", "json", "--server", &server.base]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let counts = |rules: &[Value]| -> Vec<Value> {
        rules.iter().map(|rule| json!([rule["id"], rule["matches"], rule["not_evaluable"]])).collect()
    };
    let expect = [json!(["settings-read", 2, 0]), json!(["many-reads", 0, 0]), json!(["body", 0, 1])];
    wait_until("what was counted", async || counts(&listed()) == expect).await;
    let rules = listed();
    assert_eq!((&rules[0]["silent"], &rules[0]["correlation"]), (&json!(true), &Value::Null));
    assert_eq!(
        (&rules[1]["correlation"]["groups"], &rules[1]["correlation"]["evicted_groups"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(rules[2]["needs"], json!(["request"]));
    let table = server.run(&["rules", "list", "--server", &server.base]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("NOT EVALUABLE") && text.contains("Settings read again and again"), "{text}");
    let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "watchbell_rule_matches_total{rule=\"settings-read\"} 2",
        "watchbell_rule_not_evaluable_events_total{rule=\"body\"} 1",
        "watchbell_correlation_groups{rule=\"many-reads\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert_eq!(server.run(&["rules", "list", "x.yml", "--server", &server.base]).status.code(), Some(2));
}

#[test]
fn named_lists_are_set_for_every_tool() {
    let dir = tempfile::tempdir().unwrap();
    let rule =
        "title: Stranger\nid: stranger\ndetection: {s: {user.username|expand: '%mine%'}, condition: s}\n";
    std::fs::write(dir.path().join("r.yml"), rule).unwrap();
    std::fs::write(dir.path().join("r.samples.yml"), "match: [{user: {username: eve}}]\n").unwrap();
    std::fs::write(dir.path().join("e.json"), r#"{"user":{"username":"eve"}}"#).unwrap();
    for args in [
        &["rules", "check", "r.yml"][..],
        &["rules", "lint", "r.yml"],
        &["rules", "test", "r.yml"],
        &["rules", "list", "r.yml"],
        &["rules", "coverage", "r.yml"],
        &["rules", "explain", "r.yml", "e.json"],
        &["rules", "eval", "--rules", "r.yml", "--events", "e.json", "--strict"],
        &["policy", "generate", "--rules", "r.yml"],
    ] {
        let without = run(args, dir.path());
        assert_eq!(without.status.code(), Some(1), "{args:?}: {without:?}");
        let with = run(&[args, &["--set", "mine=eve,mallory"]].concat(), dir.path());
        assert_eq!(with.status.code(), Some(0), "{args:?}: {with:?}");
    }
}

#[test]
fn the_correlation_suite_is_run_with_the_samples() {
    let dir = tempfile::tempdir().unwrap();
    let case = "title: Two are many\nrules: |\n  title: A\n  name: a\n  detection: {s: {x: 1}, condition: s}\n  ---\n  \
        title: B\n  name: b\n  correlation: {type: event_count, rules: [a], timespan: 1m, condition: {gte: 2}}\n\
        events:\n  - {at: 2026-01-31T08:00:00Z, event: {x: 1}}\n  - {at: 2026-01-31T08:00:01Z, event: {x: 1}}\n\
        expect:\n  - {rule: b, at: 2026-01-31T08:00:01Z, value: 2, events: [0, 1]}\n";
    let check = |text: &str, code: i32, expect: &[&str]| {
        std::fs::write(dir.path().join("case.yml"), text).unwrap();
        let output = run(&["rules", "test", "."], dir.path());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        expect.iter().for_each(|expect| assert!(text.contains(expect), "{expect} is not in {text}"));
    };
    check(case, 0, &["0 rules, 0 samples, 1 cases of the correlation suite, 0 failures"]);
    let wrong = case.replace("value: 2", "value: 3");
    check(&wrong, 1, &["--- ./case.yml:1\n+++ ", "- b at 2026-01-31T08:00:01", "value 3", "  Two are many"]);
    check(
        &case.replace("x: 1}, condition", "x|rot13: 1}, condition"),
        1,
        &["./case.yml:1: a rule of the case"],
    );
    let shipped = run(&["rules", "test"], dir.path());
    let text = String::from_utf8(shipped.stderr).unwrap();
    let count =
        text.split(", ").find_map(|part| part.strip_suffix(" cases of the correlation suite")).unwrap();
    assert!(shipped.status.success() && count.parse::<u32>().unwrap() >= 40, "{text}");
}
