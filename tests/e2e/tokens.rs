//! Tokens by HTTP: made, used, listed and revoked, beside the command line.

use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_used_and_revoked_over_http() {
    let server = Server::start("").await;
    let tokens = format!("{}/api/v1/tokens", server.base);
    let admin = server.admin_token();
    let create = |body: Value| {
        let request = server.http.post(&tokens).bearer_auth(&admin);
        async move { request.body(body.to_string()).send().await.unwrap() }
    };
    let made = create(json!({ "name": "grafana", "scopes": ["read"] })).await;
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    let (id, secret) = (made["token"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let status = |path: &'static str| {
        let request = server.http.get(format!("{}{path}", server.base)).bearer_auth(secret);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(status("/api/v1/search").await, 200);
    assert_eq!(status("/api/v1/tokens").await, 403);

    let listed = server.json("/api/v1/tokens").await.to_string();
    assert!(listed.contains("grafana") && !listed.contains(&secret[20..]), "{listed}");
    let by_command = server.run(&["token", "list", "--format", "json"]);
    assert!(String::from_utf8(by_command.stdout).unwrap().contains(id));

    for _ in 0..2 {
        let revoked = server.http.delete(format!("{tokens}/{id}")).bearer_auth(&admin).send().await.unwrap();
        assert_eq!(revoked.status(), 200);
        assert_eq!(status("/api/v1/search").await, 401);
    }
    let unknown = server.http.delete(format!("{tokens}/ffff")).bearer_auth(&admin).send().await.unwrap();
    assert_eq!(unknown.status(), 404);

    for (body, expect) in [
        (json!({ "name": "x" }), "scopes"),
        (json!({ "name": "x", "scopes": ["read"], "admin": true }), "admin"),
        (json!({ "name": "", "scopes": ["read"] }), "the name of a token"),
        (json!({ "name": "x", "scopes": ["ingest:a/b"] }), "a cluster name"),
    ] {
        let refused = create(body).await;
        assert_eq!(refused.status(), 400);
        assert!(refused.text().await.unwrap().contains(expect), "{expect}");
    }
    let large = create(json!({ "name": "x".repeat(70_000), "scopes": ["read"] })).await;
    assert_eq!(large.status(), 413);

    // Who did it is on record, as is what the command line does.
    let admin_id = admin.split('_').nth(1).unwrap();
    let actor = format!("cluster:watchbell AND user.username:watchbell\\:token\\:{admin_id}");
    server.wait_for_count(&format!("{actor} AND verb:create AND objectRef.resource:tokens"), 1).await;
    server.wait_for_count(&format!("{actor} AND verb:delete AND objectRef.name:{id}"), 2).await;
    server.run(&["token", "create", "by-command", "--scope", "read"]);
    server.wait_for_count("user.username:watchbell\\:operator AND objectRef.resource:tokens", 1).await;
    assert!(!server.log().contains(&secret[20..]));
}

#[tokio::test]
async fn what_is_not_possible_at_a_path_is_answered_in_the_same_form() {
    let server = Server::start("").await;
    let response = server.http.put(format!("{}/api/v1/tokens", server.base)).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert!(response.headers()["allow"].to_str().unwrap().contains("POST"));
    assert!(response.text().await.unwrap().contains("method_not_allowed"));
}
