//! Mail over SMTP, one connection per message.

mod compose;

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use super::guard::Guard;
use super::message::Message;
use super::text::one_line;
use super::{Context, Outcome, ReceiverError, Secret};

/// Most people one message goes to.
const MAX_RECIPIENTS: usize = 100;
/// How much of a server's answer is kept in the history of attempts, in bytes.
const SHOWN_ANSWER_BYTES: usize = 300;
/// For how long all recipients wait for one that the server puts off; then the others get the message.
const MAX_DEFERRAL_MICROS: i64 = 15 * 60 * 1_000_000;
/// "Authentication required": about the connection, though it may come after MAIL.
const LOGIN_REQUIRED: &str = "530";
/// "Exceeded storage allocation": the message or the mailbox is too large.
const TOO_LARGE: &str = "552";

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// Begins in plain text and must be upgraded before anything is sent; usually port 587.
    StartTls,
    /// TLS from the first byte; usually port 465.
    Tls,
    /// Plain text. No password is sent this way.
    None,
}

/// A mail receiver as configured.
#[derive(Clone, Debug)]
pub struct EmailConfig {
    /// The mail server's name or address; its certificate must be for it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: SmtpSecurity,
    /// User and password, if the server wants them.
    pub login: Option<(String, Secret)>,
    /// The sender, as in `Watchbell <watchbell@example.org>`.
    pub from: String,
    /// Who receives it.
    pub to: Vec<String>,
    /// Certificate authorities to trust besides the machine's, in PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// The longest a whole attempt takes.
    pub timeout_ms: u64,
    /// Which addresses may be connected to.
    pub guard: Guard,
}

impl EmailConfig {
    /// The defaults: STARTTLS on port 587, no login, 30 s.
    #[must_use]
    pub fn new(host: &str, from: &str, to: &[&str]) -> Self {
        Self {
            host: host.to_owned(),
            port: 587,
            security: SmtpSecurity::StartTls,
            login: None,
            from: from.to_owned(),
            to: to.iter().map(|address| (*address).to_owned()).collect(),
            extra_ca_pem: None,
            timeout_ms: 30_000,
            guard: Guard::default(),
        }
    }
}

