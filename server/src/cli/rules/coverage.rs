//! `watchbell rules coverage`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use watchbell_rules::{Cell, coverage};

use super::{ListOverrides, exit_code, load_rules, report};
use crate::cli::output::{self, Format};

/// Which rules to place in the matrix, and how to print it.
#[derive(Args)]
pub(crate) struct CoverageArgs {
    /// Files or directories; without any, the shipped rules.
    paths: Vec<PathBuf>,
    #[command(flatten)]
    lists: ListOverrides,
    /// A table, or a layer for the ATT&CK Navigator.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl CoverageArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let loaded = load_rules(&self.paths, &self.lists)?;
        report(&loaded.errors);
        let cells = coverage(&loaded.rules);
        match self.format {
            Format::Table => {
                let row = |cell: &Cell| {
                    vec![
                        cell.tactic.to_owned(),
                        cell.technique.clone(),
                        cell.rules.len().to_string(),
                        cell.rules.join("; "),
                    ]
                };
                output::table(&["tactic", "technique", "rules", "titles"], cells.iter().map(row).collect())?;
            }
            Format::Json => output::line(&layer(&cells).to_string())?,
        }
        Ok(exit_code(loaded.errors.is_empty()))
    }
}

/// A layer of the ATT&CK Navigator, format 4.5.
fn layer(cells: &[Cell]) -> Value {
    let most = cells.iter().map(|cell| cell.rules.len()).max().unwrap_or(1);
    let technique = |cell: &Cell| {
        let mut technique = json!({
            "techniqueID": cell.technique, "score": cell.rules.len(), "comment": cell.rules.join("\n"),
            "enabled": true, "showSubtechniques": cell.technique.contains('.'),
        });
        if !cell.tactic.is_empty() {
            technique["tactic"] = cell.tactic.into();
        }
        technique
    };
    json!({
        "name": "watchbell",
        "description": "Techniques that the rules are about",
        "domain": "enterprise-attack",
        "versions": {"attack": "17", "navigator": "5.1.0", "layer": "4.5"},
        "filters": {"platforms": ["Containers"]},
        "gradient": {"colors": ["#cfe8ff", "#0b5cad"], "minValue": 1, "maxValue": most},
        "techniques": cells.iter().filter(|cell| !cell.technique.is_empty()).map(technique).collect::<Vec<_>>(),
    })
}
