//! The store through its own interface; what receivers do is tested through the crate's.

use proptest::prelude::*;
use watchbell_event::{Detection, EventId, Level, Positions};

use super::*;
use crate::route::Route;
use crate::testing::{at, detection, id};
use crate::{DeliveryState, Filter};

struct Fixture {
    store: AlertStore,
    directory: tempfile::TempDir,
}

fn router(min_level: Option<Level>) -> Router {
    let root = Route { receiver: Some("soc".to_owned()), min_level, ..Route::default() };
    Router::new(root, &["soc"]).unwrap()
}

fn fixture(config: StoreConfig) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = AlertStore::open(&directory.path().join("alerts.db"), config, router(None)).unwrap();
    Fixture { store, directory }
}

impl Fixture {
    fn reopen(self) -> Self {
        let path = self.directory.path().join("alerts.db");
        let config = self.store.shared.config.clone();
        drop(self.store);
        Self { store: AlertStore::open(&path, config, router(None)).unwrap(), directory: self.directory }
    }

    fn commit(&self, detections: &[Detection]) -> CommitReport {
        let mut positions = self.store.positions();
        detections.iter().for_each(|detection| positions.advance_past(detection.position));
        let now = detections.last().map_or(at(0), |detection| detection.received_at);
        self.store.commit(detections, &positions, now).unwrap()
    }

    fn alerts(&self) -> Vec<crate::Alert> {
        self.store.list(&Filter::default(), 1000, None).unwrap().alerts
    }
}

/// A detection in the group `group`.
fn grouped(number: u64, group: u64) -> Detection {
    Detection { group_key: id(group), ..detection(number) }
}

fn counts(report: &CommitReport) -> (usize, u64, u64, u64, u64) {
    let CommitReport { new_alerts, occurrences, suppressed, replayed, notices } = report;
    (new_alerts.len(), *occurrences, *suppressed, *replayed, *notices)
}

#[test]
fn occurrences_of_one_group_are_one_alert_and_one_notice() {
    let fixture = fixture(StoreConfig::default());
    let mut last = grouped(3, 1);
    last.summary = "eve did it again".to_owned();
    let report = fixture.commit(&[grouped(1, 1), grouped(2, 2), last]);
    assert_eq!(counts(&report), (2, 1, 0, 0, 2));
    let alerts = fixture.alerts();
    assert_eq!(alerts.iter().map(|alert| alert.count).collect::<Vec<_>>(), [1, 2]);
    let alert = &alerts[1];
    assert_eq!(alert.id, AlertId::new("rule-1", &id(1), &id(1)));
    assert_eq!((alert.first_received, alert.last_received), (at(1), at(3)));
    assert_eq!(
        (alert.first_summary.as_str(), alert.last_summary.as_str()),
        ("eve read secret 1", "eve did it again")
    );
    assert_eq!(alert.labels, [("user.name".to_owned(), "eve".to_owned())]);
    let details = fixture.store.get(alert.id).unwrap().unwrap();
    assert_eq!(details.events.iter().map(|event| event.id).collect::<Vec<_>>(), [id(1), id(3)]);
    assert_eq!(details.events_beyond, 0);
    assert_eq!(fixture.store.events_of_rule("rule-1", 10).unwrap().len(), 3);
    assert!(fixture.store.get(AlertId(id(77))).unwrap().is_none());
}

#[test]
fn several_stages_of_one_request_count_once() {
    let fixture = fixture(StoreConfig::default());
    let complete = Detection { request_key: id(1), ..grouped(2, 1) };
    let other_rule = Detection { request_key: id(1), rule_id: "rule-2".into(), ..grouped(3, 1) };
    assert_eq!(counts(&fixture.commit(&[grouped(1, 1)])), (1, 0, 0, 0, 1));
    assert_eq!(counts(&fixture.commit(&[complete, other_rule])), (1, 0, 1, 0, 1));
    assert!(fixture.alerts().iter().all(|alert| alert.count == 1));
}

