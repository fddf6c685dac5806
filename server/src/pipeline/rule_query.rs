//! `rule:ID` in a query. Which rules matched an event is not in the index, because detection and indexing
//! read the log independently; it is with the alerts. Before a search, `rule:ID` is replaced by the ids of
//! the events that are linked to the rule's alerts (the first thousand of each alert).

use watchbell_alerting::{AlertStore, StoreError};
use watchbell_event::predicate::{Field, Predicate, Test};

/// Most events a rule may stand for in a search. Taking only some of them would give wrong answers.
const MAX_EVENTS: u64 = 20_000;
const FIELD: &str = "rule";

/// Why a query with `rule:` cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuleQueryError {
    /// Only whole ids can be looked up.
    #[error(
        "rule: takes the id of a rule, as GET /api/v1/rules and alerts show it, without wildcards or ranges"
    )]
    NotAnId,
    /// A rule that matches all the time.
    #[error(
        "rule:{0} stands for more than {MAX_EVENTS} events; search by what they have in common instead, or look \
         at one of its alerts (GET /api/v1/alerts?rule={0})"
    )]
    TooMany(String),
    /// The alerts cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Replaces every `rule:ID` by the events it stands for.
pub(super) fn resolve(query: Predicate, alerts: &AlertStore) -> Result<Predicate, RuleQueryError> {
    let all = |parts: Vec<Predicate>| {
        parts.into_iter().map(|part| resolve(part, alerts)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match query {
        Predicate::And(parts) => Predicate::And(all(parts)?),
        Predicate::Or(parts) => Predicate::Or(all(parts)?),
        Predicate::Not(part) => Predicate::Not(Box::new(resolve(*part, alerts)?)),
        Predicate::Field(field, Test::Is(rule)) if field.name() == FIELD => matched_events(&rule, alerts)?,
        Predicate::Field(field, _) if field.name() == FIELD => return Err(RuleQueryError::NotAnId),
        other => other,
    })
}

fn matched_events(rule: &str, alerts: &AlertStore) -> Result<Predicate, RuleQueryError> {
    let events = alerts.events_of_rule(rule, MAX_EVENTS + 1)?;
    if events.len() as u64 > MAX_EVENTS {
        return Err(RuleQueryError::TooMany(rule.chars().take(64).collect()));
    }
    let is = |id: watchbell_event::EventId| Predicate::Field(Field::new("id"), Test::Is(id.to_string()));
    Ok(match events.len() {
        0 => Predicate::Not(Box::new(Predicate::All)),
        _ => Predicate::Or(events.into_iter().map(is).collect()),
    })
}
