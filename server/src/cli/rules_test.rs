//! `watchbell rules test`: do rules match what their samples say, and do the samples hold every condition?

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use watchbell_rules::samples::{self, Failure, Samples};
use watchbell_rules::{Lists, LoadError, library, load, mutate};

use super::output;
use super::rules::{exit_code, report};
use crate::rule_files;

/// Which rules to test.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Files or directories of rules; the samples of NAME.yml are in NAME.samples.yml beside it. Without any,
    /// the shipped rules.
    paths: Vec<PathBuf>,
    /// Remove every single condition of a rule and demand that one of its samples then fails.
    #[arg(long)]
    mutate: bool,
}

impl TestArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (files, mut problems) = self.read();
        let loaded = load(&files.rules, &Lists::shipped());
        problems.extend(loaded.errors);
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
                output::line(&difference(name, &failure))?;
            }
            if self.mutate {
                for survivor in mutate::survivors(name, text, &loaded.lists, &samples) {
                    failures += 1;
                    let (line, condition) = (survivor.line, survivor.condition);
                    output::line(&format!("{name}:{line}: no sample fails without {condition}"))?;
                }
            }
        }
        report(&problems);
        let rules = loaded.rules.len();
        output::note(&format!("{rules} rules, {sample_count} samples, {failures} failures"));
        Ok(exit_code(problems.is_empty() && failures == 0))
    }

    fn read(&self) -> (TestFiles, Vec<LoadError>) {
        if self.paths.is_empty() {
            let samples = library::sample_files().into_iter().collect();
            return (TestFiles { rules: library::files(), samples }, Vec::new());
        }
        let mut files = TestFiles::default();
        let mut problems = Vec::new();
        for path in &self.paths {
            let found = rule_files::read(path);
            files.rules.extend(found.files);
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
        (files, problems)
    }
}

/// Names and texts.
#[derive(Default)]
struct TestFiles {
    rules: Vec<(String, String)>,
    samples: HashMap<String, String>,
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

/// A failure as a diff from what the samples demand to what the rules do.
fn difference(rule_file: &str, failure: &Failure) -> String {
    let (file, line) = (samples::file_of(rule_file), failure.line);
    let mut text = format!("--- {file}:{line}\n+++ {rule_file}\n");
    for line in failure.differences.iter().map(String::as_str).chain([&*format!("  {}", failure.what)]) {
        text += &output::printable(line);
        text.push('\n');
    }
    text
}
