//! The forward protocol of Fluentd and Fluent Bit. A chunk is acknowledged once it is on disk; what is not
//! acknowledged is sent again, and known again by its chunk id.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use watchbell_ingest::decode::logs::{ForwardFrames, ForwardMessage, Ping, ack, helo, pong};

use super::stream::{Stream, StreamListener};
use super::{deliver, wait_for_room};
use crate::config::{ForwardConfig, TlsConfig};
use crate::http::{App, Share};
use crate::pipeline::{Payload, Request, stopped};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for one read.
const READ_BYTES: usize = 64 << 10;
const MAX_HANDSHAKE_BYTES: usize = 4 << 10;
/// How long a message that has begun may take to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a message may wait for room among the bytes in flight; others may wait for the room it has already.
const ROOM_PATIENCE: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What this side calls itself in the handshake.
const HOSTNAME: &str = "watchbell";

/// The bound address.
pub(super) struct Listener {
    listener: StreamListener,
    settings: Arc<Settings>,
}

struct Settings {
    cluster: String,
    shared_key: Option<String>,
}

impl Listener {
    /// None if no address is configured.
    pub(super) async fn bind(config: &ForwardConfig, tls: Option<&TlsConfig>) -> Result<Option<Self>> {
        let Some(address) = config.listen else { return Ok(None) };
        let tls = tls.filter(|_| config.tls);
        let listener =
            StreamListener::bind("forward", address, tls, &config.access, config.max_connections).await?;
        let shared_key = config.shared_key.as_ref().map(|key| key.0.clone());
        let settings = Arc::new(Settings { cluster: config.cluster.clone(), shared_key });
        Ok(Some(Self { listener, settings }))
    }

    pub(super) fn serve(self, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> JoinHandle<()> {
        let (app, settings, until) = (Arc::clone(app), self.settings, stopping.clone());
        let serve = move |stream, peer| {
            let (app, settings, stopping) = (Arc::clone(&app), Arc::clone(&settings), until.clone());
            let connection = Connection { app, settings, stopping, stream, peer };
            async move { connection.run().await }
        };
        tokio::spawn(self.listener.run(stopping.clone(), serve))
    }
}

struct Connection {
    app: Arc<App>,
    settings: Arc<Settings>,
    stopping: watch::Receiver<bool>,
    stream: Box<dyn Stream>,
    peer: IpAddr,
}

/// Why a connection was ended from this side.
type Ended = String;

impl Connection {
    async fn run(mut self) {
        if let Err(reason) = self.serve().await {
            metrics::counter!("watchbell_input_refused_total", "input" => "forward", "reason" => "protocol")
                .increment(1);
            tracing::warn!(peer = %self.peer, reason, "ended a forward connection");
        }
        let _ = tokio::time::timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let mut buffer = BytesMut::new();
        if self.settings.shared_key.is_some() {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(&mut buffer)).await;
            handshake.map_err(|_| "the handshake took too long".to_owned())??;
        }
        let max_bytes = usize::try_from(self.app.max_body_bytes).unwrap_or(usize::MAX);
        let mut frames = ForwardFrames::new(max_bytes);
        let mut share = Share::default();
        while let Some(message) = self.message(&mut frames, &mut buffer, &mut share).await? {
            self.take(message, std::mem::take(&mut share)).await?;
            if buffer.is_empty() {
                // an idle connection keeps little memory
                buffer = BytesMut::new();
            }
        }
        Ok(())
    }

    /// The next message; none if the other side has ended the connection between two, or the server stops.
    async fn message(
        &mut self,
        frames: &mut ForwardFrames,
        buffer: &mut BytesMut,
        share: &mut Share,
    ) -> Result<Option<Bytes>, Ended> {
        loop {
            if let Some(message) = frames.next(buffer).map_err(|error| error.to_string())? {
                return Ok(Some(message));
            }
            wait_for_room(&self.app, share, buffer.len(), ROOM_PATIENCE, &self.stopping)
                .await
                .map_err(|error| error.message)?;
            buffer.reserve(READ_BYTES);
            let patience = if buffer.is_empty() { Duration::MAX } else { MESSAGE_TIMEOUT };
            let read = tokio::select! {
                read = tokio::time::timeout(patience, self.stream.read_buf(buffer)) => read,
                () = stopped(self.stopping.clone()) => return Ok(None),
            };
            match read {
                Ok(Ok(1..)) => {}
                Ok(_) if buffer.is_empty() => return Ok(None),
                Ok(_) => return Err("it ended within a message".to_owned()),
                Err(_) => return Err("a message did not arrive in time".to_owned()),
            }
        }
    }

    /// Stores a message and acknowledges it if that is wanted.
    async fn take(&mut self, message: Bytes, mut share: Share) -> Result<(), Ended> {
        let message = ForwardMessage::parse(&message).map_err(|error| error.to_string())?;
        let ForwardMessage { tag, entries, form, gzip, chunk } = message;
        let cluster = self.settings.cluster.clone();
        let source = format!("forward/{cluster}");
        let payload = Payload::Forward { tag, form, chunk: chunk.clone() };
        let max_bytes = self.app.max_body_bytes;
        let request = Request { cluster, peer: self.peer, history: false, gzip, max_bytes, payload };
        let taken = deliver(&self.app, &source, &mut share, (request, entries), &self.stopping).await;
        match taken {
            Ok(_) => {}
            // it is in quarantine now, and would be no better another time
            Err(error) if error.code == "bad_body" => {
                tracing::error!(peer = %self.peer, reason = error.message, "a chunk went into quarantine as a whole");
            }
            Err(error) => return Err(error.message),
        }
        match chunk {
            Some(chunk) => self.write(&ack(&chunk)).await,
            None => Ok(()),
        }
    }

    /// Each side proves that it knows the shared key.
    async fn handshake(&mut self, buffer: &mut BytesMut) -> Result<(), Ended> {
        let key = self.settings.shared_key.clone().unwrap_or_default();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let nonce = hex(&random);
        self.write(&helo(nonce.as_bytes())).await?;
        let mut frames = ForwardFrames::new(MAX_HANDSHAKE_BYTES);
        let message = self.message(&mut frames, buffer, &mut Share::default()).await?;
        let ping = message.as_ref().and_then(Ping::parse).ok_or("no PING came in answer to HELO")?;
        let digest = |hostname: &[u8]| {
            hex(&Sha512::digest([&ping.salt[..], hostname, nonce.as_bytes(), key.as_bytes()].concat()))
        };
        let expect = digest(&ping.hostname);
        let is_known: bool = expect.as_bytes().ct_eq(&ping.digest).into();
        if !is_known {
            self.write(&pong(Some("shared_key mismatch"), HOSTNAME, "")).await?;
            return Err("the sender has another shared key".to_owned());
        }
        self.write(&pong(None, HOSTNAME, &digest(HOSTNAME.as_bytes()))).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let written = tokio::time::timeout(WRITE_TIMEOUT, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("an answer could not be written in time".to_owned()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
