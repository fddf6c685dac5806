//! `watchbell rules explain`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use watchbell_rules::{Part, Rule, Verdict, counted_rules, explain};

use super::events::one_event;
use super::find::{Found, find};
use super::{ListOverrides, exit_code};
use crate::cli::output;

/// Most parts of one part that are shown.
const MAX_PARTS: usize = 40;

/// Which rule to explain on which event.
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// The rule: its id, its name, its title, or a file that holds it.
    rule: String,
    /// A file with one event as JSON, also as a list of one or gzip; `-` is standard input.
    event: PathBuf,
    /// A file or directory of rules to look in; may be repeated. Without any, the shipped rules.
    #[arg(long = "rules", value_name = "PATH")]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    lists: ListOverrides,
}

impl ExplainArgs {
    /// Exit code 0 if each of the rules matches, 1 if one does not. Of a correlation, one of the rules that it counts
    /// must match.
    pub(super) fn run(self) -> Result<ExitCode> {
        let Found { rules, wanted, .. } = find(&self.rule, &self.rules, &self.lists)?;
        let event = one_event(&self.event)?;
        let counted = counted_rules(&rules);
        let mut all_match = true;
        for index in wanted {
            let rule = &rules[index];
            if !rule.is_correlation() {
                all_match &= self.explain(rule, &event)?;
                continue;
            }
            let told = "is a correlation, which one event does not decide. It counts what these rules match:";
            headline(rule, told)?;
            let mut one_matches = false;
            for counted in &counted[index] {
                one_matches |= self.explain(&rules[*counted], &event)?;
            }
            all_match &= one_matches;
        }
        Ok(exit_code(all_match))
    }

    /// Shows what came of a rule; true if it matches.
    fn explain(&self, rule: &Rule, event: &[u8]) -> Result<bool> {
        let Some(whole) = explain(rule, event) else {
            bail!("{} does not hold one JSON object", self.event.display());
        };
        let told = match whole.verdict {
            Verdict::Holds => "matches",
            Verdict::Fails => "does not match",
            Verdict::NotEvaluable => "cannot be decided: the event lacks a body that the rule reads",
        };
        headline(rule, told)?;
        print(&whole, 0)?;
        Ok(whole.verdict == Verdict::Holds)
    }
}

fn headline(rule: &Rule, told: &str) -> Result<()> {
    output::line(&output::printable(&format!("{} ({}:{}) {told}", rule.title, rule.file, rule.line)))
}

fn print(part: &Part, depth: usize) -> Result<()> {
    let mark = match part.verdict {
        Verdict::Holds => "+",
        Verdict::Fails => "-",
        Verdict::NotEvaluable => "?",
    };
    let mut text = format!("{}{mark} {}", "  ".repeat(depth), part.label);
    if part.parts.is_empty() {
        let values: Vec<_> = part.values.iter().map(|value| shortened(value)).collect();
        let has = if values.is_empty() { "nothing".to_owned() } else { values.join(", ") };
        text.push_str(&format!("   [event: {has}]"));
    }
    output::line(&output::printable(&text))?;
    for inner in part.parts.iter().take(MAX_PARTS) {
        print(inner, depth + 1)?;
    }
    if part.parts.len() > MAX_PARTS {
        output::line(&format!("{}… {} more", "  ".repeat(depth + 1), part.parts.len() - MAX_PARTS))?;
    }
    Ok(())
}

fn shortened(value: &str) -> String {
    let mut characters = value.chars();
    let mut short: String = characters.by_ref().take(100).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}
