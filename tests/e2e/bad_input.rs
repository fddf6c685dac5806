//! Each kind of bad input: what is answered, what the message says, and what was kept.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{Server, event, event_list, run, wait_until};

const LIMITS: &str = "ingest: {max_body: 1MiB, max_event: 256KiB}\n";

struct Case {
    name: &'static str,
    body: Vec<u8>,
    encoding: &'static str,
    status: u16,
    /// Part of the message, or for 200 the expected counts.
    expect: &'static str,
    /// Events of this case that must be found afterwards.
    kept: u64,
    quarantined: u64,
}

fn case(name: &'static str, body: impl Into<Vec<u8>>, status: u16, expect: &'static str) -> Case {
    Case { name, body: body.into(), encoding: "identity", status, expect, kept: 0, quarantined: 0 }
}

fn cases() -> Vec<Case> {
    let good = |name: &str| event(&format!("good-{name}")).to_string();
    let list = |items: &str| {
        format!("{{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"items\":[{items}]}}")
    };
    let mut huge = event("huge");
    huge["requestObject"] = json!({ "blob": "x".repeat(2 << 20) });
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let zstd_bomb = zstd(&vec![b' '; 64 << 20], 20);
    let wide = zstd(&vec![b' '; 1 << 10], 27);
    let pod = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}"#;
    vec![
        Case { quarantined: 1, ..case("not JSON", "hello", 400, "not JSON") },
        Case { quarantined: 1, ..case("wrong kind", pod, 400, "is not an audit.k8s.io") },
        Case { quarantined: 1, ..case("no event at all", "{}", 400, "not an audit event") },
        case("empty body", "", 400, "empty"),
        case("huge", huge.to_string(), 413, "larger than 1048576 bytes (ingest.max_body)"),
        Case { encoding: "gzip", ..case("bomb", bomb, 413, "1048576") },
        Case { encoding: "zstd", ..case("zstd bomb", zstd_bomb, 413, "1048576") },
        Case { encoding: "zstd", quarantined: 1, ..case("not zstd", "hello there", 400, "zstd") },
        Case { encoding: "zstd", quarantined: 1, ..case("zstd window", wide, 400, "at most 8 MiB") },
        Case { encoding: "zstd", kept: 1, ..case("zstd", zstd(good("zs").as_bytes(), 20), 200, "1/0/0") },
        Case { encoding: "br", ..case("unknown encoding", "x", 415, "known: gzip, zstd, identity") },
        Case { encoding: "gzip", quarantined: 1, ..case("not gzip", "hello", 400, "gzip") },
        Case {
            kept: 2,
            quarantined: 1,
            ..case("bad between good", list(&format!("{},{pod},{}", good("b1"), good("b2"))), 200, "2/0/1")
        },
        Case {
            kept: 1,
            quarantined: 1,
            ..case("a number between", list(&format!("7,{}", good("n1"))), 200, "1/0/1")
        },
        Case { kept: 1, ..case("byte-order mark", format!("\u{feff}{}", good("bom")), 200, "1/0/0") },
        Case { kept: 2, ..case("array", format!("[{},{}]", good("a1"), good("a2")), 200, "2/0/0") },
        Case { kept: 2, ..case("lines", format!("{}\n{}\n", good("l1"), good("l2")), 200, "2/0/0") },
        Case { encoding: "gzip", kept: 1, ..case("gzip", gzip(good("gz").as_bytes()), 200, "1/0/0") },
        Case {
            kept: 1,
            quarantined: 1,
            ..case("cut off", format!("{}\n{{\"auditID\":", good("cut")), 200, "1/0/1")
        },
    ]
}

#[tokio::test]
async fn bad_bodies_are_answered_clearly_and_lose_nothing_else() {
    let server = Server::start(LIMITS).await;
    for case in cases() {
        let cluster = case.name.replace(' ', "-");
        let before = quarantined(&server).await;
        let mut request = server
            .http
            .post(format!("{}/ingest/audit/{cluster}", server.base))
            .bearer_auth(server.admin_token())
            .body(case.body);
        if case.encoding != "identity" {
            request = request.header("content-encoding", case.encoding);
        }
        let response = request.send().await.unwrap();
        let (status, answer) = (response.status().as_u16(), response.text().await.unwrap());
        assert_eq!(status, case.status, "{}: {answer}", case.name);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        if status == 200 {
            let counts = format!("{}/{}/{}", answer["stored"], answer["duplicates"], answer["rejected"]);
            assert_eq!(counts, case.expect, "{}", case.name);
        } else {
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains(case.expect), "{}: {message}", case.name);
        }
        server.wait_for_count(&format!("cluster:{cluster}"), case.kept).await;
        assert_eq!(quarantined(&server).await - before, case.quarantined, "{}", case.name);
    }
    // Afterwards it works as before.
    server.ingest("after", &[event("after")]).await;
    server.wait_for_count("cluster:after", 1).await;
}

