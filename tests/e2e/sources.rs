//! Who sends what, and quotas of their own for some clusters.

use serde_json::{Value, json};

use crate::support::{Server, event, event_list};

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
