use std::sync::Arc;

use proptest::prelude::*;
use watchbell_event::{EventId, Position, Timestamp};

use super::naive::{Found, Match, Naive};
use super::{Correlated, CorrelationConfig, Correlator, Observed, SnapshotError};
use crate::compile::RuleSet;
use crate::evaluate::Evaluator;
use crate::load;

const SECOND: i64 = 1_000_000;

const BASE: &str = "
title: A
name: r0
detection: {s: {member: 0}, condition: s}
---
title: B
name: r1
detection: {s: {member: 1}, condition: s}
---
title: C
name: r2
detection: {s: {member: 2}, condition: s}
---
title: Correlation
id: correlation
correlation:
  rules: [r0, r1, r2]
  group-by: [group]
";

fn set(correlation: &str) -> Arc<RuleSet> {
    let loaded = load(&[("rules.yml".to_owned(), format!("{BASE}{correlation}"))], &crate::Lists::default());
    assert_eq!(loaded.errors, [], "{correlation}");
    Arc::new(RuleSet::compile(loaded.rules))
}

fn config(lateness: i64, idle: i64) -> CorrelationConfig {
    CorrelationConfig { lateness_micros: lateness, idle_micros: idle, ..CorrelationConfig::default() }
}

/// Feeds matches to a correlator and says what it found at each.
struct Rig {
    evaluator: Evaluator,
    correlator: Correlator,
}

impl Rig {
    fn new(set: &Arc<RuleSet>, config: CorrelationConfig) -> Self {
        Self {
            evaluator: Evaluator::new(Arc::clone(set)),
            correlator: Correlator::new(Arc::clone(set), config),
        }
    }

    fn take(&mut self, next: &Match) -> Vec<Found> {
        let json =
            format!(r#"{{"member":{},"group":"g{}","value":{}}}"#, next.member, next.group, next.value);
        self.take_json(next, &json)
    }

    fn take_json(&mut self, next: &Match, json: &str) -> Vec<Found> {
        let mut matches = Vec::new();
        self.evaluator.matches(json.as_bytes(), &mut matches);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(next.number as u64).to_be_bytes());
        let mut found = Vec::new();
        let observed = Observed {
            cluster: &Arc::from("c"),
            id: EventId(id),
            position: Position { partition: next.partition, offset: next.number as u64 },
            event_time: Timestamp::from_micros(next.time),
            received_at: Timestamp::from_micros(next.received_at),
            history: false,
        };
        self.correlator.take(&observed, &self.evaluator, &matches, &mut found);
        summary(&found)
    }

    fn finish(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        self.correlator.finish(&mut found);
        summary(&found)
    }
}

fn summary(found: &[Correlated]) -> Vec<Found> {
    let one = |found: &Correlated| {
        let group = found.group[0].1.as_deref().and_then(|group| group[1..].parse().ok()).unwrap();
        let events = found.events.iter().map(|event| usize::try_from(event.id.prefix()).unwrap());
        let events = events.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        (group, found.window_end.as_micros(), crate::text::float_text(found.value), events)
    };
    let mut all: Vec<Found> = found.iter().map(one).collect();
    all.sort();
    all
}

fn sorted(mut found: Vec<Found>) -> Vec<Found> {
    found.sort();
    found
}

fn correlations() -> impl Strategy<Value = String> {
    let counts = prop::sample::select(vec![
        "gte: 3",
        "gt: 1",
        "gte: 1",
        "lt: 3",
        "lte: 2",
        "eq: 2",
        "neq: 2",
        "gt: 1, lte: 3",
        "gte: 2, neq: 3",
    ]);
    let kinds = prop::sample::select(vec!["event_count", "value_count", "temporal", "temporal_ordered"]);
    let counted = (kinds, counts.clone()).prop_map(|(kind, counts)| {
        let field = if kind == "value_count" { "field: value, " } else { "" };
        format!("  type: {kind}\n  condition: {{{field}{counts}}}\n")
    });
    let numbers = prop::sample::select(vec!["gte: 3", "lt: 4", "eq: 2", "gt: 0, lt: 3"]);
    let kinds = prop::sample::select(vec!["value_sum", "value_avg", "value_median", "value_percentile"]);
    let numeric = (kinds, numbers, 0..=100_u8).prop_map(|(kind, numbers, percent)| {
        let percentile =
            if kind == "value_percentile" { format!(", percentile: {percent}") } else { String::new() };
        format!("  type: {kind}\n  condition: {{field: value, {numbers}{percentile}}}\n")
    });
    let expressions = prop::sample::select(vec![
        ("temporal", "r0 and r1"),
        ("temporal", "r0 and not r1"),
        ("temporal", "r0 and (r1 or r2)"),
        ("temporal", "not (r0 and r1)"),
        ("temporal_ordered", "r0 and r2"),
        ("temporal_ordered", "r0 and r2 and not r1"),
    ]);
    let expressed = expressions.prop_map(|(kind, text)| format!("  type: {kind}\n  condition: {text}\n"));
    (prop_oneof![counted, numeric, expressed], 0..12_i64)
        .prop_map(|(text, span)| format!("{text}  timespan: {}s\n", span + 1))
}

