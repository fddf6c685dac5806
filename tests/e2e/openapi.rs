//! The OpenAPI document holds: every operation of it is asked, and what comes back is what it says. That it
//! describes every route is tested beside the routes.

mod schema;

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use self::schema::{mistakes, resolve};
use crate::sink::Sink;
use crate::support::{Server, cluster_admin_binding, event, event_list, long_event};

struct Described<'a> {
    server: &'a Server,
    document: Value,
    succeeded: BTreeSet<String>,
}

impl Described<'_> {
    /// Sends a request with the admin token, and checks the answer.
    async fn ask(&mut self, operation: &str, path: &str, body: &str, status: u16) -> Value {
        let request = self.request(operation, path).body(body.to_owned());
        self.check(operation, request.send().await.unwrap(), status).await
    }

    fn request(&self, operation: &str, path: &str) -> RequestBuilder {
        let (method, _) = operation.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let request = self.server.http.request(method, format!("{}{path}", self.server.base));
        request.bearer_auth(self.server.admin_token())
    }

    /// Checks an answer against the schema that the operation has for its status.
    async fn check(&mut self, operation: &str, response: Response, status: u16) -> Value {
        let answered = response.status().as_u16();
        if operation.starts_with("HEAD ") {
            let (_, path) = operation.split_once(' ').unwrap();
            let described = &self.document["paths"][path]["head"]["responses"][status.to_string()];
            assert!(answered == status && !described.is_null(), "{operation}: {answered}");
            self.succeeded.extend((status < 300).then(|| operation.to_owned()));
            return Value::Null;
        }
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let retry_after = response.headers().contains_key("retry-after");
        let text = response.text().await.unwrap();
        assert_eq!(answered, status, "{operation}: {text}");
        let (method, path) = operation.split_once(' ').unwrap();
        let described = &self.document["paths"][path][method.to_lowercase()]["responses"][status.to_string()];
        assert!(!described.is_null(), "{operation}: the status {status} is not described");
        let described = resolve(&self.document, described);
        let media = content_type.split(';').next().unwrap();
        let schema = &described["content"][media]["schema"];
        assert!(!schema.is_null(), "{operation}: {media} is not described for {status}");
        let value = match media {
            "application/json" => serde_json::from_str(&text).unwrap(),
            _ => Value::from(text),
        };
        let mistakes = mistakes(&self.document, schema, &value);
        assert!(mistakes.is_empty(), "{operation} {status}: {mistakes:#?}");
        assert_eq!(retry_after, !described["headers"]["Retry-After"].is_null(), "{operation} {status}");
        if status < 300 {
            self.succeeded.insert(operation.to_owned());
        }
        value
    }
}

/// Asks for a path that is an operation, and checks the answer.
pub(crate) async fn ask(server: &Server, path: &str) -> Value {
    let document = document(server).await;
    let mut api = Described { server, document, succeeded: BTreeSet::new() };
    api.ask(&format!("GET {path}"), path, "", 200).await
}

