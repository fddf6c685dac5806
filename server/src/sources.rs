//! Who sends what: for each source how much came lately and in all, and what of it was refused.
//!
//! A source is a credential that sends events of one cluster by one route, or what this server fetches itself because
//! its configuration says so. What is known of it is kept in memory, since the server's start.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};
use watchbell_event::Timestamp;

use crate::pipeline::Ingested;
use crate::tokens::Credential;

/// Sources that are told apart; the others are summed.
const MAX_SOURCES: usize = 1_000;
/// Beyond that many, one that was silent for so long makes way for a new one.
const SILENT_MICROS: i64 = 3_600 * 1_000_000;

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) cluster: String,
    /// What brings it, such as `audit`, or the section of the configuration, of topics with their name.
    pub(crate) route: Cow<'static, str>,
    /// None if the server fetches it itself.
    pub(crate) credential: Option<Credential>,
}

/// What a source has that was not fetched yet.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lag {
    Bytes(u64),
    Messages(u64),
}

/// One request of a source, or what was fetched at one time, and what became of it.
pub(crate) struct Delivery<'a> {
    pub(crate) peer: Option<IpAddr>,
    /// Of the body, as it was sent, or as it was fetched.
    pub(crate) bytes: u64,
    /// What was taken, or the code of the error that was answered.
    pub(crate) outcome: Result<&'a Ingested, &'static str>,
}

/// All sources.
#[derive(Default)]
pub(crate) struct Sources {
    /// When counting began.
    since: Timestamp,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Source, Activity>,
    /// Everybody who is not among the known.
    other: Activity,
}

/// What came from one source.
#[derive(Default)]
struct Activity {
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    peer: Option<IpAddr>,
    totals: Totals,
    refused: BTreeMap<&'static str, u64>,
    minute: Minute,
    lag: Option<Lag>,
}

#[derive(Default)]
struct Totals {
    requests: u64,
    bytes: u64,
    stored: u64,
    duplicates: u64,
    quarantined: u64,
}

