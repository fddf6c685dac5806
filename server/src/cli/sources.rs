use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::client::{ServerArgs, block_on};
use super::output::{self, Format};

/// How to list sources.
#[derive(Args)]
pub(crate) struct SourcesArgs {
    /// `json` prints one source per line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: ServerArgs,
}

const HEADER: [&str; 11] = [
    "cluster",
    "route",
    "credential",
    "events/s",
    "kB/s",
    "stored",
    "quarantined",
    "refused",
    "lag",
    "peer",
    "last seen",
];

impl SourcesArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let answer = block_on(self.server.client()?.get("/api/v1/sources", &[]))?;
        let sources = answer["sources"].as_array().into_iter().flatten();
        // Those that are not told apart are no source; people see their sums.
        let other = Some(&answer["other"]).filter(|other| self.format == Format::Table && !other.is_null());
        output::list(self.format, &HEADER, sources.chain(other), row)?;
        if self.format == Format::Table {
            output::note(&format!("counted since {}", output::text(&answer["counted_since"])));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(source: &Value) -> Vec<String> {
    let text = |field: &str| source[field].as_str().unwrap_or("-").to_owned();
    let name = |field: &str| source[field].as_str().unwrap_or("(other)").to_owned();
    let credential = if source["cluster"].is_string() { "the configuration" } else { "(other)" };
    let lag = source["lag"].as_object().into_iter().flatten();
    let lag: Vec<String> = lag.map(|(unit, amount)| format!("{amount} {unit}")).collect();
    let rate = |field: &str, unit: f64| format!("{:.1}", source[field].as_f64().unwrap_or_default() / unit);
    let refused = source["refused"].as_object().into_iter().flatten();
    let refused: Vec<String> = refused.map(|(code, count)| format!("{count} {code}")).collect();
    vec![
        name("cluster"),
        name("route"),
        source["credential"].as_str().unwrap_or(credential).to_owned(),
        rate("events_per_second", 1.0),
        rate("bytes_per_second", 1_000.0),
        source["stored"].to_string(),
        source["quarantined"].to_string(),
        refused.join(", "),
        lag.join(", "),
        text("peer"),
        text("last_seen"),
    ]
}
