//! Syslog over TCP, TLS and UDP. Nothing in it tells a sender that a message was stored: over TCP a sender that is read
//! from more slowly waits, over UDP what finds no room is dropped, and counted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use watchbell_ingest::decode::logs::{SyslogFrame, SyslogFrames, SyslogMessage};

use super::sender::{Access, Sender};
use super::stream::{Stream, StreamListener, read_on};
use super::{deliver, wait_for_room};
use crate::config::SyslogConfig;
use crate::http::App;
use crate::pipeline::{Payload, Request, stopped};
use crate::sources::Source;
use crate::tls::Tls;

/// What is stored together, at most.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_MESSAGES: usize = 4_096;
/// What a message takes beside its bytes while it is stored.
const MESSAGE_BYTES: usize = 512;
/// Room for one read.
const READ_BYTES: usize = 64 << 10;
/// How long a batch waits for more of a sender that is sending.
const GATHER: Duration = Duration::from_millis(2);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_DATAGRAM_BYTES: usize = 64 << 10;
/// Datagrams that wait to be stored.
const QUEUE_DATAGRAMS: usize = 16_384;
const QUEUE_BYTES: usize = 16 << 20;
/// What the kernel keeps of datagrams that nobody has read yet.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// For sources and metrics.
const NAME: &str = "syslog";

/// The addresses that were bound.
pub(super) struct Listeners {
    streams: Vec<(StreamListener, Access)>,
    datagrams: Option<(UdpSocket, Access)>,
    max_message_bytes: usize,
}

impl Listeners {
    pub(super) async fn bind(config: &SyslogConfig, tls: Option<&Arc<Tls>>) -> Result<Self> {
        let mut streams = Vec::new();
        for (name, address, tls) in
            [("syslog_tcp", config.listen_tcp, None), ("syslog_tls", config.listen_tls, tls)]
        {
            let Some(address) = address else { continue };
            let access = Access::new(&config.access, tls);
            let listener =
                StreamListener::bind(name, address, access.clone(), config.max_connections).await?;
            streams.push((listener, access));
        }
        let mut datagrams = None;
        if let Some(address) = config.listen_udp {
            let socket = UdpSocket::bind(address)
                .await
                .with_context(|| format!("failed to listen on {address} for syslog over UDP"))?;
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
            let address = socket.local_addr()?;
            tracing::info!(%address, input = "syslog_udp", "listening");
            datagrams = Some((socket, Access::new(&config.access, None)));
        }
        Ok(Self { streams, datagrams, max_message_bytes: config.max_message_bytes })
    }

    pub(super) fn serve(self, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let max_message_bytes = self.max_message_bytes;
        let receiver = |access: Access| {
            let (app, stopping) = (Arc::clone(app), stopping.clone());
            Receiver { app, access, max_message_bytes, stopping }
        };
        let mut tasks = Vec::new();
        for (listener, access) in self.streams {
            let receiver = receiver(access);
            let serve = move |stream, sender| receiver.clone().connection(stream, sender);
            tasks.push(tokio::spawn(listener.run(stopping.clone(), serve)));
        }
        if let Some((socket, access)) = self.datagrams {
            let (queue, queued) = mpsc::channel(QUEUE_DATAGRAMS);
            let receiver = receiver(access);
            tasks.push(tokio::spawn(receiver.clone().receive(socket, queue)));
            tasks.push(tokio::spawn(receiver.store_queued(queued)));
        }
        tasks
    }
}

/// A datagram and its room in the queue.
type Queued = (SyslogMessage, OwnedSemaphorePermit);

/// Puts a datagram into the queue, or says why not.
fn queued(
    queue: &mpsc::Sender<Queued>,
    room: &Arc<Semaphore>,
    message: SyslogMessage,
) -> Result<(), &'static str> {
    let bytes = u32::try_from(message.frame.bytes.len().max(1)).unwrap_or(u32::MAX);
    let permit = Arc::clone(room).try_acquire_many_owned(bytes).map_err(|_| "queue_full")?;
    queue.try_send((message, permit)).map_err(|_| "queue_full")
}

/// Receives and stores.
#[derive(Clone)]
struct Receiver {
    app: Arc<App>,
    access: Access,
    max_message_bytes: usize,
    stopping: watch::Receiver<bool>,
}