impl Sources {
    /// Counts from now on.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { since: now, state: Mutex::default() }
    }

    /// Counts a request.
    pub(crate) fn note(&self, source: &Source, delivery: &Delivery<'_>, now: Timestamp) {
        self.lock().activity(source, now).note(delivery, now);
    }

    /// Notes how far the server is behind with a source that it fetches itself.
    pub(crate) fn note_lag(&self, source: &Source, lag: Lag, now: Timestamp) {
        self.lock().activity(source, now).lag = Some(lag);
    }

    /// All sources, and what came from those that are not told apart, if there are any.
    pub(crate) fn overview(&self, now: Timestamp) -> Value {
        let state = self.lock();
        let mut known: Vec<_> = state.known.iter().collect();
        known.sort_by_key(|(source, _)| *source);
        let known: Vec<Value> =
            known.into_iter().map(|(source, activity)| row(source, activity, now)).collect();
        let other = state.other.first_seen.is_some().then(|| state.other.summary(now));
        json!({ "sources": known, "other": other, "counted_since": self.since })
    }

    /// How many events came from each cluster by the routes that count.
    pub(crate) fn totals(&self, counts: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
        let state = self.lock();
        let mut totals = BTreeMap::new();
        for (source, activity) in state.known.iter().filter(|(source, _)| counts(&source.route)) {
            let Totals { stored, duplicates, .. } = activity.totals;
            *totals.entry(source.cluster.clone()).or_default() += stored + duplicates;
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where what a source does is counted.
    fn activity(&mut self, source: &Source, now: Timestamp) -> &mut Activity {
        if !self.known.contains_key(source) && self.known.len() >= MAX_SOURCES {
            self.make_room(now);
        }
        if self.known.contains_key(source) || self.known.len() < MAX_SOURCES {
            return self.known.entry(source.clone()).or_default();
        }
        metrics::counter!("watchbell_sources_not_told_apart_total").increment(1);
        &mut self.other
    }

    /// Sums the source that was silent for longest with the others, if that is long.
    fn make_room(&mut self, now: Timestamp) {
        let silent = self.known.iter().min_by_key(|(_, activity)| activity.last_seen);
        let silent = silent.filter(|(_, activity)| {
            activity.last_seen.is_none_or(|seen| now.micros_since(seen) >= SILENT_MICROS)
        });
        let Some(source) = silent.map(|(source, _)| source.clone()) else { return };
        if let Some(activity) = self.known.remove(&source) {
            self.other.add(activity);
        }
    }
}

impl Activity {
    fn note(&mut self, delivery: &Delivery<'_>, now: Timestamp) {
        self.first_seen.get_or_insert(now);
        self.last_seen = Some(now);
        self.peer = delivery.peer;
        self.totals.requests += 1;
        self.totals.bytes += delivery.bytes;
        match delivery.outcome {
            Ok(ingested) => {
                self.totals.stored += ingested.stored as u64;
                self.totals.duplicates += ingested.duplicates as u64;
                self.totals.quarantined += ingested.rejected as u64;
                self.minute.add(ingested.stored as u64, delivery.bytes, now);
            }
            Err(code) => {
                *self.refused.entry(code).or_default() += 1;
                self.minute.add(0, delivery.bytes, now);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.first_seen = self.first_seen.into_iter().chain(other.first_seen).min();
        self.last_seen = self.last_seen.max(other.last_seen);
        self.totals.requests += other.totals.requests;
        self.totals.bytes += other.totals.bytes;
        self.totals.stored += other.totals.stored;
        self.totals.duplicates += other.totals.duplicates;
        self.totals.quarantined += other.totals.quarantined;
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
    }

    fn summary(&self, now: Timestamp) -> Value {
        let (events_per_second, bytes_per_second) = self.minute.per_second(now);
        json!({
            "first_seen": self.first_seen, "last_seen": self.last_seen, "peer": self.peer,
            "events_per_second": events_per_second, "bytes_per_second": bytes_per_second,
            "requests": self.totals.requests, "bytes": self.totals.bytes, "stored": self.totals.stored,
            "duplicates": self.totals.duplicates, "quarantined": self.totals.quarantined,
            "refused": self.refused, "lag": self.lag,
        })
    }
}

fn row(source: &Source, activity: &Activity, now: Timestamp) -> Value {
    let mut row = activity.summary(now);
    row["cluster"] = json!(source.cluster);
    row["route"] = json!(source.route);
    row["credential"] = json!(source.credential.as_ref().map(ToString::to_string));
    row
}

const SLOTS: usize = 12;
const SLOT_MICROS: i64 = 5_000_000;

/// Events and bytes of the last minute.
#[derive(Default)]
struct Minute {
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Default)]
struct Slot {
    number: i64,
    events: u64,
    bytes: u64,
}

impl Minute {
    fn add(&mut self, events: u64, bytes: u64, now: Timestamp) {
        let number = now.as_micros().div_euclid(SLOT_MICROS);
        let index = usize::try_from(number.rem_euclid(SLOTS as i64)).unwrap_or_default();
        let slot = &mut self.slots[index];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.events += events;
        slot.bytes += bytes;
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is a fraction")]
    fn per_second(&self, now: Timestamp) -> (f64, f64) {
        let number = now.as_micros().div_euclid(SLOT_MICROS);
        let recent = (number - SLOTS as i64 + 1)..=number;
        let (events, bytes) = self
            .slots
            .iter()
            .filter(|slot| recent.contains(&slot.number))
            .fold((0, 0), |(events, bytes), slot| (events + slot.events, bytes + slot.bytes));
        (events as f64 / 60.0, bytes as f64 / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000)
    }

    fn source(cluster: &str) -> Source {
        let credential = Credential::Token { id: "ab12".to_owned(), name: "prod api".to_owned() };
        Source { cluster: cluster.to_owned(), route: "audit".into(), credential: Some(credential) }
    }

    fn delivery<'a>(outcome: Result<&'a Ingested, &'static str>) -> Delivery<'a> {
        Delivery { peer: Some([10, 0, 0, 1].into()), bytes: 600, outcome }
    }

    #[test]
    fn a_rate_covers_the_last_minute() {
        let mut minute = Minute::default();
        for second in 0..120 {
            minute.add(10, 1_000, at(second));
        }
        let (events, bytes) = minute.per_second(at(119));
        assert!((9.0..=10.0).contains(&events) && (900.0..=1_000.0).contains(&bytes), "{events} {bytes}");
        assert!(minute.per_second(at(150)).0 < 6.0);
        assert_eq!(minute.per_second(at(200)), (0.0, 0.0));
    }

    #[test]
    fn what_was_taken_and_refused_is_counted_by_source() {
        let sources = Sources::default();
        let ingested = Ingested { stored: 6, duplicates: 2, rejected: 1, ..Ingested::default() };
        sources.note(&source("prod"), &delivery(Ok(&ingested)), at(0));
        sources.note(&source("prod"), &delivery(Err("quota")), at(1));
        sources.note(&source("edge"), &delivery(Err("bad_body")), at(2));
        let overview = sources.overview(at(3));
        let [edge, prod] = overview["sources"].as_array().unwrap().as_slice() else { panic!("{overview}") };
        assert_eq!(edge["refused"], json!({ "bad_body": 1 }));
        for (field, expect) in [
            ("cluster", json!("prod")),
            ("credential", json!("token ab12 (prod api)")),
            ("requests", json!(2)),
            ("bytes", json!(1_200)),
            ("stored", json!(6)),
            ("duplicates", json!(2)),
            ("quarantined", json!(1)),
            ("refused", json!({ "quota": 1 })),
            ("events_per_second", json!(0.1)),
            ("bytes_per_second", json!(20.0)),
            ("peer", json!("10.0.0.1")),
        ] {
            assert_eq!(prod[field], expect, "{field}");
        }
        assert_eq!(overview["other"], Value::Null);
    }

    #[test]
    fn totals_are_those_of_the_routes_that_count() {
        let sources = Sources::default();
        let ingested = Ingested { stored: 5, duplicates: 1, ..Ingested::default() };
        for (cluster, route) in
            [("prod", "audit"), ("prod", "kafka/audit"), ("edge", "kafka/audit"), ("prod", "logs")]
        {
            let source = Source { route: route.into(), ..source(cluster) };
            sources.note(&source, &delivery(Ok(&ingested)), at(0));
        }
        let totals = sources.totals(|route| route != "logs");
        assert_eq!(totals, BTreeMap::from([("edge".to_owned(), 6), ("prod".to_owned(), 12)]));
    }

    #[test]
    fn what_the_server_fetches_itself_has_a_lag_before_anything_came() {
        let sources = Sources::default();
        let files = Source { cluster: "prod".to_owned(), route: "files".into(), credential: None };
        sources.note_lag(&files, Lag::Bytes(7), at(0));
        let overview = sources.overview(at(0));
        let [row] = overview["sources"].as_array().unwrap().as_slice() else { panic!("{overview}") };
        for (field, expect) in
            [("credential", Value::Null), ("lag", json!({ "bytes": 7 })), ("last_seen", Value::Null)]
        {
            assert_eq!(row[field], expect, "{field}");
        }
    }

    #[test]
    fn the_number_of_sources_is_bounded_and_nothing_is_lost_from_the_sums() {
        let sources = Sources::default();
        let count = |overview: &Value| overview["sources"].as_array().unwrap().len();
        let one = Ingested { stored: 1, ..Ingested::default() };
        for number in 0..=MAX_SOURCES {
            sources.note(&source(&format!("c-{number:04}")), &delivery(Ok(&one)), at(0));
        }
        let overview = sources.overview(at(0));
        assert_eq!((count(&overview), &overview["other"]["stored"]), (MAX_SOURCES, &json!(1)));
        // Those that were silent make way, one for each that is new.
        sources.note(&source("late"), &delivery(Ok(&one)), at(3_600));
        let overview = sources.overview(at(3_600));
        assert_eq!((count(&overview), &overview["other"]["stored"]), (MAX_SOURCES, &json!(2)));
        assert!(overview.to_string().contains("\"late\""));
    }
}
