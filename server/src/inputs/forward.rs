//! The forward protocol of Fluentd and Fluent Bit. A chunk is acknowledged once it is on disk; what is not
//! acknowledged is sent again, and known again by its chunk id. Who wants no acknowledgement is told of a stop by the end
//! of the connection, and what it had sent by then is read.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use watchbell_ingest::decode::logs::{ForwardFrames, ForwardMessage, Ping, ack, helo, pong};

use super::sender::{Access, Sender};
use super::stream::{Stream, StreamListener, read_on};
use super::{deliver, wait_for_room};
use crate::config::{ForwardConfig, SharedKey};
use crate::http::{App, Share};
use crate::pipeline::{Payload, Request, stopped};
use crate::sources::Source;
use crate::tls::Tls;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Single entries that are stored together, at most.
const GATHERED_BYTES: usize = 256 << 10;
const GATHERED_MESSAGES: usize = 4_096;
/// Room for one read.
const READ_BYTES: usize = 64 << 10;
const MAX_HANDSHAKE_BYTES: usize = 4 << 10;
/// How long a message that has begun may take to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a message may wait for room among the bytes in flight; others may wait for the room it has already.
const ROOM_PATIENCE: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For metrics, logs and sources.
const NAME: &str = "forward";
/// What this side calls itself in the handshake.
const HOSTNAME: &str = "watchbell";

/// The bound address.
pub(super) struct Listener {
    listener: StreamListener,
    settings: Arc<Settings>,
}

struct Settings {
    access: Access,
    shared_key: Option<SharedKey>,
}

impl Listener {
    /// None if no address is configured.
    pub(super) async fn bind(config: &ForwardConfig, tls: Option<&Arc<Tls>>) -> Result<Option<Self>> {
        let Some(address) = config.listen else { return Ok(None) };
        let access = Access::new(&config.access, tls.filter(|_| config.tls));
        let listener = StreamListener::bind(NAME, address, access.clone(), config.max_connections).await?;
        let settings = Arc::new(Settings { access, shared_key: config.shared_key.clone() });
        Ok(Some(Self { listener, settings }))
    }

