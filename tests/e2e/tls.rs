//! HTTPS with client certificates, and certificates that change while the server runs.

use reqwest::{Client, StatusCode, Version};

use crate::pki::Authority;
use crate::support::{Server, event, wait_until};

const CLUSTERS: &str = "  client_clusters: {prod-api: prod, 'spiffe://example.org/edge': edge}\n";

async fn post(server: &Server, client: &Client, cluster: &str) -> (StatusCode, String) {
    let url = format!("{}/ingest/audit/{cluster}", server.base);
    let response = client.post(url).body(event(&format!("t-{cluster}")).to_string()).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_client_certificate_sends_for_its_cluster_and_does_nothing_else() {
    let authority = Authority::new();
    let server = Server::start_with("https", &authority.config(CLUSTERS), authority.http(None)).await;
    let prod = authority.client(7, "prod-api", None);
    let edge = authority.client(8, "someone", Some("spiffe://example.org/edge"));
    let nobody = authority.client(9, "nobody", None);
    let prod_message = "certificate CN \\\"prod-api\\\" has ingest:prod";
    for (identity, cluster, status, expect) in [
        (Some(&prod), "prod", 200, "\"stored\":1"),
        (Some(&prod), "edge", 403, prod_message),
        (Some(&edge), "edge", 200, "\"stored\":1"),
        (Some(&nobody), "prod", 401, "CN \\\"nobody\\\") stands for no cluster (tls.client_clusters)"),
        (None, "prod", 401, "no bearer token"),
    ] {
        let client = authority.http(identity.map(String::as_str));
        let (answered, text) = post(&server, &client, cluster).await;
        assert_eq!(answered, status, "{cluster}: {text}");
        assert!(text.contains(expect), "{text}");
    }
    let search = format!("{}/api/v1/search", server.base);
    let client = authority.http(Some(&prod));
    assert_eq!(client.get(&search).send().await.unwrap().status(), 403);
    assert_eq!(client.get(&search).bearer_auth("wb_00_guess").send().await.unwrap().status(), 401);
    assert_eq!(client.get(&search).bearer_auth(server.admin_token()).send().await.unwrap().status(), 200);

    let stranger = Authority::new().client(7, "prod-api", None);
    let refused = authority.http(Some(&stranger)).get(&search).send().await;
    assert!(refused.is_err(), "{refused:?}");
    let told = "refused a connection for its client certificate";
    wait_until("the refusal is in the log", async || server.log().contains(told)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let authority = Authority::new();
    let config = authority.config("  client_auth: required\n  client_clusters: {prod-api: prod}\n");
    let identity = authority.client(7, "prod-api", None);
    let server = Server::start_with("https", &config, authority.http(Some(&identity))).await;
    let bare = authority.http(None).get(format!("{}/healthz", server.base)).send().await;
    assert!(bare.is_err(), "{bare:?}");
    assert_eq!(post(&server, &server.http, "prod").await.0, 200);

    std::fs::write(authority.path("me.pem"), identity).unwrap();
    let (ca, me) = (authority.path("ca.crt"), authority.path("me.pem"));
    let list = ["alerts", "list", "--ca-file", ca.to_str().unwrap()];
    let with = server.run(&[&list[..], &["--client-cert", me.to_str().unwrap()]].concat());
    assert!(with.status.success(), "{with:?}");
    assert!(!server.run(&list).status.success());
}

#[tokio::test]
async fn certificates_change_while_the_server_runs() {
    let authority = Authority::new();
    let config = authority.config(CLUSTERS);
    let kept = authority.client(7, "prod-api", None);
    let server = Server::start_with("https", &config, authority.http(None)).await;
    let (kept, revoked) =
        (authority.http(Some(&kept)), authority.http(Some(&authority.client(8, "prod-api", None))));
    for client in [&kept, &revoked] {
        assert_eq!(post(&server, client, "prod").await.0, 200);
    }
    // A connection that is open already does not outlive the right to it.
    authority.revoke(&[8]);
    wait_until("a revoked certificate to be refused", async || {
        let url = format!("{}/ingest/audit/prod", server.base);
        match revoked.post(url).body(event("r-1").to_string()).send().await {
            Ok(response) => response.status() == 401,
            Err(_) => true,
        }
    })
    .await;
    assert_eq!(post(&server, &kept, "prod").await.0, 200);

    // A key that does not fit is reported, and the old one stays.
    let other = Authority::new();
    let (certificate, key) = other.server();
    std::fs::write(authority.path("tls.crt"), certificate).unwrap();
    let trusts_old = || authority.http(None).get(format!("{}/readyz", server.base)).send();
    wait_until("a broken change to be reported", async || server.log().contains("failed to reload tls"))
        .await;
    assert_eq!(trusts_old().await.unwrap().status(), 200);
    let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "watchbell_tls_reloads_total{outcome=\"refused\"} 1",
        "watchbell_tls_expiry_timestamp_seconds{of=\"server\"}",
        "watchbell_tls_expiry_timestamp_seconds{of=\"client_crl\"} 4070908800",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }

    std::fs::write(authority.path("tls.key"), key).unwrap();
    let trusts_new = other.http(None);
    wait_until("the new certificate", async || {
        trusts_new.get(format!("{}/readyz", server.base)).send().await.is_ok()
    })
    .await;
    assert!(trusts_old().await.is_err());
    let query = "cluster:watchbell AND objectRef.resource:certificates AND responseStatus.code:422";
    server.wait_for_count(query, 1).await;
}

/// Over HTTP/2 the answer comes at once, and the rest of the body is not waited for.
#[tokio::test]
async fn a_refused_body_over_http2_ends_with_the_answer() {
    let authority = Authority::new();
    let server = Server::start_with("https", &authority.config(""), authority.http(None)).await;
    for _ in 0..3 {
        let url = format!("{}/ingest/audit/prod", server.base);
        let request = server.http.post(url).bearer_auth("wb_00_guess").body(vec![b' '; 32 << 20]);
        let response = request.send().await.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 401));
        assert!(response.text().await.unwrap().contains("unauthenticated"));
    }
    assert_eq!(server.get("/api/v1/status").send().await.unwrap().status(), 200);
}
