//! A generic webhook: Alertmanager's body (version 4) with fields of our own, signed as Standard Webhooks
//! specifies.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use watchbell_event::{EventId, Explanation, Timestamp};

use super::http::{HttpClient, HttpConfig};
use super::message::{Message, Notice};
use super::signature::Signer;
use super::{Context, Outcome, ReceiverError, Secret};
use crate::{AlertId, DeliveryId, Links};

/// Longest body in bytes; common receivers take 1 MiB (nginx) or 2 MB (axum) unless told otherwise.
const MAX_BODY_BYTES: usize = 1 << 20;
/// What of it is kept for everything but the alerts and what they have in common: names, ids, the subject.
const ENVELOPE_BYTES: usize = 4096;
/// What Alertmanager writes for "has not ended".
const NO_END: &str = "0001-01-01T00:00:00Z";

/// A webhook receiver as configured.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where and how.
    pub http: HttpConfig,
    /// Signing secrets, `whsec_BASE64`; several while one is being replaced, none for no signature.
    pub signing_secrets: Vec<Secret>,
}

#[derive(Debug)]
pub(crate) struct Webhook {
    client: HttpClient,
    signer: Signer,
}

impl Webhook {
    pub(crate) fn new(config: WebhookConfig) -> Result<Self, ReceiverError> {
        Ok(Self { client: HttpClient::new(config.http)?, signer: Signer::new(&config.signing_secrets)? })
    }

    pub(crate) async fn send(&self, message: &Message, context: Context<'_>) -> Outcome {
        let Ok(body) = serde_json::to_vec(&Body::new(message, context)) else {
            return Outcome::Refused("the message could not be written as JSON".to_owned());
        };
        self.client.post(self.headers(message.id, &body, context.now), body, context.now).await
    }

    /// The headers of Standard Webhooks: the id stays the same when an attempt is repeated, the time does not.
    fn headers(&self, id: DeliveryId, body: &[u8], now: Timestamp) -> HeaderMap {
        let (id, seconds) = (id.to_string(), now.as_micros().div_euclid(1_000_000));
        let signature = self.signer.sign(&id, seconds, body);
        let values = [
            ("webhook-timestamp", Some(seconds.to_string())),
            ("webhook-signature", signature),
            ("idempotency-key", Some(id.clone())),
            ("webhook-id", Some(id)),
        ];
        let header = |(name, value): (&'static str, Option<String>)| {
            Some((HeaderName::from_static(name), HeaderValue::try_from(value?).ok()?))
        };
        values.into_iter().filter_map(header).collect()
    }
}

/// How many alerts of a message fit into one body, at least one. What they have in common is a part of the
/// first, so that one is counted twice.
pub(super) fn fitting(message: &Message, context: Context<'_>) -> u64 {
    let size = |notice: &Notice| {
        serde_json::to_vec(&BodyAlert::new(notice, context.external_url)).map_or(0, |json| json.len() + 1)
    };
    let mut used = ENVELOPE_BYTES + message.notices.first().map_or(0, size);
    let fits = |notice: &&Notice| {
        used += size(notice);
        used <= MAX_BODY_BYTES
    };
    (message.notices.iter().take_while(fits).count() as u64).max(1)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: u64,
    status: &'static str,
    receiver: &'a str,
    group_labels: BTreeMap<&'a str, &'a str>,
    common_labels: BTreeMap<&'a str, &'a str>,
    common_annotations: BTreeMap<&'a str, &'a str>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<BodyAlert<'a>>,
    watchbell: BodyExtra,
}

/// What Alertmanager's body has no place for.
#[derive(Serialize)]
struct BodyExtra {
    delivery_id: DeliveryId,
    subject: String,
    total_alerts: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BodyAlert<'a> {
    status: &'static str,
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'a str, &'a str>,
    starts_at: Timestamp,
    ends_at: &'static str,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
    watchbell: AlertExtra<'a>,
}

#[derive(Serialize)]
struct AlertExtra<'a> {
    alert_id: AlertId,
    rule_id: &'a str,
    tags: &'a [String],
    count: u64,
    /// Occurrences since the last message about this alert; absent in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<u64>,
    first_event_time: Timestamp,
    last_event_time: Timestamp,
    first_received: Timestamp,
    last_received: Timestamp,
    event_ids: &'a [EventId],
    /// Why the rule matched and what to do.
    explanation: &'a Explanation,
    /// Where to look further; absent without an external URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Links>,
}

