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
