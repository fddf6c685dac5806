//! Accepts connections of one protocol, with TLS or without, from those who may connect.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::sender::{Access, Sender};
use crate::pipeline::stopped;
use crate::tls::{self, ClientCertificate, Tls};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// When the server stops, how long a connection on which nothing is answered is read on, and after what silence no longer.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_SILENCE: Duration = Duration::from_millis(250);

/// What a connection is made of, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ends this side of the connection and nothing more: a sender that never reads sees it by looking whether there is
    /// anything to read, and so not if TLS said goodbye first.
    fn end_own_side(&self);
}

impl Stream for TcpStream {
    fn end_own_side(&self) {
        // one that is gone already needs no end
        let _ = rustix::net::shutdown(self, Shutdown::Write);
    }
}

impl Stream for TlsStream<TcpStream> {
    fn end_own_side(&self) {
        self.get_ref().0.end_own_side();
    }
}

/// Reads more of a connection on which nothing is answered; zero if that was the end. When the server stops, the sender is
/// told, and what is on its way is read until `farewell`.
pub(super) async fn read_on(
    stream: &mut Box<dyn Stream>,
    buffer: &mut BytesMut,
    stopping: &watch::Receiver<bool>,
    farewell: &mut Option<Instant>,
) -> io::Result<usize> {
    if farewell.is_none() {
        tokio::select! {
            read = stream.read_buf(buffer) => return read,
            () = stopped(stopping.clone()) => stream.end_own_side(),
        }
    }
    let until = *farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
    if until <= Instant::now() {
        return Ok(0);
    }
    tokio::time::timeout(FAREWELL_SILENCE, stream.read_buf(buffer)).await.unwrap_or(Ok(0))
}

/// A bound address and who may connect to it.
pub(super) struct StreamListener {
    socket: TcpListener,
    access: Access,
    slots: Arc<Semaphore>,
    /// For metrics.
    name: &'static str,
}

impl StreamListener {
    /// Binds an address for the protocol `name`.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub(super) async fn bind(
        name: &'static str,
        address: SocketAddr,
        access: Access,
        max_connections: usize,
    ) -> Result<Self> {
        let socket = TcpListener::bind(address).await.with_context(|| {
            format!("failed to listen on {address} for {name} (is another server running?)")
        })?;
        let address = socket.local_addr()?;
        tracing::info!(%address, tls = access.tls().is_some(), input = name, "listening");
        Ok(Self { socket, access, slots: Arc::new(Semaphore::new(max_connections)), name })
    }

    /// Serves each connection by `serve` until `stopping`, and then waits for those that are open.
    pub(super) async fn run<F, Served>(self, stopping: watch::Receiver<bool>, serve: F)
    where
        F: Fn(Box<dyn Stream>, Sender) -> Served + Clone + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                () = stopped(stopping.clone()) => break,
            };
            while connections.try_join_next().is_some() {}
            let Some((stream, peer, slot)) = accepted else { continue };
            let (tls, name, serve) = (self.access.tls().cloned(), self.name, serve.clone());
            connections.spawn(async move {
                metrics::gauge!("watchbell_input_connections", "input" => name).increment(1);
                if let Some((stream, sender)) = secured(stream, tls, peer, name).await {
                    serve(stream, sender).await;
                }
                metrics::gauge!("watchbell_input_connections", "input" => name).decrement(1);
                drop(slot);
            });
        }
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    /// The next connection of somebody who may connect.
    async fn accept(&self) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let (stream, peer) = match self.socket.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                // Out of file descriptors, mostly: it passes when connections end.
                tracing::warn!(%error, input = self.name, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                return None;
            }
        };
        if !self.access.allows(peer) {
            metrics::counter!("watchbell_input_refused_total", "input" => self.name, "reason" => "address")
                .increment(1);
            tracing::warn!(%peer, input = self.name, "refused a connection: the address is not in allow");
            return None;
        }
        let _ = stream.set_nodelay(true);
        // a peer that vanished must not hold its connection for ever
        let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
        Some((stream, peer, slot))
    }
}

/// The connection once its TLS handshake is done.
async fn secured(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    peer: IpAddr,
    name: &'static str,
) -> Option<(Box<dyn Stream>, Sender)> {
    let Some(tls) = tls else { return Some((Box::new(stream), Sender { peer, certificate: None })) };
    let error = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.silent_acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = ClientCertificate::of(stream.get_ref().1).map(Arc::new);
            return Some((Box::new(stream), Sender { peer, certificate }));
        }
        Ok(Err(error)) => error,
        Err(_) => std::io::ErrorKind::TimedOut.into(),
    };
    metrics::counter!("watchbell_input_refused_total", "input" => name, "reason" => "tls").increment(1);
    if tls::refused_certificate(&error) {
        tracing::warn!(%peer, input = name, %error, "refused a connection for its client certificate");
    } else {
        tracing::debug!(%peer, input = name, %error, "TLS handshake failed");
    }
    None
}
