//! Routes that senders bring events on: a server of its own for each, a few connections that send as fast as they are
//! answered, and then the wait until all of it is evaluated and can be searched.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use watchbell_ingest::decode::logs::ack;

use super::lines::{LINES_PER_BATCH, line};
use super::report::Row;
use super::{Route, encode, watch};
use crate::clock;
use crate::generator::Generator;
use crate::pipeline::client::Connection;
use crate::pipeline::server::{self, Server, free_address};
use crate::random::Random;

const CONNECTIONS: u64 = 4;
/// What is refused under pressure is sent again after this long.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
const GRPC_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// The status of gRPC for "later".
const RESOURCE_EXHAUSTED: &str = "8";

/// Measures one route for so long.
pub(super) async fn run(route: Route, binary: &Path, parent: &Path, length: Duration) -> Result<Row> {
    let dir = tempfile::tempdir_in(parent)?;
    let (forward, syslog) = (free_address()?, free_address()?);
    let config = format!(
        "forward: {{listen: '{forward}', cluster: bench}}\nsyslog: {{listen_tcp: '{syslog}', cluster: bench}}\n"
    );
    let server = Server::start_with(binary, dir.path(), &config).await?;
    let measured = through(route, &server, [forward, syslog], length).await;
    let row = measured.map_err(|error| error.context(server::log_tail(dir.path())))?;
    server.stop().await?;
    Ok(row)
}

async fn through(
    route: Route,
    server: &Server,
    [forward, syslog]: [SocketAddr; 2],
    length: Duration,
) -> Result<Row> {
    let generator = match route {
        Route::Audit => Some(Generator::new(1, None)?),
        _ => None,
    };
    let load = Arc::new(Load {
        generator: generator.map(Mutex::new),
        events: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        until: Instant::now() + length,
    });
    let watch = watch::Watch::begin(server).await?;
    let mut senders = JoinSet::new();
    for number in 0..CONNECTIONS {
        let sender = Sender::connect(route, server, [forward, syslog]).await?;
        senders.spawn(send(sender, route, number, Arc::clone(&load)));
    }
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    let (events, bytes) = (load.events.load(Ordering::Relaxed), load.bytes.load(Ordering::Relaxed));
    watch.finish(route, events, bytes).await
}

struct Load {
    /// Makes audit events.
    generator: Option<Mutex<Generator>>,
    events: AtomicU64,
    bytes: AtomicU64,
    until: Instant,
}

impl Load {
    /// The next batch, and how many events it holds.
    fn next(&self, route: Route, random: &mut Random) -> (Vec<u8>, u64) {
        if let Some(generator) = &self.generator {
            let mut generator = generator.lock().unwrap_or_else(PoisonError::into_inner);
            let load = generator.next(clock::now());
            let events = load.len() as u64;
            return (load.body, events);
        }
        let lines: Vec<String> = (0..LINES_PER_BATCH).map(|_| line(random.next())).collect();
        let body = match route {
            Route::LogsPlain => encode::plain(&lines),
            Route::Bulk => encode::bulk(&lines),
            Route::OtlpHttp => encode::otlp(&lines),
            Route::OtlpGrpc => encode::grpc(&lines),
            Route::Syslog => encode::syslog(&lines),
            Route::Forward => encode::forward(&lines, format!("{:016x}", random.next()).as_bytes()),
            _ => encode::ndjson(&lines),
        };
        (body, lines.len() as u64)
    }
}

async fn send(mut sender: Sender, route: Route, number: u64, load: Arc<Load>) -> Result<()> {
    let mut random = Random::new(number);
    while Instant::now() < load.until {
        let (body, events) = load.next(route, &mut random);
        let bytes = body.len() as u64;
        sender.send(route, body.into()).await?;
        load.events.fetch_add(events, Ordering::Relaxed);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    sender.end().await
}

/// One connection.
enum Sender {
    Http(Connection),
    Grpc { sender: http2::SendRequest<Full<Bytes>>, authorization: String, address: SocketAddr },
    Syslog(TcpStream),
    Forward(TcpStream),
}

impl Sender {
    async fn connect(route: Route, server: &Server, [forward, syslog]: [SocketAddr; 2]) -> Result<Self> {
        Ok(match route {
            Route::Syslog => Self::Syslog(TcpStream::connect(syslog).await?),
            Route::Forward => Self::Forward(TcpStream::connect(forward).await?),
            Route::OtlpGrpc => {
                let stream = TcpStream::connect(server.address).await?;
                stream.set_nodelay(true)?;
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                // it ends with the sender; what goes wrong is seen by the request
                tokio::spawn(async move {
                    let _ = connection.await;
                });
                let authorization = format!("Bearer {}", server.token);
                Self::Grpc { sender, authorization, address: server.address }
            }
            _ => Self::Http(server.connect().await?),
        })
    }

    /// Sends until it is taken.
    async fn send(&mut self, route: Route, body: Bytes) -> Result<()> {
        loop {
            let taken = match self {
                Self::Http(connection) => post(connection, route, body.clone()).await?,
                Self::Grpc { sender, authorization, address } => {
                    call(sender, *address, authorization, body.clone()).await?
                }
                Self::Syslog(stream) => {
                    stream.write_all(&body).await?;
                    true
                }
                Self::Forward(stream) => forward(stream, &body).await?,
            };
            if taken {
                return Ok(());
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    async fn end(self) -> Result<()> {
        if let Self::Syslog(mut stream) | Self::Forward(mut stream) = self {
            stream.shutdown().await?;
        }
        Ok(())
    }
}

/// True if it was taken, false if it is to come again later.
async fn post(connection: &mut Connection, route: Route, body: Bytes) -> Result<bool> {
    let (path, content_type) = match route {
        Route::Audit => ("/ingest/audit/bench", "application/json"),
        Route::LogsPlain => ("/ingest/logs/bench", "text/plain"),
        Route::Bulk => ("/elasticsearch/_bulk", "application/x-ndjson"),
        Route::OtlpHttp => ("/v1/logs", "application/x-protobuf"),
        _ => ("/ingest/logs/bench", "application/x-ndjson"),
    };
    let (status, answer) = connection.send_as(Method::POST, path, content_type, body).await?;
    match status {
        StatusCode::OK => Ok(true),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Ok(false),
        other => bail!("{path} was answered {other}: {}", String::from_utf8_lossy(&answer)),
    }
}

async fn call(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    authorization: &str,
    body: Bytes,
) -> Result<bool> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}{GRPC_PATH}"))
        .header(header::AUTHORIZATION, authorization)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header("watchbell-cluster", "bench")
        .header("te", "trailers")
        .body(Full::new(body))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    // an answer without a message has its status among the headers
    let mut status = response.headers().get("grpc-status").cloned();
    let collected = response.into_body().collect().await?;
    status = status.or_else(|| collected.trailers()?.get("grpc-status").cloned());
    match status.as_ref().and_then(|status| status.to_str().ok()) {
        Some("0") => Ok(true),
        Some(RESOURCE_EXHAUSTED) => Ok(false),
        other => bail!("the call was answered {other:?}"),
    }
}

async fn forward(stream: &mut TcpStream, body: &Bytes) -> Result<bool> {
    const CHUNK_BYTES: usize = 16;
    let chunk = body.last_chunk::<CHUNK_BYTES>().context("no chunk")?;
    let expect = ack(chunk);
    stream.write_all(body).await?;
    let mut answer = vec![0; expect.len()];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == expect, "another chunk was acknowledged");
    Ok(true)
}
