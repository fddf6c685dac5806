//! Elasticsearch's bulk protocol, as log agents speak it.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::Server;

fn bulk(server: &Server, path: &str, token: &str, body: &str) -> RequestBuilder {
    let request = server.http.post(format!("{}{path}", server.base)).basic_auth("elastic", Some(token));
    request.header("content-type", "application/x-ndjson").body(body.to_owned())
}

async fn sent(request: RequestBuilder) -> (StatusCode, String) {
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

const DOCUMENTS: &str = concat!(
    r#"{"create":{"_index":"fluent-bit","_id":"a-1"}}"#,
    "\n",
    r#"{"@timestamp":"2026-01-31T08:15:00.123Z","log":"Failed password for root from 203.0.113.9 port 22 ssh2","stream":"stderr","kubernetes":{"namespace_name":"shop","pod_name":"bastion-0"}}"#,
    "\n",
    r#"{"create":{"_index":"fluent-bit"}}"#,
    "\n",
    r#"{"@timestamp":"2026-01-31T08:15:00.124Z","message":"ready to serve"}"#,
    "\n",
);

#[tokio::test]
async fn documents_are_stored_once_and_found() {
    let server = Server::start("").await;
    let token = server.token(&["prod"]).await;
    let (status, answer) = sent(bulk(&server, "/_bulk", &token, DOCUMENTS)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.starts_with(r#"{"errors":false,"items":[{"create":{"#), "{answer}");
    server.wait_for_count("source:log AND cluster:prod", 2).await;
    for query in ["event.dataset:sshd AND orchestrator.namespace:shop", "message:serve"] {
        assert_eq!(server.count(query).await, 1, "{query}");
    }
    // what has an id is known again, and created as far as its sender is told
    let (status, answer) = sent(bulk(&server, "/elasticsearch/logs/_bulk", &token, DOCUMENTS)).await;
    assert_eq!((status, answer.matches("\"status\":201").count()), (StatusCode::OK, 2));
    server.wait_for_count("source:log", 3).await;
}

#[tokio::test]
async fn each_item_is_answered_and_a_request_is_never_half_refused() {
    let config = "ingest: {max_body: 8KiB, in_flight: 8KiB, quota_per_second: 1KiB, quota_burst: 8KiB}\n";
    let server = Server::start(config).await;
    let token = server.token(&["prod", "test"]).await;
    let body = concat!(
        "{\"index\":{\"_index\":\"test\"}}\n{\"message\":\"one\"}\n",
        "{\"delete\":{\"_index\":\"test\",\"_id\":\"1\"}}\n",
        "{\"index\":{\"_index\":\"elsewhere\"}}\n{\"message\":\"two\"}\n",
        "{\"index\":{}}\nnothing\n",
    );
    let (status, answer) = sent(bulk(&server, "/prod/_bulk", &token, body)).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["errors"]), (StatusCode::OK, &json!(true)), "{answer}");
    let statuses: Vec<_> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let (action, item) = item.as_object().unwrap().iter().next().unwrap();
            (action.as_str(), item["status"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(statuses, [("index", 201), ("delete", 400), ("index", 403), ("index", 400)]);
    let mut stored = 1;
    loop {
        let (status, answer) = sent(bulk(&server, "/prod/_bulk", &token, body)).await;
        if status == 429 {
            assert!(!answer.contains("items"), "{answer}");
            break;
        }
        stored += 1;
        assert!(stored < 100, "the quota is never reached");
    }
    let (status, _) = sent(bulk(&server, "/prod/_bulk", &token, &body.repeat(60))).await;
    assert_eq!(status, 413);
    let (status, _) = sent(bulk(&server, "/prod/_bulk", "wb_1_a", body)).await;
    assert_eq!(status, 401);
    server.wait_for_count("source:log AND cluster:test AND message:one", stored).await;
}

#[tokio::test]
async fn agents_find_what_they_ask_for_first() {
    let server = Server::start("").await;
    let token = server.token(&["prod"]).await;
    for (method, path, field, expect) in [
        (Method::GET, "/", "/version/number", json!("8.19.0")),
        (Method::GET, "/elasticsearch/", "/version/number", json!("8.19.0")),
        (Method::GET, "/elasticsearch", "/version/number", json!("8.19.0")),
        (Method::GET, "/_cluster/health?timeout=1s", "/status", json!("green")),
        (Method::GET, "/_license", "/license/status", json!("active")),
        (Method::GET, "/_nodes/http", "/nodes", json!({})),
        (Method::GET, "/_ilm/policy/filebeat", "/filebeat", json!({})),
        (Method::PUT, "/elasticsearch/_index_template/logs", "/acknowledged", json!(true)),
        (Method::HEAD, "/", "", Value::Null),
        (Method::HEAD, "/filebeat-8.15.0", "", Value::Null),
    ] {
        let request = server.http.request(method.clone(), format!("{}{path}", server.base));
        let response = request.bearer_auth(&token).send().await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["x-elastic-product"]),
            (StatusCode::OK, &"Elasticsearch".parse().unwrap()),
            "{method} {path}"
        );
        if method != Method::HEAD {
            assert_eq!(response.json::<Value>().await.unwrap().pointer(field), Some(&expect), "{path}");
        }
    }
    let (status, _) = sent(server.get("/nothing-here")).await;
    assert_eq!(status, 404);
    let (status, _) = sent(server.http.get(&server.base)).await;
    assert_eq!(status, 401);
}