async fn document(server: &Server) -> Value {
    let request = server.http.get(format!("{}/api/v1/openapi.json", server.base));
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn every_operation_answers_as_the_document_says() {
    let sink = Sink::start().await;
    let rules = tempfile::tempdir().unwrap();
    std::fs::write(rules.path().join("broken.yml"), "title: [").unwrap();
    let config = format!("{}rules: {{directory: '{}'}}\n", sink.config(), rules.path().display());
    let mut server = Server::start("ingest: {max_event: 64KiB}\n").await;
    server.post("prod", event_list(&[long_event("o-0")]).to_string()).await;
    server.configure(&config);
    server.restart().await;
    let document = document(&server).await;
    check_examples(&document, &document);
    let mut api = Described { server: &server, document, succeeded: BTreeSet::new() };

    let ingest = "POST /ingest/audit/{cluster}";
    let events = event_list(&[event("o-1"), cluster_admin_binding("o-2", "mallory"), json!(7)]).to_string();
    api.ask(ingest, "/ingest/audit/prod?timeout=30s", &events, 200).await;
    api.ask(ingest, "/ingest/audit/prod", "hello", 400).await;
    api.ask(ingest, "/ingest/audit/prod?historic=true", &events, 400).await;
    server.wait_for_count("cluster:prod", 2).await;
    server.wait_for_alerts("an alert", |alerts| !alerts.is_empty()).await;

    let hit = json!({ "$ref": "#/components/schemas/Hit" });
    let found = api.ask("GET /api/v1/search", "/api/v1/search?limit=1", "", 200).await;
    api.ask("GET /api/v1/search", "/api/v1/search?q=verb:", "", 400).await;
    let lines = api.ask("GET /api/v1/export", "/api/v1/export?q=cluster:prod", "", 200).await;
    for line in lines.as_str().unwrap().lines() {
        let mistakes = mistakes(&api.document, &hit, &serde_json::from_str(line).unwrap());
        assert!(mistakes.is_empty(), "{line}: {mistakes:#?}");
    }
    api.ask("GET /api/v1/export", "/api/v1/export?limit=0", "", 400).await;
    let id = found["hits"][0]["id"].as_str().unwrap().to_owned();
    api.ask("GET /api/v1/events/{id}", &format!("/api/v1/events/{id}"), "", 200).await;
    api.ask("GET /api/v1/events/{id}", &format!("/api/v1/events/{}", "0".repeat(32)), "", 404).await;
    api.ask("GET /api/v1/events/{id}", "/api/v1/events/x", "", 400).await;
    let found = api.ask("GET /api/v1/alerts", "/api/v1/alerts?level=low", "", 200).await;
    api.ask("GET /api/v1/alerts", "/api/v1/alerts?level=huge", "", 400).await;
    let id = found["alerts"][0]["id"].as_str().unwrap().to_owned();
    let alert = api.ask("GET /api/v1/alerts/{id}", &format!("/api/v1/alerts/{id}"), "", 200).await;
    assert!(!alert["deliveries"].as_array().unwrap().is_empty(), "{alert}");
    api.ask("GET /api/v1/alerts/{id}", &format!("/api/v1/alerts/{}", "0".repeat(32)), "", 404).await;

    let logs = "POST /ingest/logs/{cluster}";
    api.ask(logs, "/ingest/logs/prod", r#"[{"log":"hello"}]"#, 200).await;
    api.ask(logs, "/ingest/logs/prod", " ", 400).await;
    let rules = api.ask("GET /api/v1/rules", "/api/v1/rules", "", 200).await;
    assert!(!rules["problems"].as_array().unwrap().is_empty(), "{rules}");
    api.ask("GET /api/v1/status", "/api/v1/status", "", 200).await;
    let sources = api.ask("GET /api/v1/sources", "/api/v1/sources", "", 200).await;
    let audit = sources["sources"].as_array().unwrap().iter().find(|source| source["route"] == "audit");
    assert_eq!(audit.unwrap()["refused"], json!({ "bad_body": 1 }), "{sources}");
    quarantine(&mut api).await;
    log_protocols(&mut api).await;

    let new = json!({ "name": "grafana", "scopes": ["read", "ingest:prod"] }).to_string();
    let made = api.ask("POST /api/v1/tokens", "/api/v1/tokens", &new, 201).await;
    api.ask("POST /api/v1/tokens", "/api/v1/tokens", "{}", 400).await;
    api.ask("GET /api/v1/tokens", "/api/v1/tokens", "", 200).await;
    let path = format!("/api/v1/tokens/{}", made["token"]["id"].as_str().unwrap());
    api.ask("DELETE /api/v1/tokens/{id}", &path, "", 200).await;
    api.ask("DELETE /api/v1/tokens/{id}", "/api/v1/tokens/none", "", 404).await;

    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        api.ask(&format!("GET {path}"), path, "", 200).await;
    }
    refusals(&mut api).await;
    let operations: BTreeSet<String> = operations(&api.document).into_iter().map(|(name, _)| name).collect();
    assert_eq!(api.succeeded, operations, "each operation is asked once at least");
}

/// What log agents speak that know nothing of this server.
async fn log_protocols(api: &mut Described<'_>) {
    let otlp = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{ "body": { "stringValue": "one" } }, 7] }] }] });
    let operation = "POST /v1/logs";
    for (content_type, body, status) in [
        ("application/json", otlp.to_string(), 200),
        ("application/x-protobuf", String::new(), 200),
        ("text/plain", String::new(), 415),
    ] {
        let request = api.request(operation, "/v1/logs").header("watchbell-cluster", "prod");
        let sent = request.header("content-type", content_type).body(body).send().await.unwrap();
        api.check(operation, sent, status).await;
    }
    api.ask(operation, "/v1/logs", "", 400).await;
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let operation = format!("POST {path}");
    let call = api.request(&operation, path).header("watchbell-cluster", "prod").body("\0\0\0\0\0");
    let sent = call.send().await.unwrap();
    api.check(&operation, sent, 200).await;

    let documents = "{\"create\":{}}\n{\"message\":\"one\"}\n{\"delete\":{\"_id\":\"1\"}}\n";
    for path in ["/elasticsearch/_bulk", "/elasticsearch/{index}/_bulk"] {
        for method in ["POST", "PUT"] {
            let operation = format!("{method} {path}");
            let asked = path.replace("{index}", "prod");
            let request = api.request(&operation, &asked).header("watchbell-cluster", "prod");
            let sent = request.body(documents).send().await.unwrap();
            api.check(&operation, sent, 200).await;
            api.ask(&operation, &asked, "nothing", 400).await;
        }
    }
    let asked: Vec<_> = operations(&api.document).into_iter().map(|(name, _)| name).collect();
    let asked = asked.into_iter().filter(|name| name.contains(" /elasticsearch") && !name.contains("_bulk"));
    for operation in asked {
        let (_, path) = operation.split_once(' ').unwrap();
        let path = path.replace("{index}", "logs").replace("{name}", "logs");
        api.ask(&operation, &path, "{}", 200).await;
    }
}

