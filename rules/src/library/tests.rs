use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use watchbell_event::{EventId, Level, Position, Timestamp};

use super::*;
use crate::samples::{self, Samples};
use crate::{CorrelationConfig, Correlator, Evaluator, Lists, Observed, Rule, RuleSet, load, mutate};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("library")
}

fn rules() -> Vec<Rule> {
    let loaded = load(&files(), &Lists::shipped());
    assert_eq!(loaded.errors, []);
    loaded.rules
}

fn samples_of(file: &File) -> Samples {
    samples::read(&format!("{}.samples.yml", file.name), file.samples).unwrap()
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
    found.retain(|name| name != "README.md" && name != "lists.yml");
    assert_eq!(found, files().into_iter().chain(sample_files()).map(|(name, _)| name).collect());
}

#[test]
fn the_table_of_detections_names_every_file_and_no_other() {
    let table = include_str!("../../library/README.md");
    let named = table.split("](").skip(1).filter_map(|link| link.split(')').next());
    let named: BTreeSet<String> = named.map(str::to_owned).collect();
    let files = files().into_iter().map(|(name, _)| name);
    assert_eq!(named, files.chain(["lists.yml".to_owned()]).collect());
}

#[test]
fn every_rule_says_what_people_need() {
    let set = RuleSet::compile(rules());
    for (index, rule) in set.rules().iter().enumerate() {
        let file = &rule.file;
        assert_eq!(rule.log_source.product.as_deref(), Some("kubernetes"), "{file}");
        assert!(rule.id.as_ref().is_some_and(|id| id.len() == 36), "{file}: id");
        assert!(!rule.description.is_empty(), "{file}: description");
        if set.is_silent(index) {
            continue;
        }
        assert!(!rule.next_steps.is_empty(), "{file}: next steps");
        assert!(!rule.false_positives.is_empty(), "{file}: false positives");
        assert!(rule.tags.iter().any(|tag| tag.starts_with("attack.t1")), "{file}: technique");
    }
}