#[test]
fn the_window_of_known_requests_is_bounded_exactly() {
    let fixture = fixture(StoreConfig { request_window: 2, ..StoreConfig::default() });
    fixture.commit(&[grouped(1, 1), grouped(2, 1), grouped(3, 1)]);
    let again = |number, request| Detection { request_key: id(request), ..grouped(number, 1) };
    assert_eq!(counts(&fixture.commit(&[again(4, 2)])), (0, 0, 1, 0, 0));
    assert_eq!(counts(&fixture.commit(&[again(5, 1)])), (0, 1, 0, 0, 0));
}

#[test]
fn a_quiet_hour_ends_an_episode_but_not_the_alert() {
    let fixture = fixture(StoreConfig::default());
    let later = |number, seconds| Detection { received_at: at(seconds), ..grouped(number, 1) };
    assert_eq!(counts(&fixture.commit(&[later(1, 0), later(2, 3600)])), (1, 1, 0, 0, 1));
    assert_eq!(counts(&fixture.commit(&[later(3, 7201)])), (1, 0, 0, 0, 1));
    let alerts = fixture.alerts();
    assert_eq!(
        alerts.iter().map(|alert| (alert.count, alert.status)).collect::<Vec<_>>(),
        [(1, Status::Open), (2, Status::Open)]
    );
}

#[test]
fn people_end_an_episode_and_the_trail_keeps_who() {
    let fixture = fixture(StoreConfig::default());
    fixture.commit(&[grouped(1, 1)]);
    let alert = fixture.alerts()[0].id;
    assert!(fixture.store.close(alert, Status::Acknowledged, "alice", at(5)).unwrap());
    assert_eq!(counts(&fixture.commit(&[grouped(2, 1)])), (0, 1, 0, 0, 0));
    assert!(fixture.store.close(alert, Status::Resolved, "bob", at(6)).unwrap());
    assert_eq!(counts(&fixture.commit(&[grouped(3, 1)])), (1, 0, 0, 0, 1));
    let details = fixture.store.get(alert).unwrap().unwrap();
    assert_eq!((details.alert.status, details.alert.count), (Status::Resolved, 2));
    let trail: Vec<(&str, Status)> =
        details.trail.iter().map(|change| (change.by.as_str(), change.status)).collect();
    assert_eq!(trail, [("alice", Status::Acknowledged), ("bob", Status::Resolved)]);
    assert!(!fixture.store.close(AlertId(id(77)), Status::Resolved, "bob", at(7)).unwrap());
    assert!(matches!(fixture.store.close(alert, Status::Open, "bob", at(7)), Err(StoreError::Reopen)));
}

#[test]
fn the_same_event_opens_only_one_alert_even_after_it_was_closed() {
    let fixture = fixture(StoreConfig { request_window: 0, ..StoreConfig::default() });
    fixture.commit(&[grouped(1, 1)]);
    fixture.store.close(fixture.alerts()[0].id, Status::Resolved, "bob", at(2)).unwrap();
    let duplicate = Detection { event_id: id(1), ..grouped(2, 1) };
    assert_eq!(counts(&fixture.commit(&[duplicate])), (0, 0, 1, 0, 0));
    assert_eq!(fixture.alerts().len(), 1);
}

#[test]
fn history_notifies_nobody_until_it_happens_again_live() {
    let fixture = fixture(StoreConfig::default());
    let imported = Detection { history: true, ..grouped(1, 1) };
    assert_eq!(counts(&fixture.commit(&[imported])), (1, 0, 0, 0, 0));
    assert!(fixture.alerts()[0].history);
    assert_eq!(counts(&fixture.commit(&[grouped(2, 1)])), (0, 1, 0, 0, 1));
    assert!(!fixture.alerts()[0].history);
}

