//! `watchbell rules list`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use watchbell_rules::Rule;

use super::{exit_code, load_rules, report};
use crate::cli::output::{self, Format};

/// Which rules to list, and how.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Files or directories; without any, the shipped rules.
    paths: Vec<PathBuf>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl ListArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let loaded = load_rules(&self.paths);
        report(&loaded.errors);
        match self.format {
            Format::Table => {
                let header = ["id", "title", "level", "status", "needs", "lists", "file"];
                output::table(&header, loaded.rules.iter().map(row).collect())?;
            }
            Format::Json => {
                for rule in &loaded.rules {
                    output::line(&object(rule).to_string())?;
                }
            }
        }
        Ok(exit_code(loaded.errors.is_empty()))
    }
}

fn row(rule: &Rule) -> Vec<String> {
    vec![
        rule.id.clone().unwrap_or_default(),
        rule.title.to_string(),
        rule.level.to_string(),
        rule.status.clone().unwrap_or_default(),
        rule.bodies().join(", "),
        rule.lists.join(", "),
        format!("{}:{}", rule.file, rule.line),
    ]
}

fn object(rule: &Rule) -> serde_json::Value {
    json!({
        "id": rule.id, "title": rule.title, "level": rule.level, "status": rule.status, "tags": rule.tags,
        "needs": rule.bodies(), "lists": rule.lists, "file": rule.file, "line": rule.line,
    })
}
