mod show;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;
use watchbell_event::Level;

use super::output;
use super::page::{self, List, PageArgs};

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
    level: Option<Level>,
    /// Only this cluster.
    #[arg(long)]
    cluster: Option<String>,
    /// Only alerts of this rule (its id).
    #[arg(long)]
    rule: Option<String>,
    #[command(flatten)]
    page: PageArgs,
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
        let Self { level, cluster, rule, page } = self;
        let level = level.map(|level| level.name().to_owned());
        let answer = page.show(&ALERTS, vec![("level", level), ("cluster", cluster), ("rule", rule)])?;
        page::note_more(&answer);
        Ok(ExitCode::SUCCESS)
    }
}

const ALERTS: List = List {
    path: "/api/v1/alerts",
    member: "alerts",
    header: &["last seen", "level", "status", "count", "cluster", "rule", "what", "id"],
    row,
};

fn row(alert: &Value) -> Vec<String> {
    ["last_event_time", "level", "status", "count", "cluster", "title", "last_summary", "id"]
        .into_iter()
        .map(|field| output::text(&alert[field]))
        .collect()
}
