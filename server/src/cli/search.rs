use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::client::{ServerArgs, block_on};
use super::output::{self, Format};

/// What to search for.
#[derive(Args)]
pub(crate) struct SearchArgs {
    /// Such as 'verb:delete AND objectRef.resource:secrets'; '*' is everything.
    #[arg(default_value = "*")]
    query: String,
    /// Oldest time: RFC 3339, or relative as in now-24h.
    #[arg(long)]
    from: Option<String>,
    /// Newest time, written likewise.
    #[arg(long)]
    to: Option<String>,
    /// How many events.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where an earlier search with the same query left off.
    #[arg(long)]
    cursor: Option<String>,
    /// `json` prints one event per line, as it was received.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: ServerArgs,
}

impl SearchArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut query = vec![("q", self.query.clone()), ("limit", self.limit.to_string())];
        for (name, value) in [("from", &self.from), ("to", &self.to), ("cursor", &self.cursor)] {
            query.extend(value.clone().map(|value| (name, value)));
        }
        let client = self.server.client()?;
        let answer = block_on(client.get("/api/v1/search", &query))?;
        let hits = answer["hits"].as_array().cloned().unwrap_or_default();
        match self.format {
            Format::Json => hits.iter().try_for_each(|hit| output::line(&hit.to_string()))?,
            Format::Table => output::table(&HEADER, hits.iter().map(row).collect())?,
        }
        let relation = if answer["total"]["relation"] == "gte" { "at least " } else { "" };
        output::note(&format!("{} shown of {relation}{} events", hits.len(), answer["total"]["value"]));
        if let Some(cursor) = answer["next_cursor"].as_str() {
            output::note(&format!("more: --cursor {cursor}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

const HEADER: [&str; 8] = ["time", "cluster", "user", "verb", "resource", "namespace", "name", "code"];
/// Longest message that is shown, in characters.
const MAX_MESSAGE_CHARACTERS: usize = 120;

fn row(hit: &Value) -> Vec<String> {
    if hit["source"] == "log" { log_row(hit) } else { audit_row(hit) }
}

/// A line says what happened in its own words: they stand where a request says what it was about.
fn log_row(hit: &Value) -> Vec<String> {
    let field = |path: &str| text(&hit["event"][path]);
    let or = |one: String, other: String| if one.is_empty() { other } else { one };
    vec![
        text(&hit["@timestamp"]),
        text(&hit["cluster"]),
        field("user.name"),
        or(field("event.action"), field("event.dataset")),
        field("message").chars().take(MAX_MESSAGE_CHARACTERS).collect(),
        field("orchestrator.namespace"),
        or(field("orchestrator.resource.name"), field("host.name")),
        or(field("http.response.status_code"), field("event.outcome")),
    ]
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn audit_row(hit: &Value) -> Vec<String> {
    let event = &hit["event"];
    let object = &event["objectRef"];
    let resource = match (&object["resource"], &object["subresource"]) {
        (Value::Null, _) => text(&event["requestURI"]),
        (resource, Value::Null) => text(resource),
        (resource, subresource) => format!("{}/{}", text(resource), text(subresource)),
    };
    vec![
        text(&hit["@timestamp"]),
        text(&hit["cluster"]),
        text(&event["user"]["username"]),
        text(&event["verb"]),
        resource,
        text(&object["namespace"]),
        text(&object["name"]),
        text(&event["responseStatus"]["code"]),
    ]
}
