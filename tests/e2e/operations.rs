//! What operators rely on: HTTPS, quotas, rules that change while events flow, metrics without secrets.

use std::time::Duration;

use serde_json::json;

use crate::support::{BINARY, Server, event, event_list, free_port, wait_until};

#[tokio::test]
async fn https_serves_with_the_configured_certificate_and_both_protocols() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let signed =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.path().join("tls.crt"), signed.cert.pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), signed.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.path().join("w.yaml"), "tls: {cert_file: tls.crt, key_file: tls.key}\n").unwrap();
    let port = free_port();
    let mut child = std::process::Command::new(BINARY)
        .args(["serve", "--config", "w.yaml", "--data-dir", "data", "--listen", &format!("127.0.0.1:{port}")])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let root = reqwest::Certificate::from_pem(signed.cert.pem().as_bytes()).unwrap();
    let client = |http2: bool| {
        let builder = reqwest::Client::builder().tls_certs_only([root.clone()]);
        if http2 { builder } else { builder.http1_only() }.build().unwrap()
    };
    let url = format!("https://127.0.0.1:{port}/readyz");
    for (http2, expect) in [(true, reqwest::Version::HTTP_2), (false, reqwest::Version::HTTP_11)] {
        let mut answer = client(http2).get(&url).send().await;
        for _ in 0..200 {
            if answer.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = client(http2).get(&url).send().await;
        }
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, expect));
    }
    let plain = reqwest::Client::new().get(format!("http://127.0.0.1:{port}/readyz")).send().await;
    assert!(plain.is_err(), "plain HTTP must not be answered");
    let _ = child.kill();
    let _ = child.wait();
}

#[tokio::test]
async fn a_source_over_its_quota_waits_and_others_do_not() {
    let config = "ingest: {max_body: 1MiB, max_event: 512KiB, quota_per_second: 64KiB, quota_burst: 1MiB}\n";
    let server = Server::start(config).await;
    let large = |name: &str| {
        let mut event = event(name);
        event["annotations"]["padding"] = json!("x".repeat(400 << 10));
        event_list(&[event]).to_string()
    };
    let mut statuses = Vec::new();
    for n in 0..4 {
        let response = server.post("noisy", large(&format!("n-{n}"))).await;
        statuses.push(response.status().as_u16());
        if response.status() == 429 {
            let wait: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=20).contains(&wait), "{wait}");
        }
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(server.post("quiet", large("q-1")).await.status(), 200);
}

#[tokio::test]
async fn rules_change_while_events_flow_and_a_broken_change_is_refused() {
    let rules = tempfile::tempdir().unwrap();
    let rule = |title: &str, condition: &str| {
        let text = format!(
            "title: {title}\nid: 0a7cf2a7-8a51-4a2e-9a7a-0f4f1d1c5b11\nlogsource: {{product: kubernetes}}\nlevel: high\ndetection:\n  selection:\n    userAgent: probe\n  condition: {condition}\n"
        );
        std::fs::write(rules.path().join("mine.yml"), text).unwrap();
    };
    rule("First", "selection");
    let config = format!("rules: {{directory: '{}', reload_interval: 200ms}}\n", rules.path().display());
    let server = Server::start(&config).await;
    let probe = |user: &str| {
        let mut event = event(&format!("probe-{user}"));
        event["userAgent"] = json!("probe");
        event["user"]["username"] = json!(user);
        event
    };
    let has = |title: &'static str| {
        move |alerts: &[serde_json::Value]| alerts.iter().any(|alert| alert["title"] == title)
    };
    server.ingest("prod", &[probe("a")]).await;
    server.wait_for_alerts("the first rule", has("First")).await;

    rule("Broken", "selektion");
    server
        .wait_for_count("cluster:watchbell AND objectRef.resource:rules AND responseStatus.code:422", 1)
        .await;
    let overview = server.json("/api/v1/rules").await;
    let problem = &overview["problems"][0];
    assert!(problem["file"].as_str().unwrap().ends_with("mine.yml"), "{problem}");
    assert!(problem["line"].as_u64().unwrap() > 0 && problem["reason"].as_str().is_some(), "{problem}");
    server.ingest("prod", &[probe("b")]).await;
    server
        .wait_for_alerts("the first rule again", |alerts| {
            alerts.iter().any(|alert| alert["title"] == "First" && alert["labels"]["user.name"] == "b")
        })
        .await;

    rule("Second", "selection");
    server
        .wait_for_count("cluster:watchbell AND objectRef.resource:rules AND responseStatus.code:200", 1)
        .await;
    server.ingest("prod", &[probe("c")]).await;
    server.wait_for_alerts("the second rule", has("Second")).await;
}

#[tokio::test]
async fn metrics_tell_the_flow_and_no_secret() {
    let server = Server::start("").await;
    server.ingest("prod", &[event("m-1")]).await;
    server.wait_for_count("cluster:prod", 1).await;
    let refused = server.http.get(format!("{}/metrics", server.base)).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let metrics = async || server.get("/metrics").send().await.unwrap().text().await.unwrap();
    let names = [
        "watchbell_ingest_events_total",
        "watchbell_index_events_total",
        "watchbell_detect_events_total",
        "watchbell_log_lag_events",
        "watchbell_ingest_answer_seconds_bucket",
        "watchbell_journal_bytes",
    ];
    for name in names {
        wait_until(name, async || metrics().await.contains(name)).await;
    }
    let text = metrics().await;
    assert!(!text.contains(&server.admin_token()));
    assert!(!server.log().contains(&server.admin_token()));
}
