//! A small HTTP server that answers as the test says and keeps what it was sent.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) at: Instant,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The ids of the alerts that a webhook body lists.
    pub(super) fn alerts(&self) -> Vec<String> {
        let body = self.json();
        let alerts = body["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| alert["watchbell"]["alert_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// How a request is answered.
pub(super) enum Answer {
    /// This status line, these headers, this body.
    Status(&'static str, &'static str, &'static str),
    /// Never.
    Hang,
    /// With a success whose body does not end.
    Endless,
    /// By closing the connection.
    Close,
}

pub(super) const TOO_LARGE: Answer = Answer::Status("413 Content Too Large", "", "too large");
pub(super) const OK: Answer = Answer::Status("200 OK", "", "ok");

#[derive(Clone)]
pub(super) struct Server {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers the n-th request (from 0) as `answer` says.
    pub(super) async fn start(answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(answer, None).await
    }

    pub(super) async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::serve(|_, _| OK, Some(acceptor)).await
    }

    async fn serve(
        answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, requests: Arc::default() };
        let (shared, answer) = (server.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, answer, tls) = (shared.clone(), Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    let answer = move |request: Request| {
                        let mut requests = shared.requests.lock().unwrap();
                        requests.push(request);
                        answer(requests.len() - 1, requests.last().unwrap())
                    };
                    match tls {
                        None => converse(stream, answer).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => converse(stream, answer).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook/token-5f9c2d71", self.port)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// Reads requests of one connection and answers them until either side has enough.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut answer: impl FnMut(Request) -> Answer,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let request = read(&mut stream).await?;
        match answer(request) {
            Answer::Status(status, headers, body) => {
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
                stream.write_all(head.as_bytes()).await.ok()?;
            }
            Answer::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
            Answer::Endless => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
                stream.write_all(head.as_bytes()).await.ok()?;
                loop {
                    stream.write_all(&[b'x'; 65536]).await.ok()?;
                }
            }
            Answer::Close => return None,
        }
    }
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Request> {
    let mut first = String::new();
    stream.read_line(&mut first).await.ok().filter(|read| *read > 0)?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { at: Instant::now(), path, headers, body: String::from_utf8(body).ok()? })
}
