use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::output::{self, text};
use super::page::{self, List, PageArgs};

/// What to search for.
#[derive(Args)]
pub(crate) struct SearchArgs {
    /// Such as 'verb:delete AND objectRef.resource:secrets'; '*' is everything.
    #[arg(default_value = "*")]
    query: String,
    /// Oldest time: RFC 3339, or relative as in now-24h.
    #[arg(long, value_parser = page::time)]
    from: Option<String>,
    /// Newest time, written likewise.
    #[arg(long, value_parser = page::time)]
    to: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl SearchArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self { query, from, to, page } = self;
        let answer = page.show(&HITS, vec![("q", Some(query)), ("from", from), ("to", to)])?;
        let (shown, total) = (answer["hits"].as_array().map_or(0, Vec::len), &answer["total"]);
        let relation = if total["relation"] == "gte" { "at least " } else { "" };
        output::note(&format!("{shown} shown of {relation}{} events", total["value"]));
        page::note_more(&answer);
        Ok(ExitCode::SUCCESS)
    }
}

/// Longest message that is shown, in characters.
const MAX_MESSAGE_CHARACTERS: usize = 120;

const HITS: List = List {
    path: "/api/v1/search",
    member: "hits",
    header: &["time", "cluster", "user", "verb", "resource", "namespace", "name", "code"],
    row,
};

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
