//! `watchbell rules list`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use watchbell_rules::{Rule, needed_bodies};

use super::{ListOverrides, exit_code, load_rules, report};
use crate::cli::client::{AccessArgs, block_on};
use crate::cli::output::{self, Format};

/// Which rules to list, and how.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Files or directories; without any, the shipped rules.
    paths: Vec<PathBuf>,
    #[command(flatten)]
    lists: ListOverrides,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// List instead the rules that a server runs, with what became of them since it started. Needs the scope admin.
    #[arg(long, value_name = "URL", conflicts_with_all = ["paths", "set"])]
    server: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
}

impl ListArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        match &self.server {
            Some(server) => self.list_running(server),
            None => self.list_files(),
        }
    }

    fn list_files(&self) -> Result<ExitCode> {
        let loaded = load_rules(&self.paths, &self.lists)?;
        report(&loaded.errors);
        let needs = needed_bodies(&loaded.rules);
        let rules = loaded.rules.iter().zip(&needs);
        match self.format {
            Format::Table => {
                let header = ["id", "title", "level", "status", "needs", "lists", "file"];
                output::table(&header, rules.map(|(rule, needs)| row(rule, needs)).collect())?;
            }
            Format::Json => {
                for (rule, needs) in rules {
                    output::line(&object(rule, needs).to_string())?;
                }
            }
        }
        Ok(exit_code(loaded.errors.is_empty()))
    }

    /// Exit code 1 if the server could not load some rules.
    fn list_running(&self, server: &str) -> Result<ExitCode> {
        let answer = block_on(self.access.client(server)?.get("/api/v1/rules", &[]))?;
        let empty = Vec::new();
        let rules = answer["rules"].as_array().unwrap_or(&empty);
        output::list(self.format, &RUNNING_HEADER, rules.iter(), running_row)?;
        if self.format == Format::Table {
            output::note(&format!("counted since {}", output::text(&answer["counted_since"])));
        }
        let problems = answer["problems"].as_array().unwrap_or(&empty);
        for problem in problems {
            let [file, line, reason] = ["file", "line", "reason"].map(|field| output::text(&problem[field]));
            output::note(&output::printable(&format!("{file}:{line}: {reason}")));
        }
        Ok(exit_code(problems.is_empty()))
    }
}

const RUNNING_HEADER: [&str; 9] =
    ["id", "title", "level", "needs", "matches", "not evaluable", "groups", "bytes", "evicted"];

fn row(rule: &Rule, needs: &BTreeSet<&'static str>) -> Vec<String> {
    vec![
        rule.id.clone().unwrap_or_default(),
        rule.title.to_string(),
        rule.level.to_string(),
        rule.status.clone().unwrap_or_default(),
        needs.iter().copied().collect::<Vec<_>>().join(", "),
        rule.lists.join(", "),
        format!("{}:{}", rule.file, rule.line),
    ]
}

fn object(rule: &Rule, needs: &BTreeSet<&'static str>) -> Value {
    json!({
        "id": rule.id, "title": rule.title, "level": rule.level, "status": rule.status, "tags": rule.tags,
        "needs": needs, "correlation": rule.is_correlation(), "lists": rule.lists, "file": rule.file, "line": rule.line,
    })
}

/// What a server says of a rule; what a correlation had to give up, groups and entries, in one number.
fn running_row(rule: &Value) -> Vec<String> {
    let needs =
        rule["needs"].as_array().into_iter().flatten().map(output::text).collect::<Vec<_>>().join(", ");
    let correlation = &rule["correlation"];
    let evicted =
        ["evicted_groups", "evicted_entries"].into_iter().filter_map(|field| correlation[field].as_u64());
    let evicted = if correlation.is_null() { String::new() } else { evicted.sum::<u64>().to_string() };
    let [id, title, level, matches, not_evaluable] =
        ["id", "title", "level", "matches", "not_evaluable"].map(|field| output::text(&rule[field]));
    let [groups, bytes] = ["groups", "bytes"].map(|field| output::text(&correlation[field]));
    vec![id, title, level, needs, matches, not_evaluable, groups, bytes, evicted]
}