#[test]
fn low_levels_are_kept_and_notify_only_if_a_route_says_so() {
    let fixture = fixture(StoreConfig::default());
    let low = |number| Detection { level: Level::Low, ..grouped(number, number) };
    assert_eq!(counts(&fixture.commit(&[low(1)])), (1, 0, 0, 0, 0));
    fixture.store.set_router(router(Some(Level::Low)));
    assert_eq!(counts(&fixture.commit(&[low(2)])), (1, 0, 0, 0, 1));
}

#[test]
fn repeats_are_told_once_per_interval_and_counted() {
    let fixture = fixture(StoreConfig { repeat_interval_ms: 100_000, ..StoreConfig::default() });
    let store = &fixture.store;
    fixture.commit(&[grouped(1, 1), grouped(2, 1)]);
    let first = store.begin_fresh("soc", 10, at(2)).unwrap().unwrap();
    let message = store.message(&first, 10).unwrap();
    assert_eq!((message.total, message.notices[0].more, message.notices[0].alert.count), (1, None, 2));
    store.finish(&first, &Verdict::Sent { outcome: "HTTP 200".to_owned() }, at(2)).unwrap();
    assert_eq!(store.due("soc", 0).unwrap(), Due::default());

    fixture.commit(&[grouped(3, 1), grouped(4, 1)]);
    fixture.commit(&[grouped(5, 1)]);
    assert_eq!(store.due("soc", 0).unwrap().fresh, Some(at(102)));
    assert!(store.begin_fresh("soc", 10, at(101)).unwrap().is_none());
    let digest = store.begin_fresh("soc", 10, at(102)).unwrap().unwrap();
    assert_ne!(digest.id, first.id);
    assert_eq!(store.message(&digest, 10).unwrap().notices[0].more, Some(3));
    let deliveries = store.deliveries(fixture.alerts()[0].id).unwrap();
    assert_eq!(deliveries.iter().map(|delivery| delivery.digest).collect::<Vec<_>>(), [false, true]);

    fixture.commit(&[grouped(6, 1)]);
    assert!(store.due("soc", 0).unwrap().fresh.is_some());
    store.close(fixture.alerts()[0].id, Status::Acknowledged, "alice", at(103)).unwrap();
    assert_eq!(store.due("soc", 0).unwrap().fresh, None);
}

#[test]
fn alerts_that_return_to_the_outbox_are_told_once_with_all_that_came_meanwhile() {
    let fixture = fixture(StoreConfig { repeat_interval_ms: 100_000, ..StoreConfig::default() });
    let store = &fixture.store;
    let critical = Detection { level: Level::Critical, ..grouped(3, 3) };
    fixture.commit(&[grouped(1, 1), grouped(2, 2), critical]);
    let first = store.begin_fresh("soc", 10, at(3)).unwrap().unwrap();
    fixture.commit(&[grouped(4, 1), grouped(5, 2)]);
    let split = Verdict::Split { outcome: "HTTP 413".to_owned(), keep: 1 };
    store.finish(&first, &split, at(6)).unwrap();

    let told = |attempt: &Attempt| {
        let message = store.message(attempt, 10).unwrap();
        let notices = message.notices.into_iter();
        notices.map(|notice| (notice.alert.level, notice.more, notice.alert.count)).collect::<Vec<_>>()
    };
    let again = store.begin_retry("soc", at(6)).unwrap().unwrap();
    assert_eq!((again.id, again.number), (first.id, 2));
    assert_eq!(told(&again), [(Level::Critical, None, 1)]);
    let rest = store.begin_fresh("soc", 10, at(6)).unwrap().unwrap();
    assert_ne!(rest.id, first.id);
    assert_eq!(told(&rest), [(Level::High, None, 2), (Level::High, None, 2)]);
    assert_eq!(store.due("soc", 0).unwrap(), Due::default());
    fixture.commit(&[grouped(7, 1)]);
    assert_eq!(store.due("soc", 0).unwrap().fresh, Some(at(106)));
}

