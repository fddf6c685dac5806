//! The HTTP client behind the commands that talk to a server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use reqwest::{Certificate, Identity, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;

use crate::files;
use crate::http::NEXT_CURSOR;

/// Which server to talk to, and as whom.
#[derive(clap::Args)]
pub(crate) struct ServerArgs {
    /// The server's address.
    #[arg(long, env = "WATCHBELL_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    server: String,
    #[command(flatten)]
    access: AccessArgs,
}

/// As whom to talk to a server, and by what to know it.
#[derive(clap::Args)]
pub(crate) struct AccessArgs {
    /// A file that holds a token. Without it the variable WATCHBELL_TOKEN may hold the token itself; else it is
    /// ./watchbell-data/admin.token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A file with the certificate authority of the server, in PEM.
    #[arg(long, env = "WATCHBELL_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A file with a client certificate and its private key, in PEM, where the server asks for one.
    #[arg(long, env = "WATCHBELL_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
}

/// A body to be posted.
pub(crate) struct Upload {
    pub(crate) body: bytes::Bytes,
    pub(crate) content_type: &'static str,
    pub(crate) key: Option<String>,
}

/// One server, reached with one token.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server that asks to wait is asked again.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
/// Where a server that was started here has put its first token.
const DEFAULT_TOKEN_FILE: &str = "./watchbell-data/admin.token";
const MAX_TOKEN_BYTES: u64 = 4 << 10;
const MAX_PEM_BYTES: u64 = 1 << 20;

impl ServerArgs {
    pub(crate) fn client(&self) -> Result<Client> {
        self.access.client(&self.server)
    }
}

impl AccessArgs {
    /// A client of the server at this address.
    pub(crate) fn client(&self, server: &str) -> Result<Client> {
        let token = self.token()?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("watchbell/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT);
        if let Some(file) = &self.ca_file {
            let certificates = Certificate::from_pem_bundle(&files::read(file, MAX_PEM_BYTES)?)
                .with_context(|| format!("failed to read certificates from {}", file.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(file) = &self.client_cert {
            let identity = Identity::from_pem(&files::read(file, MAX_PEM_BYTES)?).with_context(|| {
                format!("failed to read a client certificate and its key from {}", file.display())
            })?;
            builder = builder.identity(identity);
        }
        let base = server.trim_end_matches('/').to_owned();
        Ok(Client { http: builder.build()?, base, token: token.trim().to_owned() })
    }

    fn token(&self) -> Result<String> {
        if let Some(file) = &self.token_file {
            return files::read_text(file, MAX_TOKEN_BYTES);
        }
        std::env::var("WATCHBELL_TOKEN").or_else(|_| {
            files::read_text(Path::new(DEFAULT_TOKEN_FILE), MAX_TOKEN_BYTES)
                .context("no token: set WATCHBELL_TOKEN, or name a file with --token-file")
        })
    }
}

impl Client {
    /// Reads JSON.
    ///
    /// # Errors
    /// What the server said, or why it was not reached.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        let response = self.send(self.request(path, query)).await?;
        let status = response.status();
        let body = response.bytes().await.context("failed to read the server's answer")?;
        if status.is_success() {
            return serde_json::from_slice(&body).context("the server's answer is not JSON");
        }
        bail!("{}", refusal(status, &body))
    }

    /// Reads a page of lines, and where the next one begins. Asks again while the server is too busy.
    ///
    /// # Errors
    /// What the server said, or why it was not reached.
    pub(crate) async fn page(&self, path: &str, query: &[(&str, String)]) -> Result<(Bytes, Option<String>)> {
        let started = Instant::now();
        loop {
            let response = self.send(self.request(path, query)).await?;
            let (status, wait) = (response.status(), asks_to_wait(&response));
            let cursor = response.headers().get(NEXT_CURSOR).and_then(|cursor| cursor.to_str().ok());
            let cursor = cursor.map(str::to_owned);
            let body = response.bytes().await.context("failed to read the server's answer")?;
            match wait {
                _ if status.is_success() => return Ok((body, cursor)),
                Some(wait) if started.elapsed() < GIVE_UP_AFTER => tokio::time::sleep(wait).await,
                _ => bail!("{}", refusal(status, &body)),
            }
        }
    }

    /// Posts a body and returns the answer whatever its status. A body with the same key is stored once.
    pub(crate) async fn post(&self, path: &str, upload: &Upload) -> Result<Response> {
        let mut request = self.http.post(format!("{}{path}", self.base)).body(upload.body.clone());
        if let Some(key) = &upload.key {
            request = request.header("idempotency-key", key);
        }
        self.send(request.header("content-type", upload.content_type)).await
    }

    fn request(&self, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        self.http.get(format!("{}{path}?{query}", self.base))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.bearer_auth(&self.token).send().await.with_context(|| {
            format!("failed to reach {}; is the server running? (--server, WATCHBELL_URL)", self.base)
        })
    }
}

/// How long the server asks to wait before the same request is made again, if it does.
pub(crate) fn asks_to_wait(response: &Response) -> Option<Duration> {
    let busy = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds =
        response.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    busy.then(|| Duration::from_secs(seconds.unwrap_or(1).clamp(1, 60)))
}

/// What the server said when it refused.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> String {
    let message = serde_json::from_slice::<Value>(body).ok();
    let message = message.as_ref().and_then(|body| body.pointer("/error/message")?.as_str());
    format!("the server answered {status}: {}", message.unwrap_or("(no reason given)"))
}

/// Runs one command's requests.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
