//! Sending messages to people and systems. The set of receivers is closed: email, Slack, webhook.

mod email;
mod guard;
mod http;
pub(crate) mod message;
mod secret;
mod signature;
mod slack;
mod text;
mod webhook;

use std::num::NonZeroU32;
use std::time::Duration;

use watchbell_event::Timestamp;

pub use email::{EmailConfig, SmtpSecurity};
pub use guard::Guard;
pub use http::HttpConfig;
pub use secret::Secret;
pub use slack::SlackConfig;
pub use webhook::WebhookConfig;

pub(crate) use text::time;

use message::Message;

/// How often a receiver may be sent something. What exceeds it waits and is merged into one message.
#[derive(Clone, Copy, Debug)]
pub struct QuotaConfig {
    /// How many messages may follow each other at once.
    pub burst: NonZeroU32,
    /// After how long one more is allowed.
    pub per_message_ms: u64,
}

/// A receiver as configured.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// The name that routes use.
    pub name: String,
    /// What it is and where.
    pub kind: ReceiverKind,
    /// How often it may be sent something; absent for what suits its kind.
    pub quota: Option<QuotaConfig>,
    /// How long an alert below critical waits for others to join its message; absent for what suits its
    /// kind.
    pub group_wait_ms: Option<u64>,
}

/// What a receiver is.
#[derive(Clone, Debug)]
pub enum ReceiverKind {
    /// Mail over SMTP.
    Email(EmailConfig),
    /// A Slack incoming webhook.
    Slack(SlackConfig),
    /// Any HTTP endpoint that takes Alertmanager's webhook body.
    Webhook(WebhookConfig),
}

/// Why a receiver's configuration was refused. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The address is not an absolute http or https URL.
    #[error("the URL is not an absolute http or https URL")]
    Url,
    /// The address is link-local or a cloud's metadata service.
    #[error("the URL leads to a link-local or metadata address, which is not allowed")]
    Forbidden,
    /// The certificate authorities cannot be read.
    #[error("the certificate authorities are not PEM certificates")]
    Certificates,
    /// The signing secret is not of the form `whsec_BASE64`.
    #[error("a signing secret is written as whsec_ and 24 to 64 bytes in base64")]
    SigningSecret,
    /// An address of a person is not one.
    #[error("{0:?} is not a mail address")]
    Address(String),
    /// Nobody to send to, or too many.
    #[error("a mail goes to 1 to 100 addresses")]
    Recipients,
    /// No mail server.
    #[error("the mail server's name is empty")]
    Host,
    /// A password would cross the network in plain text.
    #[error("a password is not sent without TLS; use starttls or tls")]
    PlainPassword,
    /// The HTTP or TLS library refused.
    #[error("failed to set the receiver up: {0}")]
    Setup(String),
    /// A name is empty or too long.
    #[error("a receiver's name has 1 to 100 bytes")]
    Name,
    /// A quota without time between messages is none.
    #[error("the time per message is zero")]
    Quota,
}

/// A receiver that was checked and can be sent to.
#[derive(Debug)]
pub struct Receiver {
    pub(crate) name: String,
    pub(crate) notifier: Notifier,
    pub(crate) quota: governor::Quota,
    pub(crate) group_wait_ms: u64,
}

/// The closed set of ways to send.
#[derive(Debug)]
pub(crate) enum Notifier {
    Email(Box<email::Email>),
    Slack(slack::Slack),
    Webhook(webhook::Webhook),
}

/// What a message needs besides its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) receiver: &'a str,
    pub(crate) external_url: Option<&'a str>,
    pub(crate) now: Timestamp,
}

/// What came of one attempt, in words without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver took it.
    Delivered(String),
    /// It may work later, not before the time the receiver asked for.
    Later { detail: String, not_before: Option<Timestamp> },
    /// The receiver takes no message of this size; with fewer alerts it may.
    TooLarge(String),
    /// The receiver refused this message for good.
    Refused(String),
    /// The receiver is gone for good.
    Gone(String),
}

impl Receiver {
    /// Checks a configuration. Nothing is sent yet.
    ///
    /// # Errors
    /// The first problem, see [`ReceiverError`].
    pub fn new(config: ReceiverConfig) -> Result<Self, ReceiverError> {
        let name = config.name;
        if name.is_empty() || name.len() > 100 {
            return Err(ReceiverError::Name);
        }
        // Per kind: (burst, time per message, wait for others). People get fewer, fuller messages.
        let (notifier, burst, per_message_ms, group_wait_ms) = match config.kind {
            ReceiverKind::Email(email) => {
                (Notifier::Email(Box::new(email::Email::new(email)?)), 10, 60_000, 5_000)
            }
            ReceiverKind::Slack(slack) => (Notifier::Slack(slack::Slack::new(slack)?), 3, 2_000, 5_000),
            ReceiverKind::Webhook(webhook) => {
                (Notifier::Webhook(webhook::Webhook::new(webhook)?), 100, 50, 0)
            }
        };
        let default = QuotaConfig { burst: NonZeroU32::MIN.saturating_add(burst - 1), per_message_ms };
        let quota = config.quota.unwrap_or(default);
        let quota = governor::Quota::with_period(Duration::from_millis(quota.per_message_ms))
            .ok_or(ReceiverError::Quota)?
            .allow_burst(quota.burst);
        Ok(Self { name, notifier, quota, group_wait_ms: config.group_wait_ms.unwrap_or(group_wait_ms) })
    }

    /// The name that routes use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Notifier {
    pub(crate) async fn send(&self, message: &Message, context: Context<'_>) -> Outcome {
        match self {
            Self::Email(email) => email.send(message, context).await,
            Self::Slack(slack) => slack.send(message, context).await,
            Self::Webhook(webhook) => webhook.send(message, context).await,
        }
    }

    /// How many alerts one message takes.
    pub(crate) fn max_alerts(&self) -> u64 {
        match self {
            Self::Email(_) | Self::Webhook(_) => 1_000,
            Self::Slack(_) => 10_000,
        }
    }

    /// How many alerts of a message fit into what is sent, counted from its first.
    pub(crate) fn fitting(&self, message: &Message, context: Context<'_>) -> u64 {
        match self {
            Self::Webhook(_) => webhook::fitting(message, context),
            Self::Email(_) | Self::Slack(_) => message.total,
        }
    }

    /// How many of them it shows one by one; the others are counted by rule.
    pub(crate) fn max_listed(&self) -> u64 {
        match self {
            Self::Email(_) | Self::Webhook(_) => 1_000,
            Self::Slack(_) => slack::MAX_LISTED,
        }
    }
}
