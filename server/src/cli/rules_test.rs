//! `watchbell rules test`: do rules match what their samples say, do the samples hold every condition, and do correlations
//! count as the suite says?

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use watchbell_rules::samples::{self, Samples};
use watchbell_rules::{LoadError, library, load, mutate, suite};

use super::output;
use super::rules::{ListOverrides, exit_code, read_path, report};
use crate::rule_files;

/// Which rules to test.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Files or directories of rules; the samples of NAME.yml are in NAME.samples.yml beside it. Without any,
    /// the shipped rules. Files of the correlation suite among them are run, too; without any path, those that ship.
    paths: Vec<PathBuf>,
    #[command(flatten)]
    lists: ListOverrides,
    /// Remove every single condition of a rule and demand that one of its samples then fails.
    #[arg(long)]
    mutate: bool,
}

impl TestArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (files, mut problems) = self.read()?;
        let loaded = load(&files.rules, &self.lists.lists()?);
        problems.extend(loaded.errors);
        self.lists.note_unread(&loaded.rules);
        let (mut sample_count, mut failures) = (0, 0);
        for (name, text) in &files.rules {
            let samples = read_samples(name, &files.samples, &mut problems);
            if samples.count() == 0 && loaded.rules.iter().any(|rule| *rule.file == **name) {
                output::note(&format!("{name}: no samples"));
                failures += u64::from(self.mutate);
                continue;
            }
            sample_count += samples.count();
            for failure in samples.failures(name, text, &loaded.lists) {
                failures += 1;
                let samples = samples::file_of(name);
                output::line(&difference(&samples, name, failure.line, &failure.what, &failure.differences))?;
            }
            if self.mutate {
                for survivor in mutate::survivors(name, text, &loaded.lists, &samples) {
                    failures += 1;
                    let (line, condition) = (survivor.line, survivor.condition);
                    output::line(&format!("{name}:{line}: no sample fails without {condition}"))?;
                }
            }
        }
        let cases = run_suite(&files.suite, &mut problems);
        for (name, case) in cases.iter().filter(|(_, case)| !case.differences.is_empty()) {
            failures += 1;
            output::line(&difference(
                name,
                "what the engine does",
                case.line,
                &case.title,
                &case.differences,
            ))?;
        }
        report(&problems);
        let (rules, cases) = (loaded.rules.len(), cases.len());
        if problems.is_empty() && sample_count + cases == 0 {
            bail!(
                "nothing was tested: the rules have no samples; those of NAME.yml belong in NAME.samples.yml beside it"
            );
        }
        output::note(&format!(
            "{rules} rules, {sample_count} samples, {cases} cases of the correlation suite, {failures} failures"
        ));
        Ok(exit_code(problems.is_empty() && failures == 0))
    }

    fn read(&self) -> Result<(TestFiles, Vec<LoadError>)> {
        if self.paths.is_empty() {
            let samples = library::sample_files().into_iter().collect();
            let suite = suite::FILES.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
            return Ok((TestFiles { rules: library::files(), samples, suite }, Vec::new()));
        }
        let mut files = TestFiles::default();
        let mut problems = Vec::new();
        for path in &self.paths {
            let found = read_path(path)?;
            let (suite, rules) = found.files.into_iter().partition(|(_, text)| suite::is_suite(text));
            let (suite, rules): (Vec<_>, Vec<_>) = (suite, rules);
            files.suite.extend(suite);
            files.rules.extend(rules);
            problems.extend(found.unreadable);
        }
        for (name, _) in &files.rules {
            let path = PathBuf::from(samples::file_of(name));
            if path.exists() {
                let found = rule_files::read_samples(&path);
                files.samples.extend(found.files);
                problems.extend(found.unreadable);
            }
        }
        Ok((files, problems))
    }
}

/// Names and texts.
#[derive(Default)]
struct TestFiles {
    rules: Vec<(String, String)>,
    samples: HashMap<String, String>,
    suite: Vec<(String, String)>,
}

/// What came of the cases of these files, each with the name of its file.
fn run_suite<'a>(
    files: &'a [(String, String)],
    problems: &mut Vec<LoadError>,
) -> Vec<(&'a str, suite::Outcome)> {
    let mut cases = Vec::new();
    for (name, text) in files {
        match suite::run(name, text) {
            Ok(outcomes) => cases.extend(outcomes.into_iter().map(|outcome| (name.as_str(), outcome))),
            Err(error) => problems.push(error),
        }
    }
    cases
}

fn read_samples(
    rule_file: &str,
    samples: &HashMap<String, String>,
    problems: &mut Vec<LoadError>,
) -> Samples {
    let name = samples::file_of(rule_file);
    let read = samples.get(&name).map_or(Ok(Samples::default()), |text| samples::read(&name, text));
    read.unwrap_or_else(|error| {
        problems.push(error);
        Samples::default()
    })
}

/// A failure as a diff from what a file demands on a line to what is done.
fn difference(file: &str, doer: &str, line: usize, what: &str, differences: &[String]) -> String {
    let mut text = format!("--- {file}:{line}\n+++ {doer}\n");
    for line in differences.iter().map(String::as_str).chain([&*format!("  {what}")]) {
        text += &output::printable(line);
        text.push('\n');
    }
    text
}
