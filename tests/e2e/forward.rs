//! The forward protocol of Fluentd and Fluent Bit.

use bytes::BytesMut;
use sha2::{Digest, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchbell_ingest::decode::logs::{ForwardFrames, ack};

use crate::support::Server;

const MESSAGE: &[u8] = include_bytes!("../../ingest/src/decode/logs/forward/fixtures/message.msgpack");
const PACKED: &[u8] = include_bytes!("../../ingest/src/decode/logs/forward/fixtures/packed.msgpack");
const COMPRESSED: &[u8] = include_bytes!("../../ingest/src/decode/logs/forward/fixtures/compressed.msgpack");
const CHUNK: &[u8] = b"p8n9gmxTQVC8/nh2wlKKeQ==";

struct Sender {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Sender {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.input_port("forward"))).await.unwrap();
        Self { stream, buffer: BytesMut::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// What is answered next; none if the connection has ended.
    async fn answer(&mut self) -> Option<bytes::Bytes> {
        let mut frames = ForwardFrames::new(1 << 20);
        loop {
            if let Some(message) = frames.next(&mut self.buffer).unwrap() {
                return Some(message);
            }
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// What a client answers to HELO.
    async fn ping(&mut self, key: &str) {
        let helo = self.answer().await.unwrap();
        let at = helo.windows(5).position(|window| window == b"nonce").unwrap() + 5;
        // behind its type and its length
        let nonce = &helo[at + 5..at + 5 + 32];
        let digest = Sha512::digest([&b"salt"[..], b"agent", nonce, key.as_bytes()].concat());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let head = b"\x96\xa4PING\xa5agent\xa4salt\xd9\x80";
        self.send(&[&head[..], digest.as_bytes(), b"\xa0\xa0"].concat()).await;
    }
}

#[tokio::test]
async fn chunks_are_acknowledged_once_stored_and_stored_once() {
    let mut server = Server::start("forward: {listen: '127.0.0.1:0', cluster: prod}").await;
    let mut sender = Sender::connect(&server).await;
    for message in [PACKED, COMPRESSED] {
        sender.send(message).await;
        assert_eq!(sender.answer().await.unwrap(), ack(CHUNK));
    }
    // it is one chunk, however it is packed
    server.wait_for_count("source:log AND cluster:prod AND tag:kube.bastion", 3).await;
    assert_eq!(server.count("event.dataset:sshd AND orchestrator.resource.name:bastion-0").await, 1);

    // what was acknowledged survives a crash, and is known when it is sent again
    server.kill();
    server.restart().await;
    let mut sender = Sender::connect(&server).await;
    sender.send(&[PACKED, MESSAGE].concat()).await;
    assert_eq!(sender.answer().await.unwrap(), ack(CHUNK));
    assert_eq!(sender.answer().await.unwrap(), ack(CHUNK));
    server.wait_for_count("source:log", 4).await;

    // what cannot be read goes into quarantine, acknowledged, and the rest goes on
    sender.send(b"\x93\xa1t\xa7garbage\x82\xaacompressed\xa4gzip\xa5chunk\xa1c").await;
    assert_eq!(sender.answer().await.unwrap(), ack(b"c"));
    sender.send(b"\x93\xa1t\xa1x\x81\xa5chunk\xa1d").await;
    assert_eq!(sender.answer().await.unwrap(), ack(b"d"));
    assert!(server.json("/api/v1/quarantine").await.to_string().contains("gzip"));
    // what is no message ends the connection
    sender.send(b"\xc1").await;
    assert_eq!(sender.answer().await, None);
}

#[tokio::test]
async fn who_does_not_know_the_shared_key_sends_nothing() {
    let server = Server::start("forward: {listen: '127.0.0.1:0', cluster: prod, shared_key: s3cret}").await;
    let mut sender = Sender::connect(&server).await;
    sender.ping("wrong").await;
    let pong = sender.answer().await.unwrap();
    assert!(pong.windows(8).any(|window| window == b"mismatch"), "{pong:?}");
    sender.send(PACKED).await;
    assert_eq!(sender.answer().await, None);

    let mut sender = Sender::connect(&server).await;
    sender.send(PACKED).await;
    assert!(sender.answer().await.is_some_and(|helo| helo.windows(4).any(|window| window == b"HELO")));
    assert_eq!(sender.answer().await, None);

    let mut sender = Sender::connect(&server).await;
    sender.ping("s3cret").await;
    let pong = sender.answer().await.unwrap();
    assert!(pong.windows(9).any(|window| window == b"watchbell"), "{pong:?}");
    sender.send(PACKED).await;
    assert_eq!(sender.answer().await.unwrap(), ack(CHUNK));
    server.wait_for_count("source:log", 3).await;
    assert!(!server.log().contains("s3cret"));
}

/// `[tag, time, record]`, to which nobody wants an answer.
fn unanswered(message: &str) -> Vec<u8> {
    let length = u8::try_from(message.len()).unwrap();
    [&b"\x93\xa1t\xce\x65\xa0\xb0\xc0\x81\xa7message\xd9"[..], &[length], message.as_bytes()].concat()
}

#[tokio::test]
async fn a_stop_loses_nothing_of_a_sender_that_looks_whether_the_connection_has_ended() {
    let mut server = Server::start("forward: {listen: '127.0.0.1:0', cluster: prod}").await;
    let (mut sender, mut asking) = (Sender::connect(&server).await, Sender::connect(&server).await);
    sender.send(&unanswered("the first one")).await;
    asking.send(PACKED).await;
    assert_eq!(asking.answer().await.unwrap(), ack(CHUNK));
    server.wait_for_count("message:\"the first one\"", 1).await;

    let stopped = tokio::task::spawn_blocking(move || (server.stop(), server));
    assert_eq!(asking.answer().await, None);
    assert_eq!(sender.stream.peek(&mut [0; 1]).await.unwrap(), 0);
    // what was on its way when the end came
    sender.send(&unanswered("the last one")).await;
    let (code, mut server) = stopped.await.unwrap();
    assert_eq!(code, Some(0));
    server.restart().await;
    server.wait_for_count("message:\"the last one\"", 1).await;
}

#[tokio::test]
async fn single_messages_that_come_together_are_stored_together_and_each_once() {
    let server = Server::start("forward: {listen: '127.0.0.1:0', cluster: prod}").await;
    let mut sender = Sender::connect(&server).await;
    let mut stream: Vec<u8> = (0..3_000).flat_map(|n| unanswered(&format!("single {n}"))).collect();
    // what wants an answer, and what cannot be read, end what goes together
    stream.extend_from_slice(MESSAGE);
    stream.extend((3_000..4_000).flat_map(|n| unanswered(&format!("single {n}"))));
    stream.extend_from_slice(b"\x93\xa1t\xce\x65\xa0\xb0\xc0\xa5wrong");
    stream.extend(unanswered("single 4000"));
    sender.send(&stream).await;
    assert_eq!(sender.answer().await.unwrap(), ack(CHUNK));
    server.wait_for_count("tag:t AND message:single", 4_001).await;
    for n in [0, 2_999, 3_000, 3_999, 4_000] {
        assert_eq!(server.count(&format!("message:\"single {n}\"")).await, 1, "{n}");
    }
    assert!(server.json("/api/v1/quarantine").await.to_string().contains("not an entry"));
    let metrics = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    let commits = metrics.lines().find_map(|line| line.strip_prefix("watchbell_log_commit_seconds_count "));
    let commits: u64 = commits.unwrap().parse().unwrap();
    assert!(commits < 1_000, "{commits} commits of the journal for 4,002 messages");
}
