//! Syslog over TCP, TLS and UDP. Nothing in it tells a sender that a message was stored: over TCP a sender that is read
//! from more slowly waits, over UDP what finds no room is dropped, and counted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use watchbell_ingest::decode::logs::{SyslogFrame, SyslogFrames, SyslogMessage};

use super::stream::{Stream, StreamListener, is_allowed};
use super::{deliver, wait_for_room};
use crate::config::{SyslogConfig, TlsConfig};
use crate::http::{App, Share};
use crate::pipeline::{Payload, Request, stopped};

/// Messages stored together, at most.
const BATCH_BYTES: usize = 1 << 20;
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

/// The addresses that were bound.
pub(super) struct Listeners {
    streams: Vec<StreamListener>,
    datagrams: Option<(UdpSocket, Vec<IpNet>)>,
    settings: Settings,
}

/// What every task needs.
#[derive(Clone)]
struct Settings {
    cluster: String,
    max_message_bytes: usize,
}

impl Listeners {
    pub(super) async fn bind(config: &SyslogConfig, tls: Option<&TlsConfig>) -> Result<Self> {
        let mut streams = Vec::new();
        for (address, tls) in [(config.listen_tcp, None), (config.listen_tls, tls)] {
            let Some(address) = address else { continue };
            let (access, connections) = (&config.access, config.max_connections);
            streams.push(StreamListener::bind("syslog", address, tls, access, connections).await?);
        }
        let mut datagrams = None;
        if let Some(address) = config.listen_udp {
            let socket = UdpSocket::bind(address)
                .await
                .with_context(|| format!("failed to listen on {address} for syslog over UDP"))?;
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES);
            tracing::info!(%address, input = "syslog over UDP", "listening");
            datagrams = Some((socket, config.access.allow.clone()));
        }
        let settings =
            Settings { cluster: config.cluster.clone(), max_message_bytes: config.max_message_bytes };
        Ok(Self { streams, datagrams, settings })
    }

    pub(super) fn serve(self, app: &Arc<App>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for listener in self.streams {
            let (app, settings, until) = (Arc::clone(app), self.settings.clone(), stopping.clone());
            let serve = move |stream, peer| {
                let sender =
                    Sender { app: Arc::clone(&app), settings: settings.clone(), stopping: until.clone() };
                sender.connection(stream, peer)
            };
            tasks.push(tokio::spawn(listener.run(stopping.clone(), serve)));
        }
        if let Some((socket, allow)) = self.datagrams {
            let (queue, queued) = mpsc::channel(QUEUE_DATAGRAMS);
            let sender = Sender { app: Arc::clone(app), settings: self.settings, stopping: stopping.clone() };
            tasks.push(tokio::spawn(receive(socket, allow, queue, stopping.clone())));
            tasks.push(tokio::spawn(sender.datagrams(queued)));
        }
        tasks
    }
}

/// A datagram and its room in the queue.
type Queued = (SyslogMessage, OwnedSemaphorePermit);

/// Reads datagrams as fast as they come and queues them.
async fn receive(
    socket: UdpSocket,
    allow: Vec<IpNet>,
    queue: mpsc::Sender<Queued>,
    stopping: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    let mut warned: Option<tokio::time::Instant> = None;
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut datagram) => received,
            () = stopped(stopping.clone()) => return,
        };
        let Ok((length, peer)) = received else { continue };
        let peer = peer.ip().to_canonical();
        let dropped = if is_allowed(&allow, peer) {
            let bytes = Bytes::copy_from_slice(&datagram[..length]);
            queued(&queue, &room, SyslogMessage { peer, frame: SyslogFrame { bytes, cut: false } }).err()
        } else {
            Some("address")
        };
        let Some(reason) = dropped else { continue };
        metrics::counter!("watchbell_syslog_dropped_total", "reason" => reason).increment(1);
        if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
            warned = Some(tokio::time::Instant::now());
            tracing::warn!(%peer, reason, "syslog datagrams are dropped (watchbell_syslog_dropped_total counts them)");
        }
    }
}

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

/// Stores what a listener receives.
struct Sender {
    app: Arc<App>,
    settings: Settings,
    stopping: watch::Receiver<bool>,
}

impl Sender {
    async fn connection(self, mut stream: Box<dyn Stream>, peer: IpAddr) {
        let mut frames = SyslogFrames::new(self.settings.max_message_bytes);
        let mut buffer = BytesMut::new();
        let mut ended = false;
        while !ended {
            ended = self.gather(&mut stream, &mut buffer).await;
            let mut messages = Vec::new();
            while let Some(frame) = frames.next(&mut buffer) {
                messages.push(SyslogMessage { peer, frame });
            }
            if ended {
                messages.extend(frames.last(&mut buffer).map(|frame| SyslogMessage { peer, frame }));
            }
            self.store(messages).await;
            if buffer.is_empty() {
                // an idle connection keeps little memory
                buffer = BytesMut::new();
            }
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
    }

    /// Reads what a sender has to send now; true if that was the last.
    async fn gather(&self, stream: &mut Box<dyn Stream>, buffer: &mut BytesMut) -> bool {
        buffer.reserve(READ_BYTES);
        let first = tokio::select! {
            read = stream.read_buf(buffer) => read,
            () = stopped(self.stopping.clone()) => return true,
        };
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

    async fn datagrams(self, mut queued: mpsc::Receiver<Queued>) {
        loop {
            let mut batch = Vec::new();
            if queued.recv_many(&mut batch, QUEUE_DATAGRAMS / 4).await == 0 {
                return;
            }
            let (messages, permits): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            self.store(messages).await;
            drop(permits);
        }
    }

    /// Waits until the messages are stored.
    async fn store(&self, messages: Vec<SyslogMessage>) {
        let Some(peer) = messages.first().map(|message| message.peer) else { return };
        let (count, cluster) = (messages.len(), self.settings.cluster.clone());
        let bytes = messages.iter().map(|message| message.frame.bytes.len()).sum();
        let source = format!("syslog/{cluster}");
        let payload = Payload::Syslog(messages);
        let max_bytes = self.app.max_body_bytes;
        let request = Request { cluster, peer, history: false, gzip: false, max_bytes, payload };
        let mut share = Share::default();
        let stored = async {
            wait_for_room(&self.app, &mut share, bytes, Duration::MAX, &self.stopping).await?;
            let body = Bytes::new();
            deliver(&self.app, &source, &mut share, (request, body), &self.stopping).await
        };
        if let Err(error) = stored.await {
            metrics::counter!("watchbell_syslog_dropped_total", "reason" => error.code)
                .increment(count as u64);
            tracing::error!(%peer, count, reason = error.message, "syslog messages could not be stored and are lost");
        }
    }
}