fn matches() -> impl Strategy<Value = Vec<Match>> {
    let one = (0..40_i64, 0..3_i64, 0..2_u32, 0..2_u8, 0..3_usize, -1..4_i64);
    prop::collection::vec(one, 1..100).prop_map(|events| {
        let mut received_at = 0;
        let events = events.into_iter().enumerate();
        events
            .map(|(number, (time, pause, partition, group, member, value))| {
                received_at += pause * SECOND;
                // Time goes on, with events up to twenty seconds out of order.
                let time = number as i64 * SECOND / 2 + (time - 20) * SECOND / 2;
                Match { number, time, received_at: time.max(received_at), partition, group, member, value }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_finds_what_looking_at_every_window_finds(
        text in correlations(), matches in matches(), lateness in 0..20_i64, idle in 1..30_i64,
        listed in prop_oneof![1..8_usize, Just(100)],
    ) {
        let set = set(&text);
        let rule = set.rules().iter().find_map(|rule| rule.correlation.clone()).unwrap();
        let (lateness, idle) = (lateness * SECOND, idle * SECOND);
        let mut naive = Naive::new(&rule, lateness, idle, listed);
        let config = CorrelationConfig { listed_events: listed, ..config(lateness, idle) };
        let mut rig = Rig::new(&set, config);
        for next in &matches {
            prop_assert_eq!(rig.take(next), sorted(naive.take(next)), "at {:?}", next);
        }
        prop_assert_eq!(rig.finish(), sorted(naive.finish()), "at the end");
    }

    #[test]
    fn a_snapshot_at_any_moment_changes_nothing(
        text in correlations(), matches in matches(), lateness in 0..20_i64, at in 0..40_usize,
        part_bytes in 1..400_usize,
    ) {
        let set = set(&text);
        let config =
            CorrelationConfig { listed_events: 3, ..config(lateness * SECOND, 10 * SECOND) };
        let mut whole = Rig::new(&set, config.clone());
        let mut first = Rig::new(&set, config.clone());
        let mut found = Vec::new();
        let mut snapshot = None;
        for (number, next) in matches.iter().enumerate() {
            if number == at {
                first.correlator.begin_snapshot();
            }
            // The snapshot is of the moment when it was begun, however long it takes.
            snapshot = snapshot.or(first.correlator.copy(part_bytes));
            found.push(first.take(next));
            prop_assert_eq!(found.last().unwrap(), &whole.take(next));
        }
        found.push(first.finish());
        prop_assert_eq!(found.last().unwrap(), &whole.finish());
        if let Some(snapshot) = snapshot.or(first.correlator.copy(usize::MAX)) {
            let mut restored = Rig::new(&set, config);
            let outcome = restored.correlator.restore(&snapshot.into_bytes()).unwrap();
            prop_assert_eq!((outcome.kept.len(), outcome.dropped.len()), (1, 0));
            for (next, found) in matches.iter().zip(&found).skip(at) {
                prop_assert_eq!(&restored.take(next), found);
            }
            prop_assert_eq!(&restored.finish(), found.last().unwrap());
        }
        let bytes = whole.correlator.stats().iter().map(|stats| stats.bytes).sum::<usize>();
        prop_assert!(bytes < 1 << 20);
    }
}

fn at(number: usize, seconds: i64, member: usize) -> Match {
    let time = seconds * SECOND;
    Match { number, time, received_at: time, partition: 0, group: 0, member, value: 0 }
}

const TWO: &str = "  type: event_count\n  timespan: 1m\n  condition: {gte: 2}\n";

#[test]
fn a_changed_rule_loses_its_state_and_others_keep_theirs() {
    let before = set(TWO);
    let check = |text: &str, base: (&str, &str), kept: usize| {
        let loaded = load(
            &[("rules.yml".to_owned(), format!("{BASE}{text}").replace(base.0, base.1))],
            &crate::Lists::default(),
        );
        let after = Arc::new(RuleSet::compile(loaded.rules));
        let mut rig = Rig::new(&before, CorrelationConfig::default());
        assert_eq!(rig.take(&at(0, 0, 0)), []);
        let snapshot = rig.correlator.snapshot();
        let outcome = rig.correlator.reload(Arc::clone(&after));
        assert_eq!((outcome.kept.len(), outcome.dropped.len()), (kept, 1 - kept), "reloaded: {text}");
        let mut other = Rig::new(&after, CorrelationConfig::default());
        assert_eq!(other.correlator.restore(&snapshot).unwrap(), outcome, "restored: {text}");
        for mut rig in [rig, other] {
            rig.evaluator = Evaluator::new(Arc::clone(&after));
            assert_eq!(rig.take(&at(1, 1, 0)).len(), kept, "{text}");
        }
    };
    check(TWO, ("", ""), 1);
    check(TWO, ("title: Correlation", "title: Renamed\nlevel: high"), 1);
    check(&TWO.replace("1m", "2m"), ("", ""), 0);
    check(TWO, ("{member: 0}", "{member: '0', group|exists: true}"), 0);
}

#[test]
fn what_is_no_sound_snapshot_is_refused() {
    let set = set(TWO);
    let mut rig = Rig::new(&set, CorrelationConfig::default());
    rig.take(&at(0, 0, 0));
    let snapshot = rig.correlator.snapshot();
    let mut check = |bytes: &[u8], expect: SnapshotError| {
        assert_eq!(rig.correlator.restore(bytes), Err(expect));
        // And what was known stays.
        assert_eq!(rig.correlator.stats()[0].groups, 1);
    };
    let mut flipped = snapshot.clone();
    *flipped.last_mut().unwrap() ^= 1;
    check(&flipped, SnapshotError::Damaged);
    check(&snapshot[..snapshot.len() - 1], SnapshotError::Damaged);
    check(b"WBCS", SnapshotError::Damaged);
    check(b"", SnapshotError::Damaged);
    let mut newer = snapshot;
    newer[4] = 9;
    check(&newer, SnapshotError::Version { found: 9 });
}

#[test]
fn one_group_may_be_flooded_without_an_end() {
    let set = set(&TWO.replace("gte: 2", "gte: 50000"));
    let budget = 8 << 20;
    let config = CorrelationConfig { rule_budget_bytes: budget, ..CorrelationConfig::default() };
    let mut rig = Rig::new(&set, config);
    let mut fired = 0;
    for number in 0..200_000 {
        let time = 1_000_000 + number as i64 * 100;
        let next = Match { time, received_at: time, ..at(number, 0, 0) };
        fired += rig.take(&next).len();
        assert!(number % 1_000 != 0 || rig.correlator.stats()[0].bytes <= budget);
    }
    let stats = &rig.correlator.stats()[0];
    assert_eq!((fired, stats.groups), (1, 1));
    assert!(stats.evicted_entries > 100_000, "{stats:?}");
}

#[test]
fn entries_that_make_no_difference_are_forgotten() {
    let check = |correlation: &str, most_bytes: usize| {
        let set = set(&format!("{correlation}  timespan: 1h\n"));
        let mut rig = Rig::new(&set, config(10 * SECOND, 10 * SECOND));
        let mut fired = 0;
        for number in 0..20_000 {
            let next = Match { value: number as i64 % 3, ..at(number, number as i64 / 10, number % 2) };
            fired += rig.take(&next).len();
            let bytes = rig.correlator.stats()[0].bytes;
            assert!(bytes < most_bytes, "{correlation}: {bytes} bytes after {number}");
        }
        assert_eq!(fired, 0, "{correlation}");
    };
    check("  type: value_count\n  condition: {field: value, gte: 4}\n", 60_000);
    check("  type: temporal\n", 60_000);
    check("  type: temporal_ordered\n", 60_000);
}

#[test]
fn an_event_that_two_rules_match_is_listed_once_however_much_is_forgotten() {
    let set = set("  type: temporal\n  timespan: 1h\n");
    let config = CorrelationConfig { listed_events: 30, ..config(SECOND, SECOND) };
    let mut rig = Rig::new(&set, config);
    let mut take = |number: usize, member: &str| {
        let json = format!(r#"{{"member":{member},"group":"g0"}}"#);
        rig.take_json(&at(number, number as i64, 0), &json)
    };
    assert!((0..500).all(|number| take(number, "[0,1]").is_empty()));
    let found = take(500, "2");
    assert_eq!(found[0].3, (471..=500).collect::<Vec<_>>());
}
