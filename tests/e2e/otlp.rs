//! OpenTelemetry's log records, over HTTP and over gRPC.

use std::io::Write;

use reqwest::{RequestBuilder, StatusCode, Version};
use serde_json::json;

use crate::support::Server;

const PROTOBUF: &[u8] = include_bytes!("../../ingest/src/decode/logs/otlp/fixtures/request.pb");
const JSON: &str = include_str!("../../ingest/src/decode/logs/otlp/fixtures/request.json");
const GRPC: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

fn post(server: &Server, path: &str, content_type: &str) -> RequestBuilder {
    let request = server.http.post(format!("{}{path}", server.base)).bearer_auth(server.admin_token());
    request.header("content-type", content_type).header("watchbell-cluster", "prod")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn records_are_taken_in_both_forms_and_found() {
    let server = Server::start("").await;
    let sent = post(&server, "/v1/logs", "application/json").body(JSON).send().await.unwrap();
    assert_eq!((sent.status(), sent.text().await.unwrap().as_str()), (StatusCode::OK, "{}"));
    let request = post(&server, "/v1/logs", "application/x-protobuf").header("content-encoding", "gzip");
    let sent = request.body(gzip(PROTOBUF)).send().await.unwrap();
    assert_eq!(sent.headers()["content-type"], "application/x-protobuf");
    assert_eq!((sent.status(), sent.bytes().await.unwrap().len()), (StatusCode::OK, 0));
    server.wait_for_count("source:log AND cluster:prod", 4).await;
    for (query, expect) in [
        ("event.dataset:sshd AND orchestrator.resource.name:bastion-0 AND log.level:error", 2),
        ("trace.id:000102030405060708090a0b0c0d0e0f AND k8s.pod.name:bastion-0", 2),
        ("message:started AND port:8080", 2),
    ] {
        assert_eq!(server.count(query).await, expect, "{query}");
    }

    let bad = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{ "body": {} }, 7] }] }] });
    let sent = post(&server, "/v1/logs", "application/json").body(bad.to_string()).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::OK);
    assert!(sent.text().await.unwrap().contains(r#""rejectedLogRecords":"1""#));
    for (content_type, body, expect) in
        [("application/json", "[", 400), ("application/x-protobuf", "\u{b}", 400), ("text/plain", "", 415)]
    {
        let sent = post(&server, "/v1/logs", content_type).body(body).send().await.unwrap();
        assert_eq!(sent.status(), expect, "{content_type}");
    }
}

#[tokio::test]
async fn grpc_is_spoken_without_tls_too() {
    let mut server = Server::start("").await;
    server.http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let call = |compressed: bool, message: Vec<u8>| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[u8::from(compressed)][..], &length, &message].concat();
        let request =
            post(&server, GRPC, "application/grpc").version(Version::HTTP_2).header("te", "trailers");
        request.header("grpc-encoding", "gzip").body(body).send()
    };
    for sent in [call(false, PROTOBUF.to_vec()).await.unwrap(), call(true, gzip(PROTOBUF)).await.unwrap()] {
        assert_eq!(
            (sent.status(), &sent.headers()["content-type"]),
            (StatusCode::OK, &"application/grpc".parse().unwrap())
        );
        assert_eq!(sent.headers().get("grpc-status"), None, "{:?}", sent.headers());
        assert_eq!(sent.bytes().await.unwrap(), vec![0; 5]);
    }
    let refused = call(false, vec![0x0b]).await.unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["grpc-status"]),
        (StatusCode::OK, &"3".parse().unwrap())
    );
    let request = server.http.post(format!("{}{GRPC}", server.base)).version(Version::HTTP_2);
    let refused = request.body(vec![0; 5]).send().await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "16");
    server.http = reqwest::Client::new();
    server.wait_for_count("message:started AND cluster:prod", 2).await;
}