pub(crate) struct Email {
    config: EmailConfig,
    from: Mailbox,
    to: Vec<Mailbox>,
    tls: Option<TlsParameters>,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Email {
    pub(crate) fn new(config: EmailConfig) -> Result<Self, ReceiverError> {
        let mailbox = |address: &String| {
            address.parse::<Mailbox>().map_err(|_| ReceiverError::Address(address.clone()))
        };
        let from = mailbox(&config.from)?;
        let to = config.to.iter().map(mailbox).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() || to.len() > MAX_RECIPIENTS {
            return Err(ReceiverError::Recipients);
        }
        if config.host.is_empty() {
            return Err(ReceiverError::Host);
        }
        if config.security == SmtpSecurity::None && config.login.is_some() {
            return Err(ReceiverError::PlainPassword);
        }
        let literal = config.host.parse().ok();
        if literal.is_some_and(|address| !config.guard.allows(address)) {
            return Err(ReceiverError::Forbidden);
        }
        let tls = match config.security {
            SmtpSecurity::None => None,
            SmtpSecurity::StartTls | SmtpSecurity::Tls => Some(tls(&config)?),
        };
        Ok(Self { config, from, to, tls })
    }

    pub(crate) async fn send(&self, message: &Message, context: Context<'_>) -> Outcome {
        let mail = match compose::mail(message, context, &self.from, &self.to) {
            Ok(mail) => mail,
            Err(error) => return Outcome::Refused(format!("the mail could not be written: {error}")),
        };
        let timeout = Duration::from_millis(self.config.timeout_ms);
        let may_defer = context.now.micros_since(message.created_at) < MAX_DEFERRAL_MICROS;
        match tokio::time::timeout(timeout, self.deliver(&mail, may_defer)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => self.judge(&error),
            Err(_) => Outcome::Later { detail: "the mail server took too long".to_owned(), not_before: None },
        }
    }

    /// One SMTP conversation. Recipients are refused one by one: the others still get the message.
    async fn deliver(&self, mail: &[u8], may_defer: bool) -> Result<Outcome, DeliverError> {
        let mut connection = self.connect().await?;
        connection.command(Mail::new(Some(self.from.email.clone()), Vec::new())).await?;
        let (mut refused, mut deferred) = (Vec::new(), Vec::new());
        for recipient in &self.to {
            let result = connection.command(Rcpt::new(recipient.email.clone(), Vec::new())).await;
            match result {
                Ok(_) => {}
                Err(error) if error.is_permanent() => refused.push(not_told(recipient, &error)),
                Err(error) if error.is_transient() => deferred.push(not_told(recipient, &error)),
                Err(error) => return Err(error.into()),
            }
        }
        let accepted = self.to.len() - refused.len() - deferred.len();
        let not_told = self.shown(&[&deferred[..], &refused[..]].concat().join("; "));
        if !deferred.is_empty() && (accepted == 0 || may_defer) {
            connection.abort().await;
            return Ok(Outcome::Later { detail: not_told, not_before: None });
        }
        if accepted == 0 {
            connection.abort().await;
            return Ok(Outcome::Refused(not_told));
        }
        connection.command(Data).await?;
        let response = connection.message(mail).await?;
        // The server has the message; how it takes the goodbye changes nothing.
        let _ = connection.command(Quit).await;
        let answer = response.first_line().unwrap_or_default();
        Ok(Outcome::Delivered(self.shown(&format!("SMTP {} {answer} {not_told}", response.code()))))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, DeliverError> {
        let addresses = self.config.guard.resolve(&self.config.host, self.config.port).await;
        let addresses = addresses.map_err(DeliverError::Resolve)?;
        self.log_in(&addresses).await.map_err(DeliverError::Connect)
    }

    async fn log_in(&self, addresses: &[SocketAddr]) -> Result<AsyncSmtpConnection, SmtpError> {
        let hello = ClientId::default();
        let tls_at_once = self.tls.clone().filter(|_| self.config.security == SmtpSecurity::Tls);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(addresses, None, &hello, tls_at_once, None).await?;
        if let (SmtpSecurity::StartTls, Some(tls)) = (self.config.security, &self.tls) {
            connection.starttls(tls.clone(), &hello).await?;
        }
        if let Some((user, password)) = &self.config.login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    /// Only what the server says about the message is final. A refused connection or login is tried again:
    /// it is about this server's state or configuration.
    fn judge(&self, error: &DeliverError) -> Outcome {
        let detail = self.shown(&error.to_string());
        match error {
            DeliverError::Message(error) if too_large(error) => Outcome::TooLarge(detail),
            DeliverError::Message(error) if error.is_permanent() && !login_required(error) => {
                Outcome::Refused(detail)
            }
            _ => Outcome::Later { detail, not_before: None },
        }
    }

    /// A server's words, in one line and without the password, should it repeat it.
    fn shown(&self, text: &str) -> String {
        let text = match &self.config.login {
            Some((_, password)) => password.redact(text),
            None => text.to_owned(),
        };
        one_line(&text, SHOWN_ANSWER_BYTES)
    }
}

/// What can go wrong on the way to "accepted".
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error("failed to find the mail server: {0}")]
    Resolve(std::io::Error),
    #[error("failed to connect: SMTP {0}")]
    Connect(SmtpError),
    #[error("SMTP {0}")]
    Message(#[from] SmtpError),
}

fn not_told(recipient: &Mailbox, error: &SmtpError) -> String {
    format!("{}: {error}", recipient.email)
}

fn login_required(error: &SmtpError) -> bool {
    error.status().is_some_and(|code| code.to_string() == LOGIN_REQUIRED)
}

/// True if the server refuses the message for its size: 552 (RFC 5321, 4.2.3), unless an enhanced code says
/// that it means something else, such as a full mailbox (RFC 3463, 3.3 and 3.4).
fn too_large(error: &SmtpError) -> bool {
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    let enhanced = text.split_whitespace().next().filter(|word| word.starts_with("5."));
    match enhanced {
        Some(code) => error.is_permanent() && matches!(code, "5.3.4" | "5.2.3"),
        None => error.status().is_some_and(|code| code.to_string() == TOO_LARGE),
    }
}

fn tls(config: &EmailConfig) -> Result<TlsParameters, ReceiverError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(pem) = &config.extra_ca_pem {
        let certificate = Certificate::from_pem(pem).map_err(|_| ReceiverError::Certificates)?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| ReceiverError::Setup(error.to_string()))
}
