//! What could not be read: listed, shown, and read after all.

use serde_json::Value;

use crate::support::{Server, event, event_list, long_event};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_too_long_is_read_once_the_limit_is_raised() {
    let mut server = Server::start("ingest: {max_event: 64KiB}\n").await;
    let good = event_list(&[event("q-1"), long_event("q-2")]).to_string();
    server.post("prod", good).await;
    server.post("prod", "hello\u{7}").await;
    let check = |server: &Server, args: &[&str], code: i32, expect: &[&str]| {
        let output = server.run(&[&["quarantine"], args].concat());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        expect.iter().for_each(|expect| assert!(text.contains(expect), "{expect} is not in {text}"));
        text
    };
    let list = check(&server, &["list", "--limit", "1"], 0, &["open", "not JSON", "more: --cursor "]);
    assert!(!list.contains("hello"), "{list}");
    check(
        &server,
        &["retry", "--all"],
        1,
        &["longer than 65536 bytes", "not JSON", "0 of 2 entries are done"],
    );

    server.configure("");
    server.restart().await;
    let done = ["1 events stored, 0 were there already", "still cannot be read", "1 of 2 entries are done"];
    check(&server, &["retry", "--all"], 1, &done);
    server.wait_for_count("cluster:prod", 2).await;
    let lines = server.run(&["quarantine", "list", "--format", "json"]);
    let entries: Vec<Value> = String::from_utf8(lines.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let key = |index: usize| entries[index]["key"].as_str().unwrap();
    assert!(entries[1]["done_at"].is_string() && entries[0]["done_at"].is_null(), "{entries:?}");
    check(&server, &["retry", key(1)], 1, &["409", "it was read at"]);
    check(&server, &["show", key(0)], 0, &["hello\u{7}", "not JSON"]);
    check(&server, &["show", "ffff"], 2, &["a key is 32 hexadecimal digits"]);
    // Tried again and again, also after another start.
    check(&server, &["retry", "--all"], 1, &["0 of 1 entries are done"]);
    server.restart().await;
    check(&server, &["retry", "--all"], 1, &["0 of 1 entries are done"]);
    server.wait_for_count("cluster:watchbell AND objectRef.resource:quarantine", 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_sent_is_tried_again_where_it_says_enough() {
    let server = Server::start("").await;
    let otlp = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[7]}]}]}"#;
    for (path, body, status) in [
        ("/_bulk", "no action", 400),
        ("/_bulk", "{\"index\":{\"_index\":\"test\"}}\na line after all\n", 200),
        ("/v1/logs", otlp, 200),
        ("/v1/logs", "[", 400),
    ] {
        let request = server.http.post(format!("{}{path}", server.base)).bearer_auth(server.admin_token());
        let request = match path {
            "/v1/logs" => request.header("watchbell-cluster", "prod"),
            _ => request,
        };
        let sent = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(sent.status(), status, "{body}");
    }
    let retried = server.run(&["quarantine", "retry", "--all"]);
    let text = String::from_utf8([retried.stdout, retried.stderr].concat()).unwrap();
    for expect in [
        "1 events stored, 0 were there already",
        "it came through \"otlp\" with something that is not kept",
        "it came through \"bulk\" with something that is not kept",
        "still cannot be read",
        "1 of 4 entries are done",
    ] {
        assert!(text.contains(expect), "{expect} is not in {text}");
    }
    server.wait_for_count("cluster:test AND message:\"a line after all\"", 1).await;
}
