//! The sets of rules that are measured.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use watchbell_rules::{Evaluator, Lists, RuleSet, library, load};

use super::generate::Generator;
use super::rounds;

/// Sizes of the generated sets. Each begins with the rules of the one before.
pub(crate) const SIZES: [usize; 5] = [10, 100, 1_000, 4_000, 10_000];
/// One event in so many matches one rule of each generated set.
const EVENTS_PER_MATCH: usize = 1_000;
/// Where among the generated rules the one stands that matches.
const MATCHING_RULE: usize = 5;
/// Stands between the documents of one text.
pub(crate) const SEPARATOR: &str = "\n---\n";

/// Rules in one text.
#[derive(Default)]
pub(crate) struct Set {
    /// What the report calls it.
    pub(crate) name: String,
    /// Sigma documents, separated by `---`.
    pub(crate) text: String,
}

impl Set {
    /// The rules that ship.
    pub(crate) fn library() -> Self {
        let files = library::files();
        let texts: Vec<_> = files.iter().map(|(_, text)| text.trim_end()).collect();
        Self { name: "library".to_owned(), text: texts.join(SEPARATOR) }
    }

    /// All rule files below a directory.
    pub(crate) fn directory(directory: &Path) -> Result<Self> {
        let mut documents = Vec::new();
        collect(directory, &mut documents)
            .with_context(|| format!("failed to read rules in {}", directory.display()))?;
        ensure!(!documents.is_empty(), "there are no rules in {}", directory.display());
        Ok(Self { name: directory.display().to_string(), text: documents.join(SEPARATOR) })
    }

    /// Generated sets of all [`SIZES`], of which about one event in a thousand matches a rule.
    pub(crate) fn generated(seed: u64, events: &[&[u8]]) -> Result<Vec<Self>> {
        let mut generator = Generator::new(seed, events);
        let largest = SIZES.into_iter().max().unwrap_or_default();
        let mut rules = Vec::with_capacity(largest);
        while rules.len() < largest {
            let made: Vec<String> = (0..largest).map(|_| generator.rule()).collect();
            let hits = hits(&made, events)?;
            rules.extend(made.into_iter().zip(hits).filter(|(_, hits)| *hits == 0).map(|(rule, _)| rule));
        }
        rules.insert(MATCHING_RULE, matching_rule(&mut generator, events)?);
        let set = |size: usize| Self { name: size.to_string(), text: rules[..size].join(SEPARATOR) };
        Ok(SIZES.map(set).into())
    }
}

/// A rule that matches one event in a thousand, but one at least.
fn matching_rule(generator: &mut Generator, events: &[&[u8]]) -> Result<String> {
    let wanted = (events.len() / EVENTS_PER_MATCH).max(1);
    let mut rules: Vec<String> = events.iter().filter_map(|event| generator.matching_rule(event)).collect();
    let hits = hits(&rules, events)?;
    let closest =
        (0..rules.len()).filter(|rule| hits[*rule] > 0).min_by_key(|rule| hits[*rule].abs_diff(wanted));
    Ok(rules.swap_remove(closest.context("no event has an object that a rule could be about")?))
}

/// How many events each rule matches.
fn hits(rules: &[String], events: &[&[u8]]) -> Result<Vec<usize>> {
    let files: Vec<_> = rules.iter().map(|rule| ("generated".to_owned(), rule.clone())).collect();
    let loaded = load(&files, &Lists::shipped());
    if let Some(error) = loaded.errors.first() {
        anyhow::bail!("a generated rule is refused: {error}");
    }
    let mut evaluator = Evaluator::new(Arc::new(RuleSet::compile(loaded.rules)));
    let (mut matches, mut hits) = (Vec::new(), vec![0; rules.len()]);
    for event in events {
        evaluator.matches(event, &mut matches);
        matches.iter().for_each(|rule| hits[*rule] += 1);
    }
    Ok(hits)
}

fn collect(directory: &Path, documents: &mut Vec<String>) -> Result<()> {
    let mut paths: Vec<_> = directory.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            collect(&path, documents)?;
        } else if (name.ends_with(".yml") || name.ends_with(".yaml")) && !name.ends_with(".samples.yml") {
            documents.push(String::from_utf8(rounds::read(&path)?)?.trim_end().to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_sets_share_their_rules_and_match_some_events_but_few() {
        let event = |name: &str| {
            serde_json::json!({ "verb": "get", "user": { "username": "olivia" }, "requestURI": format!("/api/{name}?x"),
                "objectRef": { "resource": "pods", "name": name }, "responseStatus": { "code": 200 } })
            .to_string()
        };
        let events: Vec<String> = (0..2_000).map(|number| event(&format!("pod-{}", number / 2))).collect();
        let events: Vec<&[u8]> = events.iter().map(String::as_bytes).collect();
        let sets = Set::generated(1, &events).unwrap();
        for (set, size) in sets.iter().zip(SIZES) {
            let rules: Vec<String> = set.text.split(SEPARATOR).map(str::to_owned).collect();
            assert_eq!(rules.len(), size);
            assert!(sets[sets.len() - 1].text.starts_with(&set.text));
            assert_eq!(hits(&rules, &events).unwrap().iter().sum::<usize>(), 2, "{size}");
        }
    }
}
