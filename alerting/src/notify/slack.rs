//! A Slack incoming webhook: Block Kit within Slack's limits, cut between lines and blocks, never inside.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::http::{HttpClient, HttpConfig};
use super::message::{Message, Notice};
use super::text::{one_line, slack};
use super::{Context, Outcome, ReceiverError};

/// How many alerts one message shows; with header, rule counts and footer it stays far below 50 blocks.
pub(super) const MAX_LISTED: u64 = 20;
/// Longest header; Slack counts characters, of which there are never more than bytes.
const HEADER_BYTES: usize = 150;
/// Longest section.
const SECTION_BYTES: usize = 3000;
/// Longest text of all alerts together; Slack refuses messages of more than about 13,200 characters.
const ALERTS_BYTES: usize = 9000;
/// Longest line of an alert, before escaping.
const LINE_BYTES: usize = 400;
/// How many rules are counted.
const RULE_LINES: usize = 15;

/// A Slack receiver as configured. The URL of an incoming webhook is its password.
#[derive(Clone, Debug)]
pub struct SlackConfig {
    /// Where and how.
    pub http: HttpConfig,
}

#[derive(Debug)]
pub(crate) struct Slack {
    client: HttpClient,
}

impl Slack {
    pub(crate) fn new(config: SlackConfig) -> Result<Self, ReceiverError> {
        Ok(Self { client: HttpClient::new(config.http)? })
    }

    pub(crate) async fn send(&self, message: &Message, context: Context<'_>) -> Outcome {
        let body = body(message, context.external_url).to_string().into_bytes();
        self.client.post(HeaderMap::new(), body, context.now).await
    }
}

fn body(message: &Message, external_url: Option<&str>) -> Value {
    let subject = message.subject();
    let mut blocks = vec![header(&subject)];
    if message.total > 1 {
        blocks.push(section(&rule_lines(message)));
    }
    let budget = (ALERTS_BYTES / message.notices.len().max(1)).min(SECTION_BYTES);
    blocks.extend(message.notices.iter().map(|notice| section(&within(lines(notice, external_url), budget))));
    let beyond = message.beyond(message.notices.len());
    if beyond > 0 {
        blocks.push(section(&format!("*+{beyond} more alerts*, see the list of alerts.")));
    }
    let id = format!("watchbell message {}", message.id);
    blocks.push(json!({"type": "context", "elements": [{"type": "plain_text", "text": id}]}));
    json!({"text": slack(&subject), "blocks": blocks})
}

/// Headers know no markup; brackets are replaced all the same, should a client read them as one.
fn header(subject: &str) -> Value {
    let text = one_line(&subject.replace('<', "‹").replace('>', "›"), HEADER_BYTES);
    json!({"type": "header", "text": {"type": "plain_text", "text": text, "emoji": false}})
}

/// `verbatim` keeps Slack from turning names and addresses in the text into links.
fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

fn rule_lines(message: &Message) -> String {
    let shown = message.rules.iter().take(RULE_LINES);
    let mut lines: Vec<String> = shown
        .map(|rule| format!("• {} × [{}] {}", rule.alerts, rule.level, slack(&one_line(&rule.title, 100))))
        .collect();
    if message.rules.len() > RULE_LINES {
        lines.push(format!("• and {} more rules", message.rules.len() - RULE_LINES));
    }
    within(lines, SECTION_BYTES)
}

fn lines(notice: &Notice, external_url: Option<&str>) -> Vec<String> {
    let alert = &notice.alert;
    let shown = |text: &str| slack(&one_line(text, LINE_BYTES));
    let mut lines = vec![
        format!("*[{}] {}*", alert.level.name().to_uppercase(), shown(&alert.title)),
        shown(notice.summary()),
    ];
    for (caption, value) in notice.details(external_url) {
        lines.push(match caption.as_str() {
            "Link" => format!("<{}|Open in search>", slack(&value)),
            _ => format!("{}: {}", shown(&caption), shown(&value)),
        });
    }
    lines
}

/// The lines that fit into `budget` bytes; those that do not are left out whole.
fn within(lines: Vec<String>, budget: usize) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() < budget {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{message, notice};

    #[test]
    fn messages_stay_within_slacks_limits_whatever_the_alerts_say() {
        let mut long = notice(1);
        long.alert.title = "<&>".repeat(700);
        long.alert.first_summary = "é&".repeat(1000);
        long.alert.labels = (0..32).map(|n| (format!("label{n}"), "<".repeat(1024))).collect();
        for count in [1, 2, 20] {
            let mut message = message(vec![long.clone(); count]);
            message.total = 10_000;
            message.rules = vec![message.rules[0].clone(); 100];
            let body = body(&message, Some("https://watch.example"));
            let blocks = body["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50);
            assert!(blocks[0]["text"]["text"].as_str().unwrap().chars().count() <= 150);
            for block in &blocks[1..blocks.len() - 1] {
                let text = block["text"]["text"].as_str().unwrap();
                assert!((1..=3000).contains(&text.chars().count()), "{}", text.len());
            }
            assert!(body.to_string().chars().count() < 13_200, "{}", body.to_string().len());
            assert!(body.to_string().contains(&format!("+{} more alerts", 10_000 - count)));
        }
    }

    #[test]
    fn text_from_events_makes_no_mentions_and_no_links() {
        let mut evil = notice(1);
        evil.alert.first_summary = "<!channel> <http://evil.example|click>".to_owned();
        let body = body(&message(vec![evil]), Some("https://watch.example")).to_string();
        assert!(!body.contains("<!channel>") && !body.contains("<http://evil"), "{body}");
        assert!(body.contains("&lt;!channel&gt;") && body.contains("<https://watch.example/api/v1/search?"));
    }
}