#[test]
fn a_clock_that_was_set_back_makes_no_wait_longer() {
    let fixture = fixture(StoreConfig { repeat_interval_ms: 100_000, ..StoreConfig::default() });
    let store = &fixture.store;
    fixture.commit(&[grouped(100_000, 1), grouped(100_001, 2)]);
    let attempt = store.begin_fresh("soc", 1, at(100_001)).unwrap().unwrap();
    let later = Verdict::Retry { outcome: "HTTP 503".to_owned(), not_before: at(100_300) };
    store.finish(&attempt, &later, at(100_001)).unwrap();
    store.clock_went_back("soc", at(100_002)).unwrap();
    assert_eq!(store.due("soc", 0).unwrap().retry, Some(at(100_300)));
    store.clock_went_back("soc", at(10)).unwrap();
    let due = store.due("soc", 0).unwrap();
    assert_eq!((due.retry, due.fresh), (Some(at(10)), Some(at(10))));

    let rest = store.begin_fresh("soc", 1, at(10)).unwrap().unwrap();
    store.finish(&rest, &Verdict::Sent { outcome: "HTTP 200".to_owned() }, at(10)).unwrap();
    let again = Detection { received_at: at(20), ..grouped(100_002, 1) };
    fixture.commit(&[again]);
    assert_eq!(store.due("soc", 0).unwrap().fresh, Some(at(120)));
}

#[test]
fn an_attempt_in_flight_is_due_again_after_a_crash_under_its_id() {
    let fixture = fixture(StoreConfig::default());
    fixture.commit(&[grouped(1, 1)]);
    let attempt = fixture.store.begin_fresh("soc", 10, at(1)).unwrap().unwrap();
    let fixture = fixture.reopen();
    fixture.commit(&[grouped(2, 2)]);
    let again = fixture.store.begin_retry("soc", at(1)).unwrap().unwrap();
    assert_eq!((again.id, again.number), (attempt.id, 2));
    assert_eq!(fixture.store.message(&again, 10).unwrap().total, 1);
    fixture.store.finish(&again, &Verdict::Sent { outcome: "HTTP 200".to_owned() }, at(2)).unwrap();
    let fixture = fixture.reopen();
    assert!(fixture.store.begin_retry("soc", at(9)).unwrap().is_none());
    let sent = &fixture.store.deliveries(AlertId::new("rule-1", &id(1), &id(1))).unwrap()[0];
    assert_eq!((sent.state, sent.attempts.len()), (DeliveryState::Sent, 2));
    assert_eq!(sent.attempts[0].outcome, None);
}

#[test]
fn dead_letters_are_listed_and_replayed_under_their_id() {
    let fixture = fixture(StoreConfig::default());
    fixture.commit(&[grouped(1, 1)]);
    let attempt = fixture.store.begin_fresh("soc", 10, at(1)).unwrap().unwrap();
    fixture.store.finish(&attempt, &Verdict::Dead { outcome: "HTTP 400".to_owned() }, at(2)).unwrap();
    let letters = fixture.store.dead_letters(10).unwrap();
    assert_eq!((letters.len(), letters[0].id, letters[0].reason.as_str()), (1, attempt.id, "HTTP 400"));
    assert!(fixture.store.replay(attempt.id, at(3)).unwrap());
    assert!(!fixture.store.replay(attempt.id, at(3)).unwrap());
    assert_eq!(fixture.store.begin_retry("soc", at(3)).unwrap().unwrap().id, attempt.id);
    assert!(fixture.store.dead_letters(10).unwrap().is_empty());
}