    pub(super) fn serve(self, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> JoinHandle<()> {
        let (app, settings, until) = (Arc::clone(app), self.settings, stopping.clone());
        let serve = move |stream, sender| {
            let (app, settings, stopping) = (Arc::clone(&app), Arc::clone(&settings), until.clone());
            let connection = Connection {
                app,
                settings,
                stopping,
                stream,
                sender,
                pending: None,
                is_answered: false,
                farewell: None,
            };
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
    sender: Sender,
    /// A message that was taken out of the stream and waits for its turn.
    pending: Option<Bytes>,
    /// The last message was acknowledged.
    is_answered: bool,
    /// The server stops: until then is read what was on its way.
    farewell: Option<Instant>,
}

/// Why a connection was ended from this side.
type Ended = String;

/// What came of waiting for bytes.
enum Read {
    More,
    End,
    Late,
    /// The server stops, and nothing more is read.
    Stopped,
}

impl Connection {
    async fn run(mut self) {
        if let Err(reason) = self.serve().await {
            metrics::counter!("watchbell_input_refused_total", "input" => NAME, "reason" => "protocol")
                .increment(1);
            tracing::warn!(peer = %self.sender.peer, reason, "ended a forward connection");
        }
        let _ = tokio::time::timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
    }

    async fn serve(&mut self) -> Result<(), Ended> {
        let mut buffer = BytesMut::new();
        // who may not send is told so before it sends
        self.source()?;
        if self.settings.shared_key.is_some() {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(&mut buffer)).await;
            handshake.map_err(|_| "the handshake took too long".to_owned())??;
        }
        let max_bytes = usize::try_from(self.app.max_body_bytes).unwrap_or(usize::MAX);
        let mut frames = ForwardFrames::new(max_bytes);
        loop {
            let mut share = self.app.budget.share(&self.source()?);
            let message = self.message(&mut frames, &mut buffer, &mut share).await?;
            let Some(message) = message else { return Ok(()) };
            let message = self.gather(&message, &mut frames, &mut buffer)?;
            self.take(message, share).await?;
            if buffer.is_empty() {
                // an idle connection keeps little memory
                buffer = BytesMut::new();
            }
        }
    }

    /// Whose events these are.
    fn source(&self) -> Result<Source, Ended> {
        self.settings.access.source(&self.sender, NAME).map_err(|error| format!("{error:#}"))
    }

    /// The next message; none if the other side has ended the connection between two, or the server stops.
    async fn message(
        &mut self,
        frames: &mut ForwardFrames,
        buffer: &mut BytesMut,
        share: &mut Share,
    ) -> Result<Option<Bytes>, Ended> {
        if let Some(message) = self.pending.take() {
            return Ok(Some(message));
        }
        loop {
            if let Some(message) = frames.next(buffer).map_err(|error| error.to_string())? {
                return Ok(Some(message));
            }
            wait_for_room(&self.app, share, buffer.len(), ROOM_PATIENCE, &self.stopping)
                .await
                .map_err(|error| error.message)?;
            buffer.reserve(READ_BYTES);
            match self.read(buffer).await {
                Read::More => {}
                Read::Stopped => return Ok(None),
                Read::End if buffer.is_empty() => return Ok(None),
                Read::End => return Err("it ended within a message".to_owned()),
                Read::Late => return Err("a message did not arrive in time".to_owned()),
            }
        }
    }

    async fn read(&mut self, buffer: &mut BytesMut) -> Read {
        let silence = if buffer.is_empty() { Duration::MAX } else { MESSAGE_TIMEOUT };
        let reading = read_on(&mut self.stream, buffer, &self.stopping, &mut self.farewell);
        let read = tokio::select! {
            biased;
            // what is not acknowledged now is sent again
            () = stopped(self.stopping.clone()), if self.is_answered => return Read::Stopped,
            read = tokio::time::timeout(silence, reading) => read,
        };
        match read {
            Ok(Ok(1..)) => Read::More,
            Ok(_) if self.farewell.is_some() => Read::Stopped,
            Ok(_) => Read::End,
            Err(_) => Read::Late,
        }
    }

    /// A message with those that are there already and go with it: each for itself would wait for the disk.
    fn gather(
        &mut self,
        first: &Bytes,
        frames: &mut ForwardFrames,
        buffer: &mut BytesMut,
    ) -> Result<ForwardMessage, Ended> {
        let mut message = ForwardMessage::parse(first).map_err(|error| error.to_string())?;
        let mut gathered = BytesMut::new();
        for _ in 1..GATHERED_MESSAGES {
            if gathered.len() >= GATHERED_BYTES {
                break;
            }
            // what is wrong with it is told when it is its turn
            let Ok(Some(next)) = frames.next(buffer) else { break };
            match ForwardMessage::parse(&next) {
                Ok(next) if message.goes_with(&next) => {
                    if gathered.is_empty() {
                        gathered.extend_from_slice(&message.entries);
                    }
                    gathered.extend_from_slice(&next.entries);
                }
                _ => {
                    self.pending = Some(next);
                    break;
                }
            }
        }
        if !gathered.is_empty() {
            message.entries = gathered.freeze();
        }
        Ok(message)
    }

    /// Stores a message and acknowledges it if that is wanted.
    async fn take(&mut self, message: ForwardMessage, mut share: Share) -> Result<(), Ended> {
        let ForwardMessage { tag, entries, form, compression, chunk } = message;
        let (source, peer) = (self.source()?, self.sender.peer);
        let cluster = source.cluster.clone();
        let payload = Payload::Forward { tag, form, chunk: chunk.clone() };
        let max_bytes = self.app.max_body_bytes;
        let request = Request { cluster, peer, history: false, compression, max_bytes, payload };
        let taken = deliver(&self.app, &source, &mut share, (request, entries), &self.stopping).await;
        match taken {
            Ok(_) => {}
            // it is in quarantine now, and would be no better another time
            Err(error) if error.code == "bad_body" => {
                tracing::error!(%peer, reason = error.message, "a chunk went into quarantine as a whole");
            }
            Err(error) => return Err(error.message),
        }
        self.is_answered = chunk.is_some();
        match chunk {
            Some(chunk) => self.write(&ack(&chunk)).await,
            None => Ok(()),
        }
    }

    /// Each side proves that it knows the shared key.
    async fn handshake(&mut self, buffer: &mut BytesMut) -> Result<(), Ended> {
        let key = self.settings.shared_key.as_ref().map(|key| key.0.clone()).unwrap_or_default();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let nonce = hex(&random);
        self.write(&helo(nonce.as_bytes())).await?;
        let mut frames = ForwardFrames::new(MAX_HANDSHAKE_BYTES);
        let mut share = self.app.budget.share(&self.source()?);
        let message = self.message(&mut frames, buffer, &mut share).await?;
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
