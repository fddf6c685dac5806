//! The command `watchbell rules`.

mod coverage;
mod explain;
mod lint;
mod list;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use watchbell_rules::{Evaluator, Language, LoadError, Loaded, RuleSet, library, load};

use super::output;
use crate::rule_files;

/// What to do with rules.
#[derive(Subcommand)]
pub(crate) enum RulesCommand {
    /// Load rules and list what is wrong with them; exit code 1 if anything is.
    Check {
        /// Files or directories; without any, the shipped rules.
        paths: Vec<PathBuf>,
    },
    /// Try rules on a file of events; prints one JSON object per match.
    Eval(EvalArgs),
    /// List rules: what they need of the audit policy, and where they are.
    List(list::ListArgs),
    /// Name rules that can never match, and with --audit-policy those for which a policy logs too little.
    Lint(lint::LintArgs),
    /// Show which part of a rule an event satisfies; exit code 1 if the rule does not match.
    Explain(explain::ExplainArgs),
    /// Show which techniques of MITRE ATT&CK rules are about.
    Coverage(coverage::CoverageArgs),
}

/// Which rules to try on which events.
#[derive(Args)]
pub(crate) struct EvalArgs {
    /// A file or directory of rules; may be repeated. Without any, the shipped rules.
    #[arg(long = "rules", value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Events, one JSON object per line; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    /// Exit with 1 if a rule does not load or a line is not a JSON object.
    #[arg(long)]
    strict: bool,
    /// Which of the Falco rules that match an event to print; Sigma rules are always all printed.
    #[arg(long, value_enum, default_value_t = Matching::All)]
    matching: Matching,
}

/// Which Falco rules count for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Matching {
    /// Only the first, as Falco itself does it.
    First,
    /// Every one that matches.
    All,
}

impl Matching {
    /// Takes away the matches that do not count.
    fn apply(self, set: &RuleSet, matches: &mut Vec<usize>) {
        let is_falco =
            |index: &usize| set.rules().get(*index).is_some_and(|rule| rule.language == Language::Falco);
        let first = matches.iter().copied().find(is_falco);
        matches.retain(|index| self == Self::All || !is_falco(index) || Some(*index) == first);
    }
}

const MAX_LINE_BYTES: u64 = 64 << 20;

impl RulesCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check { paths } => {
                let loaded = load_rules(&paths);
                report(&loaded.errors);
                output::note(&format!("{} rules are sound", loaded.rules.len()));
                Ok(exit_code(loaded.errors.is_empty()))
            }
            Self::Eval(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Lint(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Coverage(args) => args.run(),
        }
    }
}

impl EvalArgs {
    fn run(self) -> Result<ExitCode> {
        let loaded = load_rules(&self.rules);
        report(&loaded.errors);
        let set = Arc::new(RuleSet::compile(loaded.rules));
        let mut evaluator = Evaluator::new(Arc::clone(&set));
        let input: Box<dyn Read> = if self.events.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            let name = self.events.display();
            Box::new(File::open(&self.events).with_context(|| format!("failed to open {name}"))?)
        };
        let mut lines = BufReader::new(input);
        let (mut line, mut matches, mut unreadable) = (Vec::new(), Vec::new(), 0_u64);
        for number in 0_u64.. {
            line.clear();
            let length = lines.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            if length as u64 > MAX_LINE_BYTES {
                bail!("line {} is longer than {MAX_LINE_BYTES} bytes", number + 1);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            if !evaluator.matches(line.trim_ascii(), &mut matches) {
                unreadable += 1;
                output::note(&format!("line {} is not a JSON object", number + 1));
            }
            self.matching.apply(&set, &mut matches);
            for rule in matches.iter().filter_map(|index| set.rules().get(*index)) {
                let found =
                    json!({ "rule_id": rule.key, "rule": rule.title, "level": rule.level, "event": number });
                output::line(&found.to_string())?;
            }
        }
        Ok(exit_code(!self.strict || (loaded.errors.is_empty() && unreadable == 0)))
    }
}

pub(super) fn load_rules(paths: &[PathBuf]) -> Loaded {
    let (files, unreadable) = read_files(paths);
    let mut loaded = load(&files);
    loaded.errors.extend(unreadable);
    loaded
}

/// Names and texts of rule files, and what could not be read; without paths those of the shipped rules.
fn read_files(paths: &[PathBuf]) -> (Vec<(String, String)>, Vec<LoadError>) {
    if paths.is_empty() {
        return (library::files(), Vec::new());
    }
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for path in paths {
        let found = rule_files::read(path);
        files.extend(found.files);
        unreadable.extend(found.unreadable);
    }
    (files, unreadable)
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
