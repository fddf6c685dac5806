//! Makes the load: audit events as an API server sends them, with the joint distribution of level, stage,
//! verb, resource, code and size that real clusters have.
//!
//! A pool of batches is made once; each sending of one is new in its ids, times, names and versions.

mod caller;
mod object;
mod profile;
mod replay;
mod request;
mod resource;
mod template;
mod world;

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use watchbell_event::Timestamp;

use self::profile::Profile;
use self::template::{Batch, Draft, Stamp};
use self::world::World;
use crate::random::Random;

/// An API server sends at most so many events at once.
const EVENTS_PER_BATCH: usize = 400;
/// How many batches are made; from then on they repeat, with new ids, times, names and versions.
const BATCHES: usize = 64;
/// The time that the requests of one batch are spread over.
const BATCH_SPAN_MICROS: u32 = 100_000;

/// A pool of batches that never sends the same event twice.
pub(crate) struct Generator {
    batches: Vec<Batch>,
    next: usize,
    stamp: Stamp,
}

/// An EventList to send.
pub(crate) struct Load<'a> {
    /// The request's body.
    pub(crate) body: Vec<u8>,
    batch: &'a Batch,
}

impl Generator {
    /// Makes the pool, or reads it from a file of JSON lines.
    pub(crate) fn new(seed: u64, events: Option<&Path>) -> Result<Self> {
        let batches = match events {
            Some(path) => replay::read(path, EVENTS_PER_BATCH, BATCH_SPAN_MICROS)?,
            None => make(seed, BATCHES)?,
        };
        Ok(Self { batches, next: 0, stamp: Stamp::new(seed) })
    }

    /// The next batch, with events that end now.
    pub(crate) fn next(&mut self, now: Timestamp) -> Load<'_> {
        let batch = &self.batches[self.next];
        self.next = (self.next + 1) % self.batches.len();
        Load { body: batch.write(&mut self.stamp, now), batch }
    }

    /// Starts over with other ids, so that each measurement gets the same events but none twice.
    pub(crate) fn restart(&mut self, seed: u64) {
        self.next = 0;
        self.stamp = Stamp::new(seed);
    }

    /// A pool that is made quickly.
    #[cfg(test)]
    pub(crate) fn small(seed: u64) -> Self {
        Self { batches: make(seed, 1).unwrap(), next: 0, stamp: Stamp::new(seed) }
    }

    /// Mean number of events in a batch; a short file makes small batches.
    pub(crate) fn mean_batch_events(&self) -> f64 {
        let events: usize = self.batches.iter().map(Batch::len).sum();
        events as f64 / self.batches.len().max(1) as f64
    }

    /// Mean size of an event in bytes.
    pub(crate) fn mean_event_bytes(&self) -> f64 {
        let (bytes, events) = self
            .batches
            .iter()
            .fold((0, 0), |(bytes, events), batch| (bytes + batch.event_bytes(), events + batch.len()));
        bytes as f64 / events.max(1) as f64
    }
}

impl Load<'_> {
    /// How many events it carries.
    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }

    /// How many bytes its events have.
    pub(crate) fn event_bytes(&self) -> usize {
        self.batch.event_bytes()
    }

    /// Where each event stands in the body.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        self.batch.events()
    }

    /// Each event alone.
    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        self.batch.events().iter().map(|range| &self.body[range.clone()])
    }
}

