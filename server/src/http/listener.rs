//! Accepts connections, with TLS or without, and serves the router on them until told to stop. Every wait
//! has a limit: connections at one time, TLS handshake, request head, and the drain at the end.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

use super::linger;
use crate::tls::{self, ClientCertificate, Tls};

/// The address a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Limits of the listener.
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) drain_deadline: Duration,
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_STREAMS: u32 = 128;
/// Large enough for a batch of audit events to travel without waiting for the receiver.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Serves `router` on `listener` until `shutdown` resolves, then lets open requests finish until the
/// deadline.
pub(crate) async fn run(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let (open, closing) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = &mut shutdown => break,
        };
        if let Some((stream, peer, slot)) = accepted {
            let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
            tokio::spawn(connection(stream, peer, tls, router, (watcher, closing.clone()), slot));
        }
    }
    drop((listener, open));
    if tokio::time::timeout(limits.drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish before the deadline and were cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            // Out of file descriptors, mostly: it passes when connections end.
            tracing::warn!(%error, "failed to accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    (watcher, mut closing): (Watcher, watch::Receiver<()>),
    slot: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let peer = Peer(peer.ip().to_canonical());
    metrics::gauge!("watchbell_http_connections").increment(1);
    match tls {
        None => {
            let protocol = tokio::select! {
                protocol = tokio::time::timeout(HEAD_TIMEOUT, protocol(&stream)) => protocol,
                // nobody waits at the end for a connection that has asked nothing
                _ = closing.changed() => Ok(Ok(Protocol::Http1)),
            };
            match protocol {
                Ok(Ok(protocol)) => {
                    serve(stream, protocol, Client { peer, certificate: None }, router, watcher).await;
                }
                _ => tracing::debug!(peer = %peer.0, "a connection that sent nothing"),
            }
        }
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                let handshake = stream.get_ref().1;
                let http2 = handshake.alpn_protocol() == Some(b"h2");
                let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
                let client = Client { peer, certificate: ClientCertificate::of(handshake).map(Arc::new) };
                serve(stream, protocol, client, router, watcher).await;
            }
            Ok(Err(error)) => report_handshake(peer, &error),
            Err(_) => report_handshake(peer, &std::io::ErrorKind::TimedOut.into()),
        },
    }
    metrics::gauge!("watchbell_http_connections").decrement(1);
    drop(slot);
}

fn report_handshake(peer: Peer, error: &std::io::Error) {
    let certificate = tls::refused_certificate(error);
    let reason = if certificate { "certificate" } else { "handshake" };
    metrics::counter!("watchbell_http_tls_failures_total", "reason" => reason).increment(1);
    if certificate {
        tracing::warn!(peer = %peer.0, %error, "refused a connection for its client certificate");
    } else {
        tracing::debug!(peer = %peer.0, %error, "TLS handshake failed");
    }
}

/// What is known of the other end of a connection.
struct Client {
    peer: Peer,
    certificate: Option<Arc<ClientCertificate>>,
}

/// What is spoken on a connection. With TLS it is agreed on in the handshake; without, the first bytes tell, which
/// must come soon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Looks at the first bytes of a connection without TLS: HTTP/2, which gRPC needs, begins like no other request.
async fn protocol(stream: &TcpStream) -> std::io::Result<Protocol> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut first = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut first).await?;
        if length == 0 || !PREFACE.starts_with(&first[..length]) {
            return Ok(Protocol::Http1);
        }
        if length == PREFACE.len() {
            return Ok(Protocol::Http2);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve<S>(stream: S, protocol: Protocol, client: Client, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Client { peer, certificate } = client;
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(Arc::clone(certificate));
        }
        let router = router.clone();
        async move {
            let request = request.map(Body::new);
            match protocol {
                Protocol::Http1 => Ok::<_, Infallible>(linger::answer(router, request).await),
                // An answer that comes early is followed by a reset of its stream alone, without an error.
                Protocol::Http2 => router.oneshot(request).await,
            }
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES * 4);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(peer = %peer.0, %error, "connection ended early");
    }
}
