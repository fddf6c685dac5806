//! The HTTP client of Slack and webhook receivers: no redirects, no proxy, every step under a time limit,
//! answers read to a bound, addresses checked after resolution.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use watchbell_event::Timestamp;

use super::guard::Guard;
use super::text::one_line;
use super::{Outcome, ReceiverError, Secret};

/// How much of an answer is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;
/// How much of it is kept in the history of attempts, in bytes.
const SHOWN_ANSWER_BYTES: usize = 200;
/// How long a connection is kept for the next message; servers tend to close them soon after.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// The longest wait a receiver can ask for; what is beyond was hardly meant.
const MAX_RETRY_AFTER_MICROS: i64 = 6 * 60 * 60 * 1_000_000;

/// How an HTTP receiver is reached.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where to. Part of the secret: whoever knows it can send.
    pub url: Secret,
    /// The longest a whole attempt takes.
    pub timeout_ms: u64,
    /// Certificate authorities to trust besides the machine's, in PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Which addresses may be sent to.
    pub guard: Guard,
}

impl HttpConfig {
    /// The defaults for an address.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self { url, timeout_ms: 10_000, extra_ca_pem: None, guard: Guard::default() }
    }
}

/// A client for one address.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    secret: Secret,
    url: SecretUrl,
}

/// Shows nothing of itself.
struct SecretUrl(Url);

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretUrl")
    }
}

impl HttpClient {
    pub(crate) fn new(config: HttpConfig) -> Result<Self, ReceiverError> {
        let url = Url::parse(config.url.expose()).map_err(|_| ReceiverError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ReceiverError::Url);
        }
        let allowed = match url.host().ok_or(ReceiverError::Url)? {
            url::Host::Domain(_) => true,
            url::Host::Ipv4(address) => config.guard.allows(address.into()),
            url::Host::Ipv6(address) => config.guard.allows(address.into()),
        };
        if !allowed {
            return Err(ReceiverError::Forbidden);
        }
        let timeout = Duration::from_millis(config.timeout_ms);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(config.extra_ca_pem.as_deref())?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Resolver(config.guard))
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .user_agent("watchbell")
            .http1_only()
            .build()
            .map_err(|error| ReceiverError::Setup(error.without_url().to_string()))?;
        Ok(Self { client, secret: config.url, url: SecretUrl(url) })
    }

    /// Posts a JSON body and says what came of it.
    pub(crate) async fn post(&self, headers: HeaderMap, body: Vec<u8>, now: Timestamp) -> Outcome {
        let request = self.client.post(self.url.0.clone()).headers(headers).body(body);
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/json");
        match request.send().await {
            Ok(response) => self.judge(response, now).await,
            Err(error) => Outcome::Later { detail: self.describe(error), not_before: None },
        }
    }

    async fn judge(&self, response: reqwest::Response, now: Timestamp) -> Outcome {
        let status = response.status();
        let not_before =
            response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
        let answer = self.secret.redact(&answer(response).await);
        let detail = one_line(&format!("HTTP {} {answer}", status.as_u16()), SHOWN_ANSWER_BYTES);
        match status {
            _ if status.is_success() => Outcome::Delivered(detail),
            StatusCode::GONE => Outcome::Gone(detail),
            StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge(detail),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Outcome::Later { detail, not_before }
            }
            _ if status.is_server_error() => Outcome::Later { detail, not_before },
            _ if status.is_redirection() => {
                Outcome::Refused(format!("HTTP {}: redirects are not followed", status.as_u16()))
            }
            _ => Outcome::Refused(detail),
        }
    }

    fn describe(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        let mut detail = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        one_line(&self.secret.redact(&detail), SHOWN_ANSWER_BYTES)
    }
}

/// Resolves names under the guard, for each connection anew, so that a name cannot change its address
/// between check and use.
struct Resolver(Guard);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let guard = self.0;
        Box::pin(async move {
            let addresses = guard.resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// TLS that trusts the machine's authorities and the given ones.
fn tls(extra_ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, ReceiverError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in extra_ca_pem.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let certificate = certificate.map_err(|_| ReceiverError::Certificates)?;
        roots.add(certificate).map_err(|_| ReceiverError::Certificates)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ReceiverError::Setup(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The beginning of an answer's text.
async fn answer(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    bytes.truncate(MAX_ANSWER_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// When a receiver wants the next attempt: `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Timestamp> {
    let value = value.trim();
    let wanted = match value.parse::<i64>() {
        Ok(seconds) => now.plus_micros(seconds.checked_mul(1_000_000).unwrap_or(i64::MAX)),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
            Timestamp::from_micros(i64::try_from(since.as_micros()).ok()?)
        }
    };
    Some(wanted.clamp(now, now.plus_micros(MAX_RETRY_AFTER_MICROS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_takes_seconds_and_dates_within_reason() {
        let now: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
        for (value, expect) in [
            ("120", Some("2026-01-31T08:02:00Z")),
            (" 0 ", Some("2026-01-31T08:00:00Z")),
            ("-5", Some("2026-01-31T08:00:00Z")),
            ("99999999999999", Some("2026-01-31T14:00:00Z")),
            ("Sat, 31 Jan 2026 08:00:30 GMT", Some("2026-01-31T08:00:30Z")),
            ("Sat, 31 Jan 2015 08:00:30 GMT", Some("2026-01-31T08:00:00Z")),
            ("soon", None),
            ("", None),
        ] {
            let expect = expect.map(|time| time.parse().unwrap());
            assert_eq!(retry_after(value, now), expect, "{value}");
        }
    }

    #[test]
    fn neither_configuration_nor_client_shows_the_address() {
        let config = HttpConfig::new(Secret::new("https://eve:hunter2@hooks.example/token-5f9c2d71"));
        let shown = format!("{config:?} {:?}", HttpClient::new(config.clone()).unwrap());
        assert!(!shown.contains("token-5f9c2d71") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn addresses_that_must_not_be_reached_are_refused_when_configured() {
        for (url, allowed) in [
            ("https://hooks.example/x", true),
            ("http://127.0.0.1:9/", true),
            ("http://169.254.169.254/latest", false),
            ("http://2852039166/latest", false),
            ("http://0xa9fe.0xa9fe/latest", false),
            ("http://[fe80::1]/", false),
            ("http://[::ffff:a9fe:a9fe]/", false),
            ("ftp://hooks.example/", false),
            ("hooks.example", false),
        ] {
            assert_eq!(HttpClient::new(HttpConfig::new(Secret::new(url))).is_ok(), allowed, "{url}");
        }
    }
}
