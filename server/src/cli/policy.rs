//! `watchbell policy`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use watchbell_rules::generate_audit_policy;

use super::output;
use super::rules::{ListOverrides, exit_code, load_rules, report};

/// What to do with audit policies.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Write the smallest audit policy that logs what the rules read. To check one that you have, use
    /// `rules lint --audit-policy`.
    Generate {
        /// A file or directory of rules; may be repeated. Without any, the shipped rules.
        #[arg(long = "rules", value_name = "PATH")]
        rules: Vec<PathBuf>,
        #[command(flatten)]
        lists: ListOverrides,
    },
}

impl PolicyCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Self::Generate { rules, lists } = self;
        let loaded = load_rules(&rules, &lists)?;
        report(&loaded.errors);
        output::line(generate_audit_policy(&loaded.rules).trim_end())?;
        Ok(exit_code(loaded.errors.is_empty()))
    }
}
