use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::samples::{self, Sample};
use crate::{Evaluator, Rule, RuleSet, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("library")
}

fn rules() -> Vec<Rule> {
    let loaded = load(&files());
    assert_eq!(loaded.errors, []);
    loaded.rules
}

fn samples_of(rule: &Rule) -> Vec<Sample> {
    let name = rule.file.replace(".yml", ".samples.yml");
    let bytes = std::fs::read(folder().join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    samples::read(&name, std::str::from_utf8(&bytes).unwrap()).unwrap()
}

/// All files below a folder, as paths relative to the library.
fn files_below(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn every_file_of_the_folder_is_embedded() {
    let mut found = BTreeSet::new();
    files_below(&folder(), &folder(), &mut found);
    let embedded =
        FILES.iter().flat_map(|(name, _)| [(*name).to_owned(), name.replace(".yml", ".samples.yml")]);
    assert_eq!(found, embedded.collect());
}

#[test]
fn every_rule_says_what_people_need() {
    for rule in rules() {
        let file = &rule.file;
        assert!(rule.id.as_ref().is_some_and(|id| id.len() == 36), "{file}: id");
        assert!(!rule.description.is_empty() && !rule.next_steps.is_empty(), "{file}: text");
        assert!(!rule.false_positives.is_empty(), "{file}: false positives");
        assert!(rule.tags.iter().any(|tag| tag.starts_with("attack.t1")), "{file}: technique");
        assert_eq!(rule.log_source.product.as_deref(), Some("kubernetes"), "{file}");
    }
}

#[test]
fn rules_match_their_samples_and_nothing_else() {
    let mut failures = Vec::new();
    for rule in rules() {
        let samples = samples_of(&rule);
        for must_match in [true, false] {
            let count = samples.iter().filter(|sample| sample.must_match == must_match).count();
            assert!(count >= 2, "{}: {count} samples", rule.file);
        }
        let file = rule.file.clone();
        let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(vec![rule])));
        let mut matches = Vec::new();
        for sample in samples {
            assert!(evaluator.matches(sample.event.as_bytes(), &mut matches), "{file}");
            if matches.is_empty() == sample.must_match {
                failures.push(format!("{file}: sample in line {}: {:.300}", sample.line, sample.event));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The whole set finds what each rule finds alone.
#[test]
fn rules_match_together_as_they_do_alone() {
    let rules = rules();
    let samples: Vec<_> = rules.iter().flat_map(samples_of).collect();
    let mut alone: Vec<_> =
        rules.iter().map(|rule| Evaluator::new(Arc::new(RuleSet::compile(vec![rule.clone()])))).collect();
    let mut together = Evaluator::new(Arc::new(RuleSet::compile(rules)));
    let (mut matches, mut single) = (Vec::new(), Vec::new());
    for sample in samples {
        together.matches(sample.event.as_bytes(), &mut matches);
        let expect: Vec<usize> = (0..alone.len())
            .filter(|rule| {
                alone[*rule].matches(sample.event.as_bytes(), &mut single);
                !single.is_empty()
            })
            .collect();
        assert_eq!(matches, expect, "{}", sample.event);
    }
}
