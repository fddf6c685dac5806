//! The webhook receiver that alerts are sent to. It notes when the first message about each probe arrives.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};

use super::probe;

/// Larger messages are not read.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// A running receiver; it ends with the runtime.
#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    arrivals: Arc<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    probes: Mutex<HashMap<String, Instant>>,
    messages: AtomicU64,
}

impl Sink {
    pub(crate) async fn start() -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to listen for alerts")?;
        let sink = Self { address: listener.local_addr()?, arrivals: Arc::default() };
        let arrivals = Arc::clone(&sink.arrivals);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&arrivals)));
            }
        });
        Ok(sink)
    }

    /// When the first alert about the probe arrived.
    pub(crate) fn arrival(&self, probe: &str) -> Option<Instant> {
        self.arrivals.probes.lock().unwrap_or_else(PoisonError::into_inner).get(probe).copied()
    }

    /// How many messages arrived in all.
    pub(crate) fn messages(&self) -> u64 {
        self.arrivals.messages.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, arrivals: Arc<Arrivals>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let arrivals = Arc::clone(&arrivals);
        async move {
            let body = Limited::new(request.into_body(), MAX_MESSAGE_BYTES).collect().await;
            if let Ok(body) = body {
                arrivals.note(&body.to_bytes());
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    // A connection that breaks is opened again by the sender.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

impl Arrivals {
    fn note(&self, message: &[u8]) {
        let now = Instant::now();
        self.messages.fetch_add(1, Ordering::Relaxed);
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        for at in memmem::find_iter(message, probe::PREFIX) {
            let name = message.get(at..at + probe::NAME_BYTES).map(String::from_utf8_lossy);
            if let Some(name) = name {
                probes.entry(name.into_owned()).or_insert(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::Connection;
    use super::*;

    #[tokio::test]
    async fn the_first_message_about_a_probe_counts() {
        let sink = Sink::start().await.unwrap();
        let mut connection = Connection::open(sink.address, "").await.unwrap();
        let [first, second, absent] = [1, 2, 3].map(probe::name);
        for body in [format!("x{first}y {second}"), first.clone()] {
            let (status, _) = connection.send(hyper::Method::POST, "/", body.into()).await.unwrap();
            assert!(status.is_success());
        }
        let arrival = sink.arrival(&first).unwrap();
        assert!(arrival <= Instant::now());
        assert_eq!(sink.arrival(&second), Some(arrival));
        assert_eq!(sink.arrival(&absent), None);
        assert_eq!(sink.messages(), 2);
    }
}
