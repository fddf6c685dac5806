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

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use watchbell_event::audit::AuditEvent;
use watchbell_event::{EventId, Position, Timestamp};
use watchbell_rules::{
    Correlated, CorrelationConfig, Correlator, Evaluator, Language, Lists, LoadError, Loaded, Observed,
    RuleSet, library, load,
};

use super::output;
use super::rules_test::TestArgs;
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
    /// Test rules on their samples; prints failures as a diff, exit code 1 if there are any.
    Test(TestArgs),
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
    /// Sets a named list, such as `--set system_namespaces=kube-system,infra`; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE,…", value_parser = named_list)]
    lists: Vec<(String, Vec<String>)>,
    /// How far an event may lie before those above it in the file and still count in correlations.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    lateness: std::time::Duration,
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
            Self::Test(args) => args.run(),
            Self::List(args) => args.run(),
            Self::Lint(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Coverage(args) => args.run(),
        }
    }
}

impl EvalArgs {
    fn run(self) -> Result<ExitCode> {
        let mut lists = Lists::shipped();
        for (name, values) in self.lists {
            lists.override_with(&name, values).map_err(|reason| anyhow!("--set {name}: {reason}"))?;
        }
        let loaded = load_rules_with(&self.rules, &lists);
        report(&loaded.errors);
        let lateness_micros = i64::try_from(self.lateness.as_micros()).unwrap_or(i64::MAX);
        let mut trial = Trial::new(Arc::new(RuleSet::compile(loaded.rules)), self.matching, lateness_micros);
        let input: Box<dyn Read> = if self.events.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            let name = self.events.display();
            Box::new(File::open(&self.events).with_context(|| format!("failed to open {name}"))?)
        };
        let mut lines = BufReader::new(input);
        let (mut line, mut unreadable) = (Vec::new(), 0_u64);
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
            if !trial.take(number, line.trim_ascii())? {
                unreadable += 1;
                output::note(&format!("line {} is not a JSON object", number + 1));
            }
        }
        trial.finish()?;
        Ok(exit_code(!self.strict || (loaded.errors.is_empty() && unreadable == 0)))
    }
}

/// Rules on trial: what matches is printed.
struct Trial {
    set: Arc<RuleSet>,
    matching: Matching,
    evaluator: Evaluator,
    correlator: Correlator,
    matches: Vec<usize>,
    correlated: Vec<Correlated>,
    cluster: Arc<str>,
    latest: Timestamp,
}

impl Trial {
    fn new(set: Arc<RuleSet>, matching: Matching, lateness_micros: i64) -> Self {
        let listed_events = usize::MAX;
        let config = CorrelationConfig { lateness_micros, listed_events, ..CorrelationConfig::default() };
        Self {
            evaluator: Evaluator::new(Arc::clone(&set)),
            correlator: Correlator::new(Arc::clone(&set), config),
            set,
            matching,
            matches: Vec::new(),
            correlated: Vec::new(),
            cluster: Arc::from(""),
            latest: Timestamp::default(),
        }
    }

    /// Evaluates one line; false if it is not a JSON object.
    fn take(&mut self, number: u64, line: &[u8]) -> Result<bool> {
        let readable = self.evaluator.matches(line, &mut self.matches);
        self.matching.apply(&self.set, &mut self.matches);
        for index in self.matches.iter().filter(|index| !self.set.is_silent(**index)) {
            let Some(rule) = self.set.rules().get(*index) else { continue };
            let found =
                json!({ "rule_id": rule.key, "rule": rule.title, "level": rule.level, "event": number });
            output::line(&found.to_string())?;
        }
        if self.set.has_correlations() {
            // An event without a time is taken to have happened with the one before it.
            let time = AuditEvent::parse(line).claimed_time().unwrap_or(self.latest);
            self.latest = time;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let observed = Observed {
                cluster: &self.cluster,
                id: EventId(id),
                position: Position { partition: 0, offset: number },
                event_time: time,
                received_at: time,
                history: true,
            };
            self.correlator.take(&observed, &self.evaluator, &self.matches, &mut self.correlated);
            self.print_correlated()?;
        }
        Ok(readable)
    }

    /// No more events come: decides what still waited for some.
    fn finish(&mut self) -> Result<()> {
        self.correlator.finish(&mut self.correlated);
        self.print_correlated()?;
        let late = self.correlator.late_events();
        if late > 0 {
            output::note(&format!("{late} matches came too late to be counted; see --lateness"));
        }
        Ok(())
    }

    fn print_correlated(&mut self) -> Result<()> {
        for correlated in self.correlated.drain(..) {
            let Some(rule) = self.set.rules().get(correlated.rule) else { continue };
            let events: Vec<u64> = correlated.events.iter().map(|event| event.position.offset).collect();
            let group: serde_json::Map<_, _> =
                correlated.group.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let found = json!({ "rule_id": rule.key, "rule": rule.title, "level": rule.level,
                "event": events.last(), "events": events, "group": group, "reached": correlated.value,
                "window_start": correlated.window_start, "window_end": correlated.window_end });
            output::line(&found.to_string())?;
        }
        Ok(())
    }
}

/// The rules of these files or directories with the named lists that ship; without any path, the shipped rules.
pub(super) fn load_rules(paths: &[PathBuf]) -> Loaded {
    load_rules_with(paths, &Lists::shipped())
}

fn load_rules_with(paths: &[PathBuf], lists: &Lists) -> Loaded {
    let (files, unreadable) = read_files(paths);
    let mut loaded = load(&files, lists);
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

/// Reads `NAME=VALUE,…`; nothing behind the sign is an empty list.
fn named_list(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, values) = text.split_once('=').ok_or("expected NAME=VALUE,…")?;
    let values = values.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
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
        assert!(named_list("a").is_err());
    }
}