#[tokio::test]
async fn deep_nesting_neither_crashes_nor_hides_the_event() {
    let server = Server::start("").await;
    let deep = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let body = event("deep")
        .to_string()
        .replace("\"verb\":\"get\"", &format!("\"verb\":\"get\",\"requestObject\":{deep}"));
    let response = server.post("prod", body).await;
    assert_eq!(response.status(), 200);
    server.wait_for_count("auditID:deep AND verb:get", 1).await;
}

#[tokio::test]
async fn the_same_bad_body_is_quarantined_once() {
    let server = Server::start("").await;
    for _ in 0..5 {
        assert_eq!(server.post("prod", "no audit event").await.status(), 400);
    }
    assert_eq!(quarantined(&server).await, 1);
}

#[tokio::test]
async fn only_the_right_token_opens_a_door() {
    let server = Server::start("").await;
    let make = |name: &str, scope: &str| {
        let made = server.run(&["token", "create", name, "--scope", scope]);
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let (prod, reader) = (make("prod", "ingest:prod"), make("reader", "read"));
    let body = event_list(&[event("t-1")]).to_string();
    for (token, path, status, message) in [
        (None, "/ingest/audit/prod", 401, "no bearer token"),
        (Some("wb_00_guess"), "/ingest/audit/prod", 401, "unknown or revoked"),
        (Some(reader.as_str()), "/ingest/audit/prod", 403, "needs the scope ingest:prod"),
        (Some(prod.as_str()), "/ingest/audit/test", 403, "needs the scope ingest:test"),
        (Some(prod.as_str()), "/ingest/audit/a%2Fb", 400, "cluster name"),
        (Some(prod.as_str()), "/ingest/audit/%ff", 400, "not UTF-8"),
        (Some(prod.as_str()), "/ingest/audit/prod", 200, ""),
    ] {
        let mut request = server.http.post(format!("{}{path}", server.base)).body(body.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path} with {token:?}");
        let text = response.text().await.unwrap();
        assert!(text.contains(message), "{path}: {text}");
    }
    for (token, path, status) in [
        (&prod, "/api/v1/search?q=*", 403),
        (&reader, "/api/v1/search?q=*", 200),
        (&reader, "/api/v1/alerts", 200),
        (&reader, "/api/v1/quarantine", 403),
        (&reader, "/metrics", 200),
    ] {
        let response =
            server.http.get(format!("{}{path}", server.base)).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let id = prod.split('_').nth(1).unwrap();
    assert!(server.run(&["token", "revoke", id]).status.success());
    wait_until("a revoked token is refused", async || {
        let path = format!("{}/ingest/audit/prod", server.base);
        let refused = server.http.post(path).bearer_auth(&prod).body(body.clone());
        refused.send().await.unwrap().status() == 401
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start("").await;
    let address = server.base.strip_prefix("http://").unwrap();
    for said in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nX: "] {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        connection.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed =
            tokio::time::timeout(std::time::Duration::from_secs(20), connection.read_to_end(&mut answer));
        assert!(closed.await.is_ok(), "{said:?} kept the connection open");
    }
}

/// A client that sends its whole body before it reads must see the answer, not a broken connection.
#[tokio::test]
async fn a_refused_client_may_finish_sending_and_reads_why() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const BODY_BYTES: usize = 64 << 20;
    let server = Server::start(LIMITS).await;
    let address = server.base.strip_prefix("http://").unwrap();
    for (token, expect) in [(server.admin_token(), "413"), ("wb_00_guess".to_owned(), "401")] {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /ingest/audit/prod HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {BODY_BYTES}\r\nConnection: close\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&vec![b' '; BODY_BYTES]).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expect} ")), "{answer}");
    }
}

#[tokio::test]
async fn bad_queries_are_told_where_and_what() {
    let server = Server::start("").await;
    for (params, expect) in [
        ("q=verb:", "character"),
        ("q=(verb:get", "character"),
        ("q=responseStatus.code:%5B1+TO", "character"),
        ("q=sourceIPs:10.0.0.0/99", "a block of addresses"),
        ("q=*&limit=0", "limit must be a whole number from 1 to 1000"),
        ("q=*&from=soon", "from must be"),
        ("q=*&size=10", "unknown parameter"),
        ("q=*&cursor=AAAA", "cursor"),
    ] {
        let response = server.get(&format!("/api/v1/search?{params}")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{params}");
        let text = response.text().await.unwrap();
        assert!(text.contains(expect), "{params}: {text}");
    }
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("w.yaml"), "lisen: 1\ningest:\n  max_body: big\n").unwrap();
    let output = run(&["serve", "--config", "w.yaml", "--data-dir", "data"], dir.path());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for expect in ["w.yaml:1: unknown setting \"lisen\"", "w.yaml:3: ingest.max_body must be a size"] {
        assert!(stderr.contains(expect), "{stderr}");
    }
    let open = run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", "data"], dir.path());
    assert!(String::from_utf8(open.stderr).unwrap().contains("refusing to serve plain HTTP"));
}

async fn quarantined(server: &Server) -> u64 {
    server.json("/api/v1/quarantine").await["entries"].as_array().unwrap().len() as u64
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As a stream of unknown length, so that the window is as large as asked for.
fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
