mod show;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::client::{ServerArgs, block_on};
use super::output::{self, Format};

/// What to do with alerts.
#[derive(Subcommand)]
pub(crate) enum AlertsCommand {
    /// List alerts, newest first.
    List(ListArgs),
    /// Show one alert: what matched, what to do, its events, where to look further and who was told.
    Show(show::ShowArgs),
}

/// Which alerts to list.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Only this level or a higher one: informational, low, medium, high, critical.
    #[arg(long)]
    level: Option<String>,
    /// Only this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only alerts of this rule (its id).
    #[arg(long)]
    rule: Option<String>,
    /// How many alerts.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where an earlier list left off.
    #[arg(long)]
    cursor: Option<String>,
    /// `json` prints one alert per line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: ServerArgs,
}

impl AlertsCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::List(args) => args.run(),
            Self::Show(args) => args.run(),
        }
    }
}

impl ListArgs {
    fn run(self) -> Result<ExitCode> {
        let Self { level, cluster, rule, limit, cursor, format, server } = self;
        let mut query = vec![("limit", limit.to_string())];
        for (name, value) in [("level", level), ("cluster", cluster), ("rule", rule), ("cursor", cursor)] {
            query.extend(value.map(|value| (name, value)));
        }
        let answer = block_on(server.client()?.get("/api/v1/alerts", &query))?;
        let alerts = answer["alerts"].as_array().cloned().unwrap_or_default();
        match format {
            Format::Json => alerts.iter().try_for_each(|alert| output::line(&alert.to_string()))?,
            Format::Table => output::table(&HEADER, alerts.iter().map(row).collect())?,
        }
        if let Some(cursor) = answer["next_cursor"].as_str() {
            output::note(&format!("more: --cursor {cursor}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

const HEADER: [&str; 8] = ["last seen", "level", "status", "count", "cluster", "rule", "what", "id"];

fn row(alert: &Value) -> Vec<String> {
    ["last_event_time", "level", "status", "count", "cluster", "title", "last_summary", "id"]
        .into_iter()
        .map(|field| match &alert[field] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        })
        .collect()
}
