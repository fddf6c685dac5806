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
    #[arg(long)]
    from: Option<String>,
    /// Newest time, written likewise.
    #[arg(long)]
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

const HITS: List = List {
    path: "/api/v1/search",
    member: "hits",
    header: &["time", "cluster", "user", "verb", "resource", "namespace", "name", "code"],
    row,
};

fn row(hit: &Value) -> Vec<String> {
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
