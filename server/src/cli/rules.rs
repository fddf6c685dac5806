use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use watchbell_rules::{Evaluator, Lists, LoadError, Loaded, RuleSet, library, load};

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
    /// Exit with 1 if a rule does not load or a line is not a JSON object.
    #[arg(long)]
    strict: bool,
}

const MAX_LINE_BYTES: u64 = 64 << 20;

impl RulesCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Check { paths } => {
                let loaded = load_rules(&paths, &Lists::shipped());
                report(&loaded.errors);
                output::note(&format!("{} rules are sound", loaded.rules.len()));
                Ok(exit_code(loaded.errors.is_empty()))
            }
            Self::Eval(args) => args.run(),
        }
    }
}

impl EvalArgs {
    fn run(self) -> Result<ExitCode> {
        let mut lists = Lists::shipped();
        for (name, values) in self.lists {
            lists.override_with(&name, values).map_err(|reason| anyhow!("--set {name}: {reason}"))?;
        }
        let loaded = load_rules(&self.rules, &lists);
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
            for rule in matches.iter().filter_map(|index| set.rules().get(*index)) {
                let found =
                    json!({ "rule_id": rule.key, "rule": rule.title, "level": rule.level, "event": number });
                output::line(&found.to_string())?;
            }
        }
        Ok(exit_code(!self.strict || (loaded.errors.is_empty() && unreadable == 0)))
    }
}

fn load_rules(paths: &[PathBuf], lists: &Lists) -> Loaded {
    if paths.is_empty() {
        return load(&library::files(), lists);
    }
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for path in paths {
        let found = rule_files::read(path);
        files.extend(found.files);
        unreadable.extend(found.unreadable);
    }
    let mut loaded = load(&files, lists);
    loaded.errors.extend(unreadable);
    loaded
}

/// Reads `NAME=VALUE,…`; nothing behind the sign is an empty list.
fn named_list(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, values) = text.split_once('=').ok_or("expected NAME=VALUE,…")?;
    let values = values.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect();
    Ok((name.to_owned(), values))
}

/// Lists what does not load on standard error, and counts it.
fn report(errors: &[LoadError]) {
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

fn exit_code(good: bool) -> ExitCode {
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
