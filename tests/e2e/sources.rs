//! Who sends what, and quotas of their own for some clusters.

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, event, event_list};

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_told_apart_with_what_was_taken_and_refused() {
    let config = "ingest:\n  max_body: 64KiB\n  quota_burst: 64KiB\n  quota_per_second: 1KiB\n  quotas:\n    \
                  large: {burst: 1MiB}\n";
    let server = Server::start(config).await;
    let padded = |name: String| {
        let mut event = event(&name);
        event["annotations"]["padding"] = json!("x".repeat(40 << 10));
        event_list(&[event, json!(7)]).to_string()
    };
    for (cluster, expect) in [("usual", [200, 429]), ("large", [200, 200])] {
        for (number, status) in expect.into_iter().enumerate() {
            let response = server.post(cluster, padded(format!("{cluster}-{number}"))).await;
            assert_eq!(response.status(), status, "{cluster} {number}");
        }
    }
    let sources = server.json("/api/v1/sources").await;
    let find = |cluster: &str| -> Value {
        let mut sources = sources["sources"].as_array().unwrap().iter();
        sources.find(|source| source["cluster"] == cluster).unwrap().clone()
    };
    let (usual, large) = (find("usual"), find("large"));
    for (source, field, expect) in [
        (&usual, "requests", json!(2)),
        (&usual, "stored", json!(1)),
        (&usual, "refused", json!({ "quota": 1 })),
        (&usual, "peer", json!("127.0.0.1")),
        (&large, "stored", json!(2)),
        (&large, "quarantined", json!(2)),
        (&large, "refused", json!({})),
        (&large, "route", json!("audit")),
    ] {
        assert_eq!(source[field], expect, "{field} in {source}");
    }
    assert!(large["bytes_per_second"].as_f64().unwrap() > 1_000.0, "{large}");
    let table = String::from_utf8(server.run(&["sources"]).stdout).unwrap();
    for expect in ["EVENTS/S", "1 quota", "(admin (made at the first start))", "127.0.0.1"] {
        assert!(table.contains(expect), "{expect} is missing in\n{table}");
    }
}

/// A source that holds back bodies half sent gets no more room than its share, and others get theirs.
#[tokio::test]
async fn one_source_does_not_take_all_the_room_for_bodies() {
    use tokio::io::AsyncWriteExt;
    let config = "ingest: {max_body: 1MiB, in_flight: 2MiB, in_flight_per_source: 1MiB}\n";
    let server = Server::start(config).await;
    let address = server.base.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /ingest/audit/greedy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\n",
        server.admin_token()
    );
    // Until the server has read the half, or noticed that a body was given up, it does not count.
    let noticed = || tokio::time::sleep(std::time::Duration::from_millis(100));
    let hold_back = async || {
        let mut held = tokio::net::TcpStream::connect(address).await.unwrap();
        held.write_all(head.as_bytes()).await.unwrap();
        held.write_all(&vec![b' '; 800 << 10]).await.unwrap();
        noticed().await;
        held
    };
    let mut held = hold_back().await;
    let large = |name: &str| {
        let mut event = event(name);
        event["annotations"]["padding"] = json!("x".repeat(400 << 10));
        event.to_string()
    };
    let started = std::time::Instant::now();
    loop {
        let refused = server.post("greedy", large("g-1")).await;
        if refused.status() == 429 {
            assert_eq!(refused.headers()["retry-after"], "1");
            assert!(refused.text().await.unwrap().contains("ingest.in_flight_per_source"));
            break;
        }
        assert!(started.elapsed() < PATIENCE, "what is held back counts");
        // It came before the half, and it was the half that was refused.
        drop(held);
        noticed().await;
        held = hold_back().await;
    }
    assert_eq!(server.post("modest", large("m-1")).await.status(), 200);
    drop(held);
    let started = std::time::Instant::now();
    while server.post("greedy", large("g-2")).await.status() != 200 {
        assert!(started.elapsed() < PATIENCE, "what is given up counts no more");
    }
}

/// What is usual was learned before; then nothing comes any more.
#[tokio::test]
async fn an_audit_feed_that_falls_silent_is_an_alert() {
    let mut server = Server::start("ingest: {feed_silence: 1s}\n").await;
    server.stop();
    let usual = json!({ "prod": { "usual": 100.0, "learned": 240, "silent_since": null } });
    std::fs::write(server.data_dir().join("feeds.json"), usual.to_string()).unwrap();
    server.restart().await;
    let is_told = |alerts: &[Value]| {
        alerts
            .iter()
            .any(|alert| alert["title"] == "Audit feed fell silent" && alert.to_string().contains("prod"))
    };
    server.wait_for_alerts("the silence", is_told).await;
    server.wait_for_count("objectRef.resource:feeds AND responseStatus.code:503", 1).await;
}
