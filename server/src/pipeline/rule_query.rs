//! `rule:ID` in a query. Which rules matched an event is not in the index, because detection and indexing
//! read the log independently; it is with the alerts. Before a search, `rule:ID` is replaced by the ids of
//! the events that are linked to the rule's alerts (the first thousand of each alert).

use watchbell_alerting::{AlertStore, Filter, StoreError};
use watchbell_event::predicate::{Field, Predicate, Test};
use watchbell_rules::{Rule, RuleSet};

use crate::roles::Elsewhere;

/// Most events a rule may stand for in a search. Taking only some of them would give wrong answers.
const MAX_EVENTS: u64 = 20_000;
const FIELD: &str = "rule";
/// Longest id that an error repeats, in characters.
const MAX_SHOWN_CHARACTERS: usize = 64;
/// How many rules an error suggests.
const MAX_SUGGESTIONS: usize = 3;
/// How alike a suggestion must be, from 0 to 1.
const LIKENESS: f64 = 0.7;
/// How many names are compared for suggestions; comparing takes microseconds, and there may be 50,000 rules.
const MAX_COMPARED: usize = 20_000;

/// Why a query with `rule:` cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuleQueryError {
    /// Only whole ids can be looked up.
    #[error(
        "rule: takes the id of a rule, as GET /api/v1/rules and alerts show it, without wildcards or ranges"
    )]
    NotAnId,
    /// Neither in force nor in any alert.
    #[error("rule:{rule} is no rule that is in force or has alerts{}", suggestion(.closest))]
    Unknown {
        /// What was asked for.
        rule: String,
        /// Rules that may be meant: id and title.
        closest: Vec<String>,
    },
    /// A rule that matches all the time.
    #[error(
        "rule:{0} stands for more than {MAX_EVENTS} events; search by what they have in common instead, or look \
         at one of its alerts (GET /api/v1/alerts?rule={0})"
    )]
    TooMany(String),
    /// The alerts are another process's.
    #[error("rule: stands for the events of a rule's alerts: {0}, and search by the ids of the events")]
    Elsewhere(Elsewhere),
    /// The alerts cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn suggestion(closest: &[String]) -> String {
    match closest {
        [] => "; GET /api/v1/rules lists those in force".to_owned(),
        closest => format!("; closest: {}", closest.join(", ")),
    }
}

