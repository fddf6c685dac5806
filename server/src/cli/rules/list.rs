//! `watchbell rules list`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use watchbell_rules::{Rule, counted_rules};

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
        let needs = needs(&loaded.rules);
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
}

/// The bodies that each rule reads; of a correlation, those of the rules that it counts.
fn needs(rules: &[Rule]) -> Vec<BTreeSet<&'static str>> {
    let of_rule = |(rule, counted): (&Rule, Vec<usize>)| {
        let counted = counted.iter().filter_map(|index| rules.get(*index));
        std::iter::once(rule).chain(counted).flat_map(Rule::bodies).collect()
    };
    rules.iter().zip(counted_rules(rules)).map(of_rule).collect()
}

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

fn object(rule: &Rule, needs: &BTreeSet<&'static str>) -> serde_json::Value {
    json!({
        "id": rule.id, "title": rule.title, "level": rule.level, "status": rule.status, "tags": rule.tags,
        "needs": needs, "correlation": rule.is_correlation(), "lists": rule.lists, "file": rule.file, "line": rule.line,
    })
}