impl<'a> Body<'a> {
    fn new(message: &'a Message, context: Context<'a>) -> Self {
        let alerts: Vec<BodyAlert<'a>> =
            message.notices.iter().map(|notice| BodyAlert::new(notice, context.external_url)).collect();
        Self {
            version: "4",
            group_key: format!("{}:{}", context.receiver, message.id),
            truncated_alerts: message.beyond(alerts.len()),
            status: "firing",
            receiver: context.receiver,
            group_labels: BTreeMap::new(),
            common_labels: common(alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
            external_url: context.external_url.unwrap_or_default(),
            alerts,
            watchbell: BodyExtra {
                delivery_id: message.id,
                subject: message.subject(),
                total_alerts: message.total,
            },
        }
    }
}

impl<'a> BodyAlert<'a> {
    fn new(notice: &'a Notice, external_url: Option<&str>) -> Self {
        let alert = &notice.alert;
        let mut labels: BTreeMap<&str, &str> =
            alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        labels.extend([
            ("alertname", alert.title.as_str()),
            ("severity", alert.level.name()),
            ("cluster", alert.cluster.as_str()),
            ("rule_id", alert.rule_id.as_str()),
        ]);
        let annotations =
            BTreeMap::from([("summary", alert.title.as_str()), ("description", notice.summary())]);
        Self {
            status: "firing",
            labels,
            annotations,
            starts_at: alert.first_event_time,
            ends_at: NO_END,
            generator_url: notice.link(external_url).unwrap_or_default(),
            fingerprint: format!("{:016x}", alert.id.0.prefix()),
            watchbell: AlertExtra {
                alert_id: alert.id,
                rule_id: &alert.rule_id,
                tags: &alert.tags,
                count: alert.count,
                more: notice.more,
                first_event_time: alert.first_event_time,
                last_event_time: alert.last_event_time,
                first_received: alert.first_received,
                last_received: alert.last_received,
                event_ids: &notice.events,
                explanation: &alert.explanation,
                links: notice.links(external_url),
            },
        }
    }
}

/// What all maps say alike.
fn common<'a: 'b, 'b>(
    mut maps: impl Iterator<Item = &'b BTreeMap<&'a str, &'a str>>,
) -> BTreeMap<&'a str, &'a str> {
    let mut common = maps.next().cloned().unwrap_or_default();
    for map in maps {
        common.retain(|name, value| map.get(name) == Some(value));
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, notice};

    #[test]
    fn the_body_is_alertmanagers_with_fields_of_our_own() {
        let mut second = notice(2);
        second.alert.labels = vec![("user.name".to_owned(), "bob".to_owned())];
        second.more = Some(3);
        let mut first = notice(1);
        first.alert.explanation.next_steps = vec!["look".to_owned()];
        let mut message = message(vec![first, second]);
        message.total = 7;
        let context = Context {
            receiver: "soc",
            external_url: Some("https://watch.example"),
            now: Timestamp::default(),
        };
        let body = serde_json::to_value(Body::new(&message, context)).unwrap();
        let expect = [
            ("/version", "4".into()),
            ("/status", "firing".into()),
            ("/receiver", "soc".into()),
            ("/truncatedAlerts", 5.into()),
            ("/externalURL", "https://watch.example".into()),
            ("/commonLabels/cluster", "prod".into()),
            ("/commonLabels/user.name", serde_json::Value::Null),
            ("/commonAnnotations/summary", "Secret read".into()),
            ("/alerts/0/labels/severity", "high".into()),
            ("/alerts/0/labels/user.name", "eve".into()),
            ("/alerts/0/endsAt", NO_END.into()),
            ("/alerts/0/watchbell/more", serde_json::Value::Null),
            ("/alerts/0/watchbell/explanation/next_steps/0", "look".into()),
            ("/alerts/1/watchbell/more", 3.into()),
            ("/watchbell/total_alerts", 7.into()),
            ("/watchbell/delivery_id", message.id.to_string().into()),
        ];
        for (pointer, expect) in expect {
            assert_eq!(body.pointer(pointer).cloned().unwrap_or_default(), expect, "{pointer}");
        }
        assert!(body["alerts"][0]["generatorURL"].as_str().unwrap().starts_with("https://watch.example/"));
        let around = body["alerts"][0]["watchbell"]["links"]["around"].as_str().unwrap();
        assert!(around.starts_with("https://watch.example/api/v1/search?q=cluster"), "{around}");
    }
}