/// Three entries, newest first: `hello`, `7`, and an event that was too long once.
async fn quarantine(api: &mut Described<'_>) {
    let list = "GET /api/v1/quarantine";
    let first = api.ask(list, "/api/v1/quarantine?limit=1", "", 200).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let last = api.ask(list, &format!("/api/v1/quarantine?cursor={cursor}"), "", 200).await;
    assert_eq!(
        (last["entries"].as_array().unwrap().len(), &last["next_cursor"]),
        (2, &Value::Null),
        "{last}"
    );
    api.ask(list, "/api/v1/quarantine?cursor=x", "", 400).await;
    let show = "GET /api/v1/quarantine/{key}";
    let path = format!("/api/v1/quarantine/{cursor}");
    let shown = api.ask(show, &path, "", 200).await;
    assert_eq!(shown["text"], "hello");
    api.ask(show, &format!("/api/v1/quarantine/{}", "0".repeat(32)), "", 404).await;
    let retry = "POST /api/v1/quarantine/{key}/retry";
    api.ask(retry, &format!("{path}/retry"), "", 422).await;
    api.ask(retry, &format!("/api/v1/quarantine/{}/retry", "0".repeat(32)), "", 404).await;
    let long = format!("/api/v1/quarantine/{}/retry", last["entries"][1]["key"].as_str().unwrap());
    assert_eq!(api.ask(retry, &long, "", 200).await["done"], true);
    api.ask(retry, &long, "", 409).await;
    let listed = api.ask(list, "/api/v1/quarantine", "", 200).await;
    assert!(listed["entries"][2]["done_at"].is_string(), "{listed}");
}

/// Without a token, with one that may do nothing, and with a body in an unknown form.
async fn refusals(api: &mut Described<'_>) {
    let made = json!({ "name": "nobody", "scopes": ["ingest:nothing"] }).to_string();
    let nobody = api.ask("POST /api/v1/tokens", "/api/v1/tokens", &made, 201).await;
    let nobody = nobody["secret"].as_str().unwrap().to_owned();
    for (name, operation) in operations(&api.document) {
        if operation["responses"]["401"].is_null() {
            continue;
        }
        let (method, path) = name.split_once(' ').unwrap();
        let path = path
            .replace("{cluster}", "prod")
            .replace("{id}", &"0".repeat(32))
            .replace("{key}", &"0".repeat(32))
            .replace("{index}", "prod")
            .replace("{name}", "prod");
        let request = || {
            let request =
                api.server.http.request(method.parse().unwrap(), format!("{}{path}", api.server.base));
            request.header("watchbell-cluster", "prod")
        };
        let (without, forbidden) = (request(), request().bearer_auth(&nobody));
        api.check(&name, without.send().await.unwrap(), 401).await;
        if !operation["responses"]["403"].is_null() {
            api.check(&name, forbidden.send().await.unwrap(), 403).await;
        }
    }
    let url = format!("{}/ingest/audit/prod", api.server.base);
    let packed = api.server.http.post(url).bearer_auth(api.server.admin_token()).body("x");
    let packed = packed.header("content-encoding", "br").send().await.unwrap();
    assert_eq!(packed.headers()["accept-encoding"], "gzip, zstd");
    api.check("POST /ingest/audit/{cluster}", packed, 415).await;
}

/// Examples are what their schemas say.
fn check_examples(document: &Value, part: &Value) {
    if let (Some(schema), Some(example)) = (part.get("schema"), part.get("example")) {
        let mistakes = mistakes(document, schema, example);
        assert!(mistakes.is_empty(), "{example}: {mistakes:#?}");
    }
    let members = part.as_object().into_iter().flatten().map(|(_, member)| member);
    for member in members.chain(part.as_array().into_iter().flatten()) {
        check_examples(document, member);
    }
}

/// All operations, by method and path.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| {
                (format!("{} {path}", method.to_uppercase()), operation.clone())
            })
        })
        .collect()
}
