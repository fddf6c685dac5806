//! `watchbell alerts show`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use watchbell_alerting::sections;
use watchbell_event::Explanation;

use crate::cli::client::{ServerArgs, block_on};
use crate::cli::output::{self, Format};

/// Most events and deliveries that are shown.
const MAX_SHOWN: usize = 20;

/// Which alert to show.
#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The alert's id, as `alerts list` and messages show it.
    id: String,
    /// `json` prints all that is known as one line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: ServerArgs,
}

/// What is shown of an alert, as `GET /api/v1/alerts/{id}` has it.
#[derive(Deserialize)]
struct Shown {
    id: String,
    title: String,
    rule_id: String,
    level: String,
    status: String,
    cluster: String,
    tags: Vec<String>,
    labels: Value,
    count: u64,
    first_summary: String,
    last_summary: String,
    first_event_time: String,
    last_event_time: String,
    explanation: Explanation,
    #[serde(default)]
    links: Value,
    events: Vec<Value>,
    events_beyond: u64,
    trail: Vec<Value>,
}

impl ShowArgs {
    /// Exit code 1 if there is no such alert.
    pub(super) fn run(self) -> Result<ExitCode> {
        // What is no id is refused by the server; what would lead elsewhere is not sent.
        let id: String = url::form_urlencoded::byte_serialize(self.id.as_bytes()).collect();
        let mut answer = block_on(self.server.client()?.get(&format!("/api/v1/alerts/{id}"), &[]))?;
        if self.format == Format::Json {
            output::line(&answer.to_string())?;
            return Ok(ExitCode::SUCCESS);
        }
        let alert =
            serde_json::from_value(answer["alert"].take()).context("the server's answer is not an alert")?;
        for line in lines(&alert, answer["deliveries"].as_array().map_or(&[], Vec::as_slice)) {
            output::line(&output::printable(&line))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn lines(alert: &Shown, deliveries: &[Value]) -> Vec<String> {
    let mut lines = vec![
        format!("[{}] {} in {}", alert.level.to_uppercase(), alert.title, alert.cluster),
        alert.first_summary.clone(),
    ];
    if alert.last_summary != alert.first_summary {
        lines.push(format!("latest: {}", alert.last_summary));
    }
    let (first, last) = (&alert.first_event_time, &alert.last_event_time);
    lines.push(match alert.count {
        1 => format!("{}, once, at {first}", alert.status),
        count => format!("{}, {count} times, from {first} to {last}", alert.status),
    });
    let mut section = |caption: &str, below: Vec<String>| {
        if !below.is_empty() {
            lines.extend([String::new(), caption.to_owned()]);
            lines.extend(below.into_iter().map(|line| format!("  {line}")));
        }
    };
    section("Who, what, where", pairs(&alert.labels));
    for told in sections(&alert.explanation, &alert.tags) {
        section(told.caption, told.lines);
    }
    section("Where to look", pairs(&alert.links));
    section("Events", events(alert));
    section("Decisions", alert.trail.iter().map(|change| words(change, &["at", "by", "status"])).collect());
    let told = deliveries.iter().rev().take(MAX_SHOWN);
    section("Told", told.map(|told| words(told, &["queued_at", "receiver", "state", "reason"])).collect());
    section("Ids", vec![format!("alert {}", alert.id), format!("rule {}", alert.rule_id)]);
    lines
}

fn events(alert: &Shown) -> Vec<String> {
    let shown = alert.events.iter().take(MAX_SHOWN);
    let mut lines: Vec<String> = shown.map(|event| words(event, &["event_time", "id"])).collect();
    let more = alert.events_beyond + alert.events.len().saturating_sub(MAX_SHOWN) as u64;
    if more > 0 {
        lines.push(format!("+{more} more"));
    }
    lines
}

fn pairs(object: &Value) -> Vec<String> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}: {}", output::text(value))).collect()
}

fn words(object: &Value, names: &[&str]) -> String {
    let words: Vec<String> = names.iter().map(|name| output::text(&object[*name])).collect();
    words.join("  ").trim_end().to_owned()
}