impl Receiver {
    async fn connection(self, mut stream: Box<dyn Stream>, sender: Sender) {
        if let Err(error) = self.messages(&mut stream, &sender).await {
            let reason = format!("{error:#}");
            metrics::counter!("watchbell_input_refused_total", "input" => NAME, "reason" => "certificate")
                .increment(1);
            tracing::warn!(peer = %sender.peer, reason, "ended a syslog connection");
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
    }

    /// Stores all messages of a connection.
    ///
    /// # Errors
    /// Why nothing more is taken from the sender.
    async fn messages(&self, stream: &mut Box<dyn Stream>, sender: &Sender) -> Result<()> {
        let mut frames = SyslogFrames::new(self.max_message_bytes);
        let mut buffer = BytesMut::new();
        let (mut ended, mut farewell) = (false, None);
        let message = |frame| SyslogMessage { peer: sender.peer, frame };
        // who may not send is told so before it sends
        self.access.source(sender, NAME)?;
        while !ended {
            ended = self.gather(stream, &mut buffer, &mut farewell).await;
            loop {
                let messages = self.batch(|| frames.next(&mut buffer).map(message));
                if messages.is_empty() {
                    break;
                }
                self.store(&self.access.source(sender, NAME)?, messages).await;
            }
            if buffer.is_empty() {
                // an idle connection keeps little memory
                buffer = BytesMut::new();
            }
        }
        let last = frames.last(&mut buffer).map(message);
        self.store(&self.access.source(sender, NAME)?, last.into_iter().collect()).await;
        Ok(())
    }

    /// Reads what a sender has to send now; true if that was the last. For `farewell` see [`read_on`].
    async fn gather(
        &self,
        stream: &mut Box<dyn Stream>,
        buffer: &mut BytesMut,
        farewell: &mut Option<Instant>,
    ) -> bool {
        buffer.reserve(READ_BYTES);
        let first = read_on(stream, buffer, &self.stopping, farewell).await;
        if !matches!(first, Ok(1..)) {
            return true;
        }
        while buffer.len() < BATCH_BYTES {
            buffer.reserve(READ_BYTES);
            match tokio::time::timeout(GATHER, stream.read_buf(buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// Reads datagrams as fast as they come and queues them.
    async fn receive(self, socket: UdpSocket, queue: mpsc::Sender<Queued>) {
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
        let mut warned: Option<Instant> = None;
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut datagram) => received,
                () = stopped(self.stopping.clone()) => return,
            };
            let Ok((length, peer)) = received else { continue };
            let peer = peer.ip().to_canonical();
            let dropped = if self.access.allows(peer) {
                let kept = length.min(self.max_message_bytes);
                let bytes = Bytes::copy_from_slice(&datagram[..kept]);
                let frame = SyslogFrame { bytes, cut: kept < length };
                queued(&queue, &room, SyslogMessage { peer, frame }).err()
            } else {
                Some("address")
            };
            let Some(reason) = dropped else { continue };
            metrics::counter!("watchbell_syslog_dropped_total", "reason" => reason).increment(1);
            if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
                warned = Some(Instant::now());
                tracing::warn!(%peer, reason, "syslog datagrams are dropped (watchbell_syslog_dropped_total counts them)");
            }
        }
    }

    async fn store_queued(self, mut queued: mpsc::Receiver<Queued>) {
        let source = self.access.datagrams(NAME);
        loop {
            let mut datagrams = Vec::new();
            if queued.recv_many(&mut datagrams, BATCH_MESSAGES).await == 0 {
                return;
            }
            let mut datagrams = datagrams.into_iter();
            loop {
                // room is given back once all of the batch is stored
                let mut permits = Vec::new();
                let messages = self.batch(|| {
                    let (message, permit) = datagrams.next()?;
                    permits.push(permit);
                    Some(message)
                });
                if messages.is_empty() {
                    break;
                }
                self.store(&source, messages).await;
            }
        }
    }

    /// As many messages as are stored together: never more than a body of HTTP may hold.
    fn batch(&self, mut next: impl FnMut() -> Option<SyslogMessage>) -> Vec<SyslogMessage> {
        let max_body_bytes = usize::try_from(self.app.max_body_bytes).unwrap_or(usize::MAX);
        let last_start = BATCH_BYTES.min(max_body_bytes - self.max_message_bytes);
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while bytes <= last_start && messages.len() < BATCH_MESSAGES {
            let Some(message) = next() else { break };
            bytes += message.frame.bytes.len();
            messages.push(message);
        }
        messages
    }

    /// Waits until the messages are stored.
    async fn store(&self, source: &Source, messages: Vec<SyslogMessage>) {
        let Some(peer) = messages.first().map(|message| message.peer) else { return };
        let count = messages.len();
        let bytes: usize = messages.iter().map(|message| message.frame.bytes.len() + MESSAGE_BYTES).sum();
        let max_bytes = self.app.max_body_bytes;
        let room = bytes.min(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        let (cluster, payload) = (source.cluster.clone(), Payload::Syslog(messages));
        let request = Request { cluster, peer, history: false, compression: None, max_bytes, payload };
        let mut share = self.app.budget.share(source);
        let stored = async {
            wait_for_room(&self.app, &mut share, room, Duration::MAX, &self.stopping).await?;
            let body = Bytes::new();
            deliver(&self.app, source, &mut share, (request, body), &self.stopping).await
        };
        if let Err(error) = stored.await {
            metrics::counter!("watchbell_syslog_dropped_total", "reason" => error.code)
                .increment(count as u64);
            tracing::error!(%peer, count, reason = error.message, "syslog messages could not be stored and are lost");
        }
    }
}
