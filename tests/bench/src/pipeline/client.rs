//! One keep-alive HTTP/1.1 connection to the server, as an API server holds it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Larger answers are not read.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// An API server gives up after 30 s.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that sends one request after the other.
pub(crate) struct Connection {
    address: SocketAddr,
    authorization: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("failed to reach {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what goes wrong is seen by the request.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { address, authorization: format!("Bearer {token}"), sender })
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        self.send_as(method, path, "application/json", body).await
    }

    /// The same, with a body of another kind. What names no cluster itself belongs to the cluster `bench`.
    pub(crate) async fn send_as(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        if self.sender.is_closed() {
            // The server ends connections that were idle for long.
            self.sender = dial(self.address).await?;
        }
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, content_type)
            .header("watchbell-cluster", "bench")
            .body(Full::new(body))?;
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("failed to read the answer: {error}"))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("no answer to {path} within {TIMEOUT:?}"))?
            .with_context(|| format!("failed to send {path}"))
    }

    /// Reads a JSON document.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        let (status, body) = self.send(Method::GET, path, Bytes::new()).await?;
        ensure!(
            status.is_success(),
            "the server answered {status} to {path}: {}",
            String::from_utf8_lossy(&body)
        );
        serde_json::from_slice(&body).with_context(|| format!("the answer to {path} is not JSON"))
    }
}

async fn dial(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("failed to reach {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the sender; what goes wrong is seen by the request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
