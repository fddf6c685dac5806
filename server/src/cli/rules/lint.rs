//! `watchbell rules lint`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use watchbell_rules::{AuditPolicy, Finding, lint, lint_text};

use super::{ListOverrides, exit_code, load_files, report};
use crate::cli::output::{self, Format};
use crate::files;

/// Longest audit policy, in bytes.
const MAX_POLICY_BYTES: u64 = 4 << 20;

/// What to look at.
#[derive(Args)]
pub(crate) struct LintArgs {
    /// Files or directories; without any, the shipped rules.
    paths: Vec<PathBuf>,
    #[command(flatten)]
    lists: ListOverrides,
    /// An audit policy of the API server: also name the rules for which it logs too little.
    #[arg(long, value_name = "FILE")]
    audit_policy: Option<PathBuf>,
    /// How to print what is found.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl LintArgs {
    /// Exit code 1 if anything is found, or if a file has rules that do not load.
    pub(super) fn run(self) -> Result<ExitCode> {
        let policy = self.audit_policy.as_deref().map(read_policy).transpose()?;
        let (files, loaded) = load_files(&self.paths, &self.lists)?;
        report(&loaded.errors);
        let mut findings: Vec<Finding> =
            files.iter().flat_map(|(name, text)| lint_text(name, text)).collect();
        findings.extend(lint(&loaded.rules, &loaded.lists, policy.as_ref()));
        findings.sort_by(|a, b| (&a.file, a.line, a.kind).cmp(&(&b.file, b.line, b.kind)));
        print(&findings, self.format)?;
        output::note(&format!("{} finding(s) in {} rules", findings.len(), loaded.rules.len()));
        Ok(exit_code(findings.is_empty() && loaded.errors.is_empty()))
    }
}

fn read_policy(path: &Path) -> Result<AuditPolicy> {
    let name = path.display().to_string();
    let text = files::read_text(path, MAX_POLICY_BYTES).with_context(|| format!("failed to read {name}"))?;
    match AuditPolicy::read(&name, &text) {
        Ok(policy) => Ok(policy),
        Err(problems) => {
            problems.iter().for_each(|problem| output::note(&problem.to_string()));
            bail!("failed to read the audit policy {name}");
        }
    }
}

fn print(findings: &[Finding], format: Format) -> Result<()> {
    for finding in findings {
        let text = match format {
            Format::Table => {
                let Finding { file, line, rule, kind, message } = finding;
                output::printable(&format!("{file}:{line}: {rule}: {message} [{}]", kind.name()))
            }
            Format::Json => json!({
                "file": finding.file, "line": finding.line, "rule": finding.rule, "kind": finding.kind.name(),
                "message": finding.message,
            })
            .to_string(),
        };
        output::line(&text)?;
    }
    Ok(())
}
