//! Whoever sends log lines may send anything: bombs, messages without an end, millions of tiny members. Memory stays
//! bounded, the answer says why, and what others send is stored.

use std::io::Write;

use reqwest::RequestBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::Server;

const CONFIG: &str = "ingest: {max_body: 1MiB, in_flight: 8MiB}\n\
    syslog: {listen_tcp: '127.0.0.1:0', cluster: prod, max_message: 1KiB}\n\
    forward: {listen: '127.0.0.1:0', cluster: prod}\n";
const GRPC: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// What is far below a bomb, and above everything else.
const MAX_MEMORY_BYTES: u64 = 640 << 20;

fn post(server: &Server, path: &str, body: Vec<u8>) -> RequestBuilder {
    let request = server.http.post(format!("{}{path}", server.base)).bearer_auth(server.admin_token());
    request.header("watchbell-cluster", "prod").header("content-type", "application/x-protobuf").body(body)
}

/// Half a mebibyte that becomes a gibibyte: a thousand members of gzip, each a mebibyte of zeros.
fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    encoder.finish().unwrap().repeat(900)
}

/// A forward message with these entries.
fn forward(entries: &[u8], options: &[u8]) -> Vec<u8> {
    let length = u32::try_from(entries.len()).unwrap().to_be_bytes();
    [&b"\x93\xa1t\xc6"[..], &length, entries, options].concat()
}

/// Sends all there is to an input, and returns what it answers until it ends the connection.
async fn send(server: &Server, input: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.input_port(input))).await.unwrap();
    // the other side may have had enough before all is written
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let (mut read, mut buffer) = (Vec::new(), [0; 1_024]);
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        read.extend_from_slice(&buffer[..length]);
    }
    read
}

#[tokio::test]
async fn bombs_are_refused() {
    let server = Server::start(CONFIG).await;
    let bomb = bomb();
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    for path in ["/_bulk", "/v1/logs", "/ingest/logs/prod"] {
        let sent = post(&server, path, bomb.clone()).header("content-encoding", "gzip").send().await.unwrap();
        let (status, text) = (sent.status(), sent.text().await.unwrap());
        assert!(status == 413 && text.contains("longer than 1048576 bytes"), "{path}: {status} {text}");
    }
    let length = u32::try_from(bomb.len()).unwrap().to_be_bytes();
    let framed = [&[1][..], &length, &bomb].concat();
    let sent = post(&server, GRPC, framed).header("grpc-encoding", "gzip").send().await.unwrap();
    assert_eq!(sent.headers()["grpc-status"], "8");
    assert!(send(&server, "forward", &forward(&bomb, b"\x81\xaacompressed\xa4gzip")).await.is_empty());
    server.wait_for_log("ended a forward connection").await;
    goes_on(&server).await;
}

#[tokio::test]
async fn messages_without_an_end_are_cut_or_end_the_connection() {
    let server = Server::start(CONFIG).await;
    let endless = vec![b'x'; 8 << 20];
    let mut stream = TcpStream::connect(("127.0.0.1", server.input_port("syslog_tcp"))).await.unwrap();
    stream.write_all(&endless).await.unwrap();
    stream.write_all(b"\n<13>behind it\n").await.unwrap();
    server.wait_for_count("log.flags:truncated AND event.dataset:syslog", 1).await;
    server.wait_for_count("message:\"behind it\"", 1).await;
    // a text of four gibibytes, of which some is sent, and as many arrays within one another
    for begin in [&b"\x93\xdb\xff\xff\xff\xff"[..], b"\x93"] {
        let filler = if begin.len() > 1 { b'x' } else { 0x91 };
        let message = [begin, &vec![filler; 3 << 20]].concat();
        assert!(send(&server, "forward", &message).await.is_empty());
    }
    server.wait_for_log("a message of more than 1048576 bytes").await;
    for path in ["/_bulk", "/v1/logs", GRPC] {
        // the connection may be ended before everything is sent
        if let Ok(sent) = post(&server, path, endless.clone()).send().await {
            let refused = sent.status() == 413 || sent.headers()["grpc-status"] == "8";
            assert!(refused, "{path}: {}", sent.status());
        }
    }
    goes_on(&server).await;
}

#[tokio::test]
async fn tiny_members_take_no_more_than_they_may() {
    let server = Server::start(CONFIG).await;
    let members: Vec<String> = (0..60_000).map(|number| format!("\"{number}\":0")).collect();
    let bulk = format!("{{\"create\":{{}}}}\n{{{}}}\n", members.join(","));
    // attributes of nothing, in one record of one scope of one resource
    let message = |number: u8, inner: Vec<u8>| {
        let (mut head, mut length) = (vec![number << 3 | 2], inner.len());
        while length >= 0x80 {
            head.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        head.push(u8::try_from(length).unwrap());
        [head, inner].concat()
    };
    let otlp = message(1, message(2, message(2, b"\x32\x00".repeat(400_000))));
    let empty_records = message(1, message(2, b"\x12\x00".repeat(400_000)));
    for (path, body, status) in
        [("/_bulk", bulk.into_bytes(), 200), ("/v1/logs", otlp, 200), ("/v1/logs", empty_records, 413)]
    {
        let sent = post(&server, path, body).send().await.unwrap();
        let (answered, text) = (sent.status(), sent.text().await.unwrap());
        assert_eq!(answered, status, "{path}: {text}");
    }
    let count = 250_000_u32;
    let pairs = [&b"\x92\x00\xdf"[..], &count.to_be_bytes(), &vec![0xc0; 500_000]].concat();
    let acknowledged = send(&server, "forward", &forward(&pairs, b"\x81\xa5chunk\xa1c")).await;
    assert!(acknowledged.ends_with(b"c"), "{acknowledged:?}");
    let entries = b"\x92\x00\x80".repeat(300_000);
    assert!(send(&server, "forward", &forward(&entries, b"\x80")).await.is_empty());
    server.wait_for_log("more than 250000 events").await;
    send(&server, "syslog_tcp", &b"a\n".repeat(10_000)).await;
    server.wait_for_count("event.dataset:syslog", 10_000).await;
    goes_on(&server).await;
}

/// Others are stored, and memory was bounded.
async fn goes_on(server: &Server) {
    let before = server.count("message:\"still here\"").await;
    let line = "{\"create\":{}}\n{\"message\":\"still here\"}\n";
    let sent = post(server, "/_bulk", line.into()).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    send(server, "forward", b"\x93\xa1t\x00\x81\xa7message\xaastill here").await;
    send(server, "syslog_tcp", b"<13>still here\n").await;
    server.wait_for_count("message:\"still here\"", before + 3).await;
    let memory = server.peak_memory_bytes();
    assert!(memory < MAX_MEMORY_BYTES, "{memory} bytes");
}
