//! Accepts connections of one protocol, with TLS or without, from those who may connect.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::config::{AccessConfig, TlsConfig};
use crate::files;
use crate::http::listener;
use crate::pipeline::stopped;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_PEM_BYTES: u64 = 1 << 20;

/// What a connection is made of, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A bound address and who may connect to it.
pub(super) struct StreamListener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    allow: Vec<IpNet>,
    slots: Arc<Semaphore>,
    /// For metrics.
    name: &'static str,
}

impl StreamListener {
    /// Binds an address for the protocol `name`. With `tls`, the certificate is that of HTTP.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub(super) async fn bind(
        name: &'static str,
        address: SocketAddr,
        tls: Option<&TlsConfig>,
        access: &AccessConfig,
        max_connections: usize,
    ) -> Result<Self> {
        let socket = TcpListener::bind(address).await.with_context(|| {
            format!("failed to listen on {address} for {name} (is another server running?)")
        })?;
        let tls = tls.map(|tls| acceptor(tls, access.client_ca_file.as_deref())).transpose()?;
        tracing::info!(%address, tls = tls.is_some(), input = name, "listening");
        let (allow, slots) = (access.allow.clone(), Arc::new(Semaphore::new(max_connections)));
        Ok(Self { socket, tls, allow, slots, name })
    }

    /// Serves each connection by `serve` until `stopping`, and then waits for those that are open.
    pub(super) async fn run<F, Served>(self, stopping: watch::Receiver<bool>, serve: F)
    where
        F: Fn(Box<dyn Stream>, IpAddr) -> Served + Clone + Send + 'static,
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
            let (tls, name, serve) = (self.tls.clone(), self.name, serve.clone());
            connections.spawn(async move {
                metrics::gauge!("watchbell_input_connections", "input" => name).increment(1);
                if let Some(stream) = secured(stream, tls, peer, name).await {
                    serve(stream, peer).await;
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
        if !is_allowed(&self.allow, peer) {
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

/// Whether an address may send; without a list, everybody may who can connect.
pub(super) fn is_allowed(allow: &[IpNet], peer: IpAddr) -> bool {
    allow.is_empty() || allow.iter().any(|network| network.contains(&peer))
}

/// The connection once its TLS handshake is done.
async fn secured(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    peer: IpAddr,
    name: &'static str,
) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else { return Some(Box::new(stream)) };
    let reason = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    metrics::counter!("watchbell_input_refused_total", "input" => name, "reason" => "tls").increment(1);
    tracing::warn!(%peer, input = name, reason, "TLS handshake failed");
    None
}

/// With the certificate of HTTP; senders must have one of `client_ca` if that is given.
fn acceptor(tls: &TlsConfig, client_ca: Option<&Path>) -> Result<TlsAcceptor> {
    let verifier = client_ca.map(verifier).transpose()?;
    Ok(TlsAcceptor::from(Arc::new(listener::tls_config(tls, verifier)?)))
}

fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>> {
    let pem = files::read(path, MAX_PEM_BYTES)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added =
            certificate.map_err(anyhow::Error::from).and_then(|certificate| Ok(roots.add(certificate)?));
        added.with_context(|| format!("failed to read certificates from {}", path.display()))?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots))
        .build()
        .with_context(|| format!("failed to check clients by {}", path.display()))
}