fn make(seed: u64, count: usize) -> Result<Vec<Batch>> {
    let profile = Profile::load().context("failed to read the built-in profile")?;
    let mut random = Random::new(seed);
    let world = World::new(&mut random);
    let batches = (0..count).map(|_| {
        let mut requests: Vec<Draft> = Vec::new();
        let mut events = 0;
        while events < EVENTS_PER_BATCH {
            let draft = request::draft(profile.draw(&mut random), &world, &mut random);
            events += draft.events.len();
            // Four hundred is the most that an API server sends.
            if events <= EVENTS_PER_BATCH {
                requests.push(draft);
            }
        }
        Batch::new(requests, BATCH_SPAN_MICROS)
    });
    Ok(batches.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};
    use std::sync::OnceLock;

    use serde_json::Value;

    use super::*;

    const SAMPLE_BATCHES: usize = 20;

    /// Size and content of some thousand events; made once.
    fn sample() -> &'static [(usize, Value)] {
        static SAMPLE: OnceLock<Vec<(usize, Value)>> = OnceLock::new();
        SAMPLE.get_or_init(make_sample)
    }

    fn make_sample() -> Vec<(usize, Value)> {
        let batches = make(11, SAMPLE_BATCHES).unwrap();
        let mut generator = Generator { batches, next: 0, stamp: Stamp::new(1) };
        let mut events = Vec::new();
        for _ in 0..SAMPLE_BATCHES {
            let load = generator.next(Timestamp::from_micros(1_770_000_000_000_000));
            events.extend(load.events().map(|event| (event.len(), serde_json::from_slice(event).unwrap())));
        }
        events
    }

    fn share(events: &[(usize, Value)], part: impl Fn(&Value) -> bool) -> f64 {
        events.iter().filter(|(_, event)| part(event)).count() as f64 / events.len() as f64
    }

    #[test]
    fn the_load_follows_the_profile() {
        let events = sample();
        let profile = Profile::load().unwrap();
        let total: u64 = profile.rows().iter().map(|row| row.weight * row.events()).sum();
        let mut expect: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for row in profile.rows() {
            let part = (row.weight * row.events()) as f64 / total as f64;
            for key in [("level", row.level), ("verb", row.verb)] {
                *expect.entry(key).or_default() += part;
            }
        }
        for ((field, value), expect) in expect {
            let share = share(events, |event| event[field] == value);
            assert!((share - expect).abs() < 0.02, "{field} {value}: {share:.3}, not {expect:.3}");
        }
        let failed = |code| share(events, |event| event["responseStatus"]["code"] == code);
        assert!((0.004..0.02).contains(&failed(403)), "{}", failed(403));
        assert!((0.002..0.015).contains(&failed(401)), "{}", failed(401));
    }

    #[test]
    fn sizes_are_those_of_real_events() {
        let mut sizes: Vec<usize> = sample().iter().map(|(size, _)| *size).collect();
        sizes.sort_unstable();
        let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64;
        let at = |percent: usize| sizes[sizes.len() * percent / 100];
        let summary = format!("mean {mean}, median {}, p95 {}, p99 {}", at(50), at(95), at(99));
        assert!((1_260.0..1_540.0).contains(&mean), "{summary}");
        assert!((850..1_150).contains(&at(50)), "{summary}");
        assert!((1_600..2_500).contains(&at(95)), "{summary}");
        assert!((7_000..13_000).contains(&at(99)), "{summary}");
        assert!((30_000..70_000).contains(sizes.last().unwrap()), "{summary}");
    }

    #[test]
    fn requests_differ_and_their_stages_belong_together() {
        let events = sample();
        let mut stages: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for (_, event) in events {
            stages.entry(event["auditID"].as_str().unwrap()).or_default().push(event);
        }
        assert!(stages.len() * 5 > events.len() * 2, "{} requests in {} events", stages.len(), events.len());
        for stages in stages.values() {
            let stage_times: Vec<_> = stages.iter().map(|event| event["stageTimestamp"].as_str()).collect();
            assert!(stage_times.is_sorted(), "{stages:?}");
            assert!(stages.iter().all(|event| event["requestURI"] == stages[0]["requestURI"]));
            let names: HashSet<_> = stages.iter().map(|event| event["stage"].as_str()).collect();
            assert_eq!(names.len(), stages.len(), "{stages:?}");
        }
        let users: HashSet<_> = events.iter().map(|(_, event)| event["user"]["username"].as_str()).collect();
        assert!((300..800).contains(&users.len()), "{} users", users.len());
        let unauthorized = events.iter().filter(|(_, event)| event["responseStatus"]["code"] == 401);
        for (_, event) in unauthorized {
            assert_eq!(
                (&event["stage"], event["user"].as_object().map(|user| user.len())),
                (&"ResponseStarted".into(), Some(0))
            );
        }
    }

    #[test]
    fn a_seed_names_one_load() {
        let bodies = |seed| {
            let mut generator =
                Generator { batches: make(seed, 2).unwrap(), next: 0, stamp: Stamp::new(seed) };
            [generator.next(Timestamp::default()).body, generator.next(Timestamp::default()).body]
        };
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
    }
}
