//! The command `watchbell rules`.

mod backtest;
mod coverage;
mod eval;
mod events;
mod explain;
mod find;
mod lint;
mod list;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use watchbell_rules::{Lists, LoadError, Loaded, Rule, library, load};

use super::output;
use super::rules_test::TestArgs;
use crate::rule_files::{self, RuleFiles};

/// What to do with rules.
#[derive(Subcommand)]
pub(crate) enum RulesCommand {
    /// Load rules and list what is wrong with them; exit code 1 if anything is.
    Check {
        /// Files or directories; without any, the shipped rules.
        paths: Vec<PathBuf>,
        #[command(flatten)]
        lists: ListOverrides,
    },
    /// Try rules on a file of events; prints one JSON object per match.
    Eval(eval::EvalArgs),
    /// Show what a rule would have alerted on the events that a server keeps.
    Backtest(backtest::BacktestArgs),
    /// Test rules on their samples, and the cases of correlations; prints failures as a diff, exit code 1 if there
    /// are any.
    Test(TestArgs),
    /// List rules: what they need of the audit policy, and where they are.
    List(list::ListArgs),
    /// Name rules that can never match, and with --audit-policy those for which a policy logs too little; exit code 1 if
    /// there are any.
    Lint(lint::LintArgs),
    /// Show which part of a rule an event satisfies; exit code 1 if the rule does not match.
    Explain(explain::ExplainArgs),
    /// Show which techniques of MITRE ATT&CK rules are about.
    Coverage(coverage::CoverageArgs),
}

impl RulesCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check { paths, lists } => {
                let loaded = load_rules(&paths, &lists)?;
                report(&loaded.errors);
                output::note(&format!("{} rules are sound", loaded.rules.len()));
                Ok(exit_code(loaded.errors.is_empty()))
            }
            Self::Eval(args) => args.run(),
            Self::Backtest(args) => args.run(),
            Self::Test(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Lint(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Coverage(args) => args.run(),
        }
    }
}

/// Named lists that the command line sets.
#[derive(Args)]
pub(super) struct ListOverrides {
    /// Sets a named list that rules read, such as `--set system_namespaces=kube-system,infra`; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE,…", value_parser = named_list)]
    set: Vec<(String, Vec<String>)>,
}

impl ListOverrides {
    /// The lists that ship, with those that were set.
    pub(super) fn lists(&self) -> Result<Lists> {
        let mut lists = Lists::shipped();
        for (name, values) in &self.set {
            lists.override_with(name, values.clone()).map_err(|reason| anyhow!("--set {name}: {reason}"))?;
        }
        Ok(lists)
    }

    /// Notes which of them no rule reads: a name that is misspelt would otherwise change nothing in silence.
    pub(super) fn note_unread(&self, rules: &[Rule]) {
        for (name, _) in &self.set {
            if !rules.iter().any(|rule| rule.lists.iter().any(|list| **list == **name)) {
                output::note(&format!("--set {name}: none of the rules reads a list of this name"));
            }
        }
    }
}

/// The rules of these files or directories; without any path, the shipped rules.
///
/// # Errors
/// If there are none at one of the paths.
pub(super) fn load_rules(paths: &[PathBuf], lists: &ListOverrides) -> Result<Loaded> {
    Ok(load_files(paths, lists)?.1)
}

/// As [`load_rules`], with the names and texts of the files.
fn load_files(paths: &[PathBuf], lists: &ListOverrides) -> Result<(Vec<(String, String)>, Loaded)> {
    let mut found = RuleFiles { files: library::files(), unreadable: Vec::new() };
    if !paths.is_empty() {
        found.files.clear();
    }
    for path in paths {
        let RuleFiles { files, unreadable } = read_path(path)?;
        found.files.extend(files);
        found.unreadable.extend(unreadable);
    }
    let mut loaded = load(&found.files, &lists.lists()?);
    loaded.errors.extend(found.unreadable);
    if loaded.rules.is_empty() && loaded.errors.is_empty() {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("no rules in {}", paths.join(", "));
    }
    lists.note_unread(&loaded.rules);
    Ok((found.files, loaded))
}

/// The files at a path.
///
/// # Errors
/// If there are none: a path that is misspelt must not look as if all were well.
pub(super) fn read_path(path: &Path) -> Result<RuleFiles> {
    let found = rule_files::read(path);
    match found.unreadable.first() {
        Some(problem) if found.files.is_empty() => bail!("no rules in {}: {problem}", path.display()),
        None if found.files.is_empty() => bail!("no rules in {}", path.display()),
        _ => Ok(found),
    }
}

/// Reads `NAME=VALUE,…`; nothing behind the sign is an empty list.
fn named_list(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, values) = text.split_once('=').ok_or("expected NAME=VALUE,…")?;
    let values: Vec<String> =
        values.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
    Lists::default().override_with(name, values.clone())?;
    Ok((name.to_owned(), values))
}

/// Lists what does not load on standard error, and counts it.
pub(super) fn report(errors: &[LoadError]) {
    errors.iter().for_each(|error| output::note(&error.to_string()));
    if !errors.is_empty() {
        let files: std::collections::BTreeSet<_> = errors.iter().map(|error| &error.file).collect();
        output::note(&format!(
            "{} problem(s) in {} file(s); what they concern was not loaded",
            errors.len(),
            files.len()
        ));
    }
}

pub(super) fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::named_list;

    #[test]
    fn a_list_is_set_by_name_and_values() {
        for (text, name, values) in [
            ("a=x,y", "a", &["x", "y"][..]),
            ("a=x=1", "a", &["x=1"]),
            ("a=", "a", &[]),
            ("a=,x,", "a", &["x"]),
        ] {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(named_list(text), Ok((name.to_owned(), values)), "{text}");
        }
        for (text, reason) in [("a", "expected NAME=VALUE"), ("a b=x", "the name of a list")] {
            assert!(named_list(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