#[test]
fn lists_are_filtered_and_their_cursors_stable() {
    let fixture = fixture(StoreConfig::default());
    let detections: Vec<Detection> = (0..10).map(|number| grouped(number, number)).collect();
    fixture.commit(&detections);
    let page = |cursor: Option<&str>| fixture.store.list(&Filter::default(), 4, cursor).unwrap();
    let first = page(None);
    let critical = Detection { level: Level::Critical, cluster: "dev".into(), ..grouped(10, 10) };
    fixture.commit(&[critical]);
    let second = page(first.next_cursor.as_deref());
    let third = page(second.next_cursor.as_deref());
    let seen: Vec<_> = [&first, &second, &third].into_iter().flat_map(|page| &page.alerts).collect();
    let times: Vec<_> = seen.iter().map(|alert| alert.first_received).collect();
    assert_eq!(times, (0..10).rev().map(at).collect::<Vec<_>>());
    assert_eq!(third.next_cursor, None);
    let check = |filter: Filter, expect| {
        assert_eq!(fixture.store.list(&filter, 100, None).unwrap().alerts.len(), expect, "{filter:?}");
    };
    check(Filter { min_level: Some(Level::Critical), ..Filter::default() }, 1);
    check(Filter { cluster: Some("dev".to_owned()), ..Filter::default() }, 1);
    check(Filter { cluster: Some("prod".to_owned()), since: Some(at(5)), ..Filter::default() }, 5);
    check(Filter { until: Some(at(5)), ..Filter::default() }, 5);
    check(Filter { rule_id: Some("rule-1".to_owned()), status: Some(Status::Open), ..Filter::default() }, 11);
    check(Filter { status: Some(Status::Resolved), ..Filter::default() }, 0);
    for bad in ["", "x", "AAAAAAAAAAAA", "AQ", "é"] {
        assert!(matches!(fixture.store.list(&Filter::default(), 1, Some(bad)), Err(StoreError::BadCursor)));
    }
}

#[test]
fn what_is_stored_of_an_alert_is_bounded() {
    let fixture = fixture(StoreConfig { events_per_alert: 2, ..StoreConfig::default() });
    let long = "é".repeat(100_000);
    let huge = Detection {
        title: long.as_str().into(),
        summary: long.clone(),
        tags: vec![long.as_str().into(); 1000].into(),
        labels: vec![("user.name".into(), long.clone()); 1000],
        cluster: long.as_str().into(),
        rule_id: long.as_str().into(),
        ..detection(1)
    };
    let more =
        (2..5).map(|number| Detection { event_id: id(number), request_key: id(number), ..huge.clone() });
    let all: Vec<Detection> = std::iter::once(huge.clone()).chain(more).collect();
    fixture.commit(&all);
    let alert = &fixture.alerts()[0];
    assert!(serde_json::to_string(alert).unwrap().len() < 40_000);
    let details = fixture.store.get(alert.id).unwrap().unwrap();
    assert_eq!((details.events.len(), details.events_beyond), (2, 2));
}

/// A detection of a correlation that lists `listed` events and counted `beyond` more.
fn correlated(number: u64, listed: u64, beyond: u64) -> Detection {
    let event = |offset| watchbell_event::ContributingEvent {
        id: id(number + offset),
        position: detection(number + offset).position,
        event_time: at(0),
    };
    let correlation = watchbell_event::CorrelationMatch {
        reached: (listed + beyond).to_string(),
        window_start: at(0),
        window_end: at(1),
        events: (0..listed).map(event).collect(),
        events_beyond: beyond,
    };
    Detection { correlation: Some(Box::new(correlation)), ..grouped(number + listed, 1) }
}

#[test]
fn events_that_a_correlation_counted_but_did_not_list_are_told() {
    let fixture = fixture(StoreConfig { events_per_alert: 150, ..StoreConfig::default() });
    let beyond = |fixture: &Fixture| {
        let details = fixture.store.get(fixture.alerts()[0].id).unwrap().unwrap();
        (details.events.len(), details.events_beyond)
    };
    fixture.commit(&[correlated(1000, 100, 25)]);
    assert_eq!(beyond(&fixture), (100, 25));
    let fixture = fixture.reopen();
    fixture.commit(&[correlated(2000, 100, 7)]);
    assert_eq!(beyond(&fixture), (150, 25 + 7 + 50));
}