/// Replaces every `rule:ID` by the events it stands for.
pub(super) fn resolve(
    query: Predicate,
    alerts: &AlertStore,
    rules: &RuleSet,
) -> Result<Predicate, RuleQueryError> {
    let all = |parts: Vec<Predicate>| {
        parts.into_iter().map(|part| resolve(part, alerts, rules)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match query {
        Predicate::And(parts) => Predicate::And(all(parts)?),
        Predicate::Or(parts) => Predicate::Or(all(parts)?),
        Predicate::Not(part) => Predicate::Not(Box::new(resolve(*part, alerts, rules)?)),
        Predicate::Field(field, Test::Is(rule)) if field.name() == FIELD => {
            matched_events(&rule, alerts, rules)?
        }
        Predicate::Field(field, _) if field.name() == FIELD => return Err(RuleQueryError::NotAnId),
        other => other,
    })
}

/// Refuses `rule:ID` where alerts are not known.
pub(super) fn without_rules(
    query: Predicate,
    elsewhere: impl Fn() -> Elsewhere + Copy,
) -> Result<Predicate, RuleQueryError> {
    let all = |parts: Vec<Predicate>| {
        parts.into_iter().map(|part| without_rules(part, elsewhere)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match query {
        Predicate::And(parts) => Predicate::And(all(parts)?),
        Predicate::Or(parts) => Predicate::Or(all(parts)?),
        Predicate::Not(part) => Predicate::Not(Box::new(without_rules(*part, elsewhere)?)),
        Predicate::Field(field, _) if field.name() == FIELD => {
            return Err(RuleQueryError::Elsewhere(elsewhere()));
        }
        other => other,
    })
}

fn matched_events(rule: &str, alerts: &AlertStore, rules: &RuleSet) -> Result<Predicate, RuleQueryError> {
    let events = alerts.events_of_rule(rule, MAX_EVENTS + 1)?;
    if events.len() as u64 > MAX_EVENTS {
        return Err(RuleQueryError::TooMany(shown(rule)));
    }
    if events.is_empty() && !is_known(rule, alerts, rules)? {
        return Err(RuleQueryError::Unknown { rule: shown(rule), closest: closest(rule, rules.rules()) });
    }
    let is = |id: watchbell_event::EventId| Predicate::Field(Field::new("id"), Test::Is(id.to_string()));
    Ok(match events.len() {
        0 => Predicate::Not(Box::new(Predicate::All)),
        _ => Predicate::Or(events.into_iter().map(is).collect()),
    })
}

/// Whether a rule is in force, or was when it raised an alert.
fn is_known(id: &str, alerts: &AlertStore, rules: &RuleSet) -> Result<bool, StoreError> {
    if rules.rules().iter().any(|rule| *rule.key == *id) {
        return Ok(true);
    }
    let filter = Filter { rule_id: Some(id.to_owned()), ..Filter::default() };
    Ok(!alerts.list(&filter, 1, None)?.alerts.is_empty())
}

/// The rules of which the id, the name, the title or the file is most like what was asked for.
fn closest(asked: &str, rules: &[Rule]) -> Vec<String> {
    let asked = shown(asked).to_lowercase();
    let mut compared = 0;
    let mut compare = |name: &str| {
        // Names of which the length alone makes them too different are most.
        if !may_be_alike(&asked, name) || compared >= MAX_COMPARED {
            return 0.0;
        }
        compared += 1;
        strsim::normalized_levenshtein(&asked, &shown(name).to_lowercase())
    };
    let mut likeness = |rule: &Rule| {
        let file = rule.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".yml");
        let names = [Some(&*rule.key), rule.name.as_deref(), Some(&*rule.title), Some(file)];
        names.into_iter().flatten().map(&mut compare).fold(0.0, f64::max)
    };
    let mut alike: Vec<(f64, &Rule)> = rules.iter().map(|rule| (likeness(rule), rule)).collect();
    alike.retain(|(likeness, _)| *likeness >= LIKENESS);
    alike.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    alike.truncate(MAX_SUGGESTIONS);
    alike.iter().map(|(_, rule)| format!("{} ({})", rule.key, rule.title)).collect()
}

/// Whether the lengths allow for [`LIKENESS`]: each character that one has more than the other is a difference.
fn may_be_alike(one: &str, other: &str) -> bool {
    let length =
        |text: &str| u32::try_from(text.chars().take(MAX_SHOWN_CHARACTERS).count()).unwrap_or(u32::MAX);
    let (one, other) = (f64::from(length(one)), f64::from(length(other)));
    one.min(other) >= LIKENESS * one.max(other)
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use watchbell_alerting::StoreConfig;
    use watchbell_alerting::route::Router;
    use watchbell_rules::{Lists, library, load};

    use super::*;

    #[test]
    fn names_are_compared_only_if_their_lengths_allow_for_likeness() {
        for (one, other, expect) in [
            ("abcdefghij", "abcdefg", true),
            ("abcdefghij", "abcdef", false),
            ("abcdef", "abcdefghij", false),
            ("ééééé", "ééééé", true),
            ("", "abc", false),
        ] {
            assert_eq!(may_be_alike(one, other), expect, "{one} {other}");
            assert!(expect || strsim::normalized_levenshtein(one, other) < LIKENESS, "{one} {other}");
        }
    }

    #[test]
    fn a_rule_that_nobody_knows_is_named_with_those_that_may_be_meant() {
        let dir = tempfile::tempdir().unwrap();
        let alerts =
            AlertStore::open(&dir.path().join("a.sqlite"), StoreConfig::default(), Router::default())
                .unwrap();
        let rules = RuleSet::compile(load(&library::files(), &Lists::shipped()).rules);
        let first = &rules.rules()[0];
        let ask = |rule: &str| {
            let query = Predicate::Field(Field::new("rule"), Test::Is(rule.to_owned()));
            resolve(Predicate::Not(Box::new(query)), &alerts, &rules).map_err(|error| error.to_string())
        };
        assert!(ask(&first.key).is_ok(), "a rule without alerts finds nothing");
        let meant = format!("; closest: {} ({})", first.key, first.title);
        let mistyped = first.key.replacen(|digit: char| digit.is_ascii_digit(), "x", 1);
        let file = first.file.rsplit('/').next().unwrap().trim_end_matches(".yml").to_owned();
        for asked in [mistyped, first.title.to_string(), file] {
            let error = ask(&asked).unwrap_err();
            assert!(
                error.starts_with(&format!("rule:{asked} is no rule")) && error.contains(&meant),
                "{error}"
            );
        }
        let error =
            ask("quite something else, and of great length it is, longer than any error wants").unwrap_err();
        assert!(error.ends_with("GET /api/v1/rules lists those in force") && error.len() < 200, "{error}");
    }
}
