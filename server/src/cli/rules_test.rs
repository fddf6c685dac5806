//! `watchbell rules test`: do rules match what their samples say, and do the samples hold every condition?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use watchbell_rules::samples::{self, Sample};
use watchbell_rules::{LoadError, library, load, mutate};

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
        let (mut sample_count, mut failures) = (0, 0);
        for file in &files {
            let loaded = load(&[(file.name.clone(), file.text.clone())]);
            problems.extend(loaded.errors);
            sample_count += file.samples.len();
            for sample in samples::failures(&loaded.rules, &file.samples) {
                failures += 1;
                output::line(&difference(&file.name, sample))?;
            }
            if file.samples.is_empty() {
                output::note(&format!("{}: no samples", file.name));
            } else if self.mutate {
                for survivor in mutate::survivors(&file.name, &file.text, &file.samples) {
                    failures += 1;
                    let (name, line) = (&file.name, survivor.line);
                    output::line(&format!("{name}:{line}: no sample fails without {}", survivor.condition))?;
                }
            }
        }
        report(&problems);
        output::note(&format!("{} files, {sample_count} samples, {failures} failures", files.len()));
        Ok(exit_code(problems.is_empty() && failures == 0))
    }

    fn read(&self) -> (Vec<TestFile>, Vec<LoadError>) {
        if self.paths.is_empty() {
            return pair(library::files(), library::sample_files(), Vec::new());
        }
        let mut files = Vec::new();
        let mut sample_files = Vec::new();
        let mut problems = Vec::new();
        for path in &self.paths {
            let found = rule_files::read(path);
            files.extend(found.files);
            problems.extend(found.unreadable);
        }
        for (name, _) in &files {
            let samples = PathBuf::from(samples::file_of(name));
            if samples.exists() {
                let found = rule_files::read_samples(&samples);
                sample_files.extend(found.files);
                problems.extend(found.unreadable);
            }
        }
        pair(files, sample_files, problems)
    }
}

/// A rule file with its samples.
struct TestFile {
    name: String,
    text: String,
    samples: Vec<Sample>,
}

fn pair(
    files: Vec<(String, String)>,
    samples: Vec<(String, String)>,
    mut problems: Vec<LoadError>,
) -> (Vec<TestFile>, Vec<LoadError>) {
    let samples: BTreeMap<String, String> = samples.into_iter().collect();
    let mut pair = |(name, text): (String, String)| {
        let file = samples::file_of(&name);
        let read = samples.get(&file).map_or(Ok(Vec::new()), |text| samples::read(&file, text));
        let samples = read.unwrap_or_else(|error| {
            problems.push(error);
            Vec::new()
        });
        TestFile { name, text, samples }
    };
    let files = files.into_iter().map(&mut pair).collect();
    (files, problems)
}

/// A failure as a diff from what the sample demands to what the rules do.
fn difference(rule_file: &str, sample: &Sample) -> String {
    let name = |matches| if matches { "match" } else { "no-match" };
    format!(
        "--- {}:{}\n+++ {rule_file}\n-{}\n+{}\n {}",
        samples::file_of(rule_file),
        sample.line,
        name(sample.must_match),
        name(!sample.must_match),
        output::printable(&sample.event),
    )
}