#[test]
fn an_alert_keeps_why_it_opened_within_bounds() {
    let fixture = fixture(StoreConfig::default());
    let explained = |matched: usize, length: usize| {
        let condition = watchbell_event::MetCondition {
            field: "verb".to_owned(),
            test: "is \"get\"".to_owned(),
            values: vec!["x".repeat(length)],
        };
        let explanation = watchbell_event::Explanation {
            matched: vec![condition; matched],
            next_steps: vec!["look".to_owned()],
            ..watchbell_event::Explanation::default()
        };
        watchbell_event::Deferred::new(move || explanation)
    };
    let first = Detection { explanation: explained(2, 3), ..grouped(1, 1) };
    let never = watchbell_event::Deferred::new(|| panic!("nobody asks for it"));
    let second = Detection { explanation: never, ..grouped(2, 1) };
    let long = Detection { explanation: explained(100, 1_000), ..grouped(3, 2) };
    fixture.commit(&[first, second, long]);
    let alerts = fixture.alerts();
    assert_eq!(alerts[1].explanation, *explained(2, 3).get());
    let long = &alerts[0].explanation;
    assert!(serde_json::to_string(long).unwrap().len() <= text::MAX_EXPLANATION_BYTES);
    assert_eq!((long.matched.len() as u64 + long.matched_beyond, long.matched.is_empty()), (100, false));
}

#[test]
fn nobody_who_wants_to_write_waits_for_an_explanation() {
    let fixture = fixture(StoreConfig::default());
    fixture.commit(&[grouped(1, 1)]);
    let store = fixture.store.clone();
    let explanation = watchbell_event::Deferred::new(move || watchbell_event::Explanation {
        description: format!("free: {}", store.shared.writer.try_lock().is_ok()),
        ..watchbell_event::Explanation::default()
    });
    fixture.commit(&[grouped(2, 1), Detection { explanation, ..grouped(3, 2) }]);
    assert_eq!(fixture.alerts()[0].explanation.description, "free: true");
}

#[test]
fn a_database_of_the_first_version_is_brought_up_to_date() {
    let fixture = fixture(StoreConfig { events_per_alert: 1, ..StoreConfig::default() });
    fixture.commit(&[grouped(1, 1), grouped(2, 1), grouped(3, 1)]);
    let path = fixture.directory.path().join("alerts.db");
    let connection = Connection::open(&path).unwrap();
    let downgrade = "ALTER TABLE alert DROP COLUMN explanation; ALTER TABLE alert DROP COLUMN events_beyond;
        PRAGMA user_version = 1;";
    connection.execute_batch(downgrade).unwrap();
    drop(connection);
    let fixture = fixture.reopen();
    let details = fixture.store.get(fixture.alerts()[0].id).unwrap().unwrap();
    assert_eq!((details.events.len(), details.events_beyond), (1, 2));
    assert_eq!(details.alert.explanation, watchbell_event::Explanation::default());
}

