//! A Slack incoming webhook: Block Kit within Slack's limits, cut between lines and blocks, never inside.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::http::{HttpClient, HttpConfig};
use super::message::{Detail, Message, Notice, list_link};
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
/// Longest title of an alert that has a link, before escaping.
const TITLE_BYTES: usize = 120;
/// Longest summary of an alert without details, before escaping.
const BRIEF_BYTES: usize = 150;
/// How many alerts are shown with all their details; of more, each has three lines.
const MAX_DETAILED: usize = 3;
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
    // The header is cut early; of a single alert the first section says the rest.
    let mut blocks = match message.notices.as_slice() {
        [notice] if message.total == 1 => vec![header(&notice.headline())],
        _ => vec![header(&subject), section(&rule_lines(message))],
    };
    let budget = (ALERTS_BYTES / message.notices.len().max(1)).min(SECTION_BYTES);
    blocks.extend(message.notices.iter().map(|notice| {
        let lines = match message.notices.len() {
            1 if message.total == 1 => details(notice, external_url),
            0..=MAX_DETAILED => [title(notice, external_url), details(notice, external_url)].concat(),
            _ => [title(notice, external_url), brief(notice)].concat(),
        };
        section(&within(lines, budget))
    }));
    let beyond = message.beyond(message.notices.len());
    if beyond > 0 {
        let list = list_link(external_url);
        let list = list.map_or("the list of alerts".to_owned(), |url| link(&url, "the list of alerts"));
        blocks.push(section(&format!("*+{beyond} more alerts*, see {list}.")));
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

fn title(notice: &Notice, external_url: Option<&str>) -> Vec<String> {
    let title = shown(&one_line(&notice.headline(), TITLE_BYTES));
    vec![match notice.link(external_url) {
        Some(url) => format!("*<{}|{title}>*", slack(&url)),
        None => format!("*{title}*"),
    }]
}

fn details(notice: &Notice, external_url: Option<&str>) -> Vec<String> {
    let (mut links, mut lines) = (Vec::new(), vec![shown(notice.summary())]);
    for detail in notice.details(external_url) {
        match &detail {
            Detail::Link(caption, url) => links.push(link(url, caption)),
            Detail::Text(caption, value) => lines.push(format!("*{}:* {}", shown(caption), shown(value))),
            Detail::List(caption, values) => {
                let mut values = values.iter().map(|value| format!("• {}", shown(value)));
                // The caption never stands without a value.
                lines.extend(values.next().map(|first| format!("*{caption}:*\n{first}")));
                lines.extend(values);
            }
        }
    }
    // Before the rest, so that they are there even if not all of it fits.
    if !links.is_empty() {
        lines.insert(1, links.join(" · "));
    }
    lines
}

fn brief(notice: &Notice) -> Vec<String> {
    let summary = slack(&one_line(notice.summary(), BRIEF_BYTES));
    vec![summary, format!("{}, {}", notice.when(), notice.occurrences())]
}

fn shown(text: &str) -> String {
    slack(&one_line(text, LINE_BYTES))
}

fn link(url: &str, text: &str) -> String {
    format!("<{}|{text}>", slack(url))
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
        long.alert.explanation.next_steps = vec!["&".repeat(300); 10];
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
        assert!(body.contains("&lt;!channel&gt;") && body.contains("<https://watch.example/api/v1/alerts/"));
    }
}