#[test]
fn rules_match_their_samples_and_nothing_else() {
    let mut failures = Vec::new();
    for file in FILES {
        let samples = samples_of(file);
        for must_match in [true, false] {
            assert!(samples.count_of(must_match) >= 2, "{}: samples for {must_match}", file.name);
        }
        for failure in samples.failures(file.name, file.rules, &Lists::shipped()) {
            let (line, what) = (failure.line, failure.what);
            failures.push(format!("{}:{line}: {what:.300}: {:?}", file.name, failure.differences));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The whole set finds what each rule finds alone.
#[test]
fn rules_match_together_as_they_do_alone() {
    let rules = rules();
    let samples: Vec<_> = FILES.iter().flat_map(|file| samples_of(file).samples).collect();
    let mut alone: Vec<_> =
        rules.iter().map(|rule| Evaluator::new(Arc::new(RuleSet::compile(vec![rule.clone()])))).collect();
    let mut together = Evaluator::new(Arc::new(RuleSet::compile(rules)));
    let (mut matches, mut single) = (Vec::new(), Vec::new());
    for sample in samples {
        let event = sample.event.as_bytes();
        let format = samples::format_of(event);
        together.matches_of(format, event, &mut matches);
        let expect: Vec<usize> = (0..alone.len())
            .filter(|rule| {
                alone[*rule].matches_of(format, event, &mut single);
                !single.is_empty()
            })
            .collect();
        assert_eq!(matches, expect, "{}", sample.event);
    }
}

/// Events of a real API server: what its control plane does by itself, people at work, and an attack.
fn recorded(name: &str) -> Vec<String> {
    let file = folder().join("../../tests/fixtures/recorded").join(name);
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
    std::str::from_utf8(&bytes).unwrap().lines().map(str::to_owned).collect()
}

/// The indexes of the rules that alert on recorded events, correlations included, with the event on which.
fn alerts(set: &Arc<RuleSet>, events: &[String]) -> Vec<(usize, String)> {
    let mut evaluator = Evaluator::new(Arc::clone(set));
    let mut correlator = Correlator::new(Arc::clone(set), CorrelationConfig::default());
    let (mut matches, mut correlated, mut alerts) = (Vec::new(), Vec::new(), Vec::new());
    for (offset, event) in (0..).zip(events) {
        assert!(evaluator.matches(event.as_bytes(), &mut matches), "{event}");
        let parsed: serde_json::Value = serde_json::from_str(event).unwrap();
        let time: Timestamp = parsed["stageTimestamp"].as_str().unwrap().parse().unwrap();
        let observed = Observed {
            cluster: &"prod".into(),
            id: EventId::from_hash(&blake3::hash(event.as_bytes())),
            position: Position { partition: 0, offset },
            event_time: time,
            received_at: time,
            history: false,
        };
        correlator.take(&observed, &evaluator, &matches, &mut correlated);
        let alone = matches.iter().copied().filter(|rule| !set.is_silent(*rule));
        alerts.extend(
            alone.chain(correlated.drain(..).map(|found| found.rule)).map(|rule| (rule, event.clone())),
        );
    }
    correlator.finish(&mut correlated);
    alerts.extend(correlated.iter().map(|found| (found.rule, "the end".to_owned())));
    alerts
}

#[test]
fn a_healthy_cluster_is_silent() {
    let set = Arc::new(RuleSet::compile(rules()));
    let events = [recorded("bootstrap.jsonl"), recorded("work.jsonl")].concat();
    for (rule, event) in alerts(&set, &events) {
        let rule = &set.rules()[rule];
        assert!(rule.level < Level::Medium, "{} ({}) matches {event}", rule.file, rule.title);
    }
}

#[test]
fn every_step_of_the_recorded_attack_is_found_by_name() {
    let set = Arc::new(RuleSet::compile(rules()));
    let mut evaluator = Evaluator::new(set.clone());
    let mut matches = Vec::new();
    let found: Vec<Vec<String>> = recorded("attack.jsonl")
        .iter()
        .map(|event| {
            evaluator.matches(event.as_bytes(), &mut matches);
            matches.iter().map(|rule| set.rules()[*rule].key.to_string()).collect()
        })
        .collect();
    for step in recorded("steps.jsonl") {
        let step: serde_json::Value = serde_json::from_str(&step).unwrap();
        let lines = step["lines"].as_array().unwrap().iter().map(|line| line.as_u64().unwrap());
        let seen: Vec<&String> = lines.flat_map(|line| &found[usize::try_from(line).unwrap()]).collect();
        for rule in step["rules"].as_array().unwrap() {
            assert!(seen.iter().any(|seen| *seen == rule.as_str().unwrap()), "{}: {rule}", step["step"]);
        }
    }
}

#[test]
fn samples_notice_if_any_condition_is_removed() {
    let mut survivors = Vec::new();
    for file in FILES {
        for survivor in mutate::survivors(file.name, file.rules, &Lists::shipped(), &samples_of(file)) {
            survivors.push(format!("{}.yml:{}: {}", file.name, survivor.line, survivor.condition));
        }
    }
    assert!(survivors.is_empty(), "{} survive:\n{}", survivors.len(), survivors.join("\n"));
}

/// Kubernetes reserves names that begin with `system:` in lower case only: a certificate or an identity
/// provider may carry `System:Kube-Controller-Manager`, which no exclusion may let through.
#[test]
fn exclusions_compare_who_acted_with_case() {
    for (file, text) in files() {
        let mut excluded = false;
        for line in text.lines() {
            if line.starts_with("  ") && !line.starts_with("   ") {
                excluded = line.trim_start().starts_with("filter_");
            }
            let who = ["user.username", "user.groups"].iter().any(|field| line.trim().starts_with(field));
            assert!(!excluded || !who || line.contains("|cased"), "{file}: {line}");
        }
    }
}