#[test]
fn old_alerts_go_but_not_those_somebody_must_still_hear_of() {
    let fixture = fixture(StoreConfig { retention_days: 1, max_alerts: 5, ..StoreConfig::default() });
    let detections: Vec<Detection> = (1..=8).map(|number| grouped(number, number)).collect();
    fixture.commit(&detections);
    assert_eq!(fixture.store.prune(at(10)).unwrap(), 0);
    let attempt = fixture.store.begin_fresh("soc", 4, at(10)).unwrap().unwrap();
    fixture.store.finish(&attempt, &Verdict::Sent { outcome: "HTTP 200".to_owned() }, at(10)).unwrap();
    assert_eq!(fixture.store.prune(at(10)).unwrap(), 3);
    assert_eq!(fixture.store.prune(at(200_000)).unwrap(), 1);
    assert_eq!(fixture.alerts().len(), 4);
    let waiting = fixture.store.begin_fresh("soc", 1, at(200_000)).unwrap().unwrap();
    let later = Verdict::Retry { outcome: "HTTP 503".to_owned(), not_before: at(200_001) };
    fixture.store.finish(&waiting, &later, at(200_000)).unwrap();
    assert_eq!(fixture.store.prune(at(31 * 86_400)).unwrap(), 0);
    assert_eq!(fixture.store.prune(at(31 * 86_400 + 9)).unwrap(), 4);
    assert_eq!(fixture.store.due("soc", 0).unwrap(), Due::default());
    let deliveries: i64 = fixture
        .store
        .read("count", |sql| sql.query_row("SELECT COUNT(*) FROM delivery", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(deliveries, 0);
}

#[test]
fn detections_beyond_the_positions_and_newer_schemas_are_refused() {
    let fixture = fixture(StoreConfig::default());
    let refused = fixture.store.commit(&[detection(1)], &Positions::default(), at(0));
    assert!(matches!(refused, Err(StoreError::BeyondPositions(_))));
    let path = fixture.directory.path().join("alerts.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    let newer = AlertStore::open(&path, StoreConfig::default(), router(None));
    assert!(matches!(newer, Err(StoreError::NewerSchema { .. })));
}

/// Everything that replays must not change.
fn state(store: &AlertStore) -> Vec<(crate::AlertDetails, Vec<bool>)> {
    let alerts = store.list(&Filter::default(), 1000, None).unwrap().alerts;
    let notices = |id| store.deliveries(id).unwrap().iter().map(|delivery| delivery.digest).collect();
    alerts.iter().map(|alert| (store.get(alert.id).unwrap().unwrap(), notices(alert.id))).collect()
}

/// A log of detections: for each offset a group, a request, whether it is history, and the time since the
/// one before.
fn log() -> impl Strategy<Value = Vec<Detection>> {
    let event = (0u64..4, 0u64..20, any::<bool>(), prop_oneof![9 => 0i64..600, 1 => 3000i64..9000]);
    proptest::collection::vec(event, 1..30).prop_map(|events| {
        let mut seconds = 0;
        let detection = |(offset, (group, request, history, gap)): (u64, (u64, u64, bool, i64))| {
            seconds += gap;
            let (received_at, request_key) = (at(seconds), id(1000 + request));
            Detection { request_key, history, received_at, event_time: received_at, ..grouped(offset, group) }
        };
        (0..).zip(events).map(detection).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn replays_from_any_earlier_position_change_nothing(
        log in log(),
        steps in proptest::collection::vec((0usize..30, 1usize..12, any::<bool>()), 1..12),
    ) {
        let commit = |store: &AlertStore, from: usize, to: usize| {
            let mut positions = Positions::default();
            positions.set_next(0, to as u64);
            store.commit(&log[from..to], &positions, at(0)).unwrap()
        };
        let once = fixture(StoreConfig { request_window: 8, ..StoreConfig::default() });
        commit(&once.store, 0, log.len());

        let mut replayed = fixture(StoreConfig { request_window: 8, ..StoreConfig::default() });
        let mut done = 0;
        for (back, length, crash) in steps {
            let from = done - back.min(done);
            let to = (from + length).min(log.len());
            commit(&replayed.store, from, to);
            done = done.max(to);
            prop_assert_eq!(replayed.store.positions().next(0), done as u64);
            if crash {
                replayed = replayed.reopen();
            }
        }
        commit(&replayed.store, 0, log.len());
        prop_assert_eq!(state(&replayed.store), state(&once.store));
        let known: Vec<EventId> = replayed.store.events_of_rule("rule-1", 100).unwrap();
        prop_assert!(known.len() <= log.len());
    }
}
