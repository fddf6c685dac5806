//! Whether audit feeds still come. A cluster that sends nothing any more, or hardly anything, may be one whose log was
//! cut, and no event says so: this looks at how much each cluster sends and compares it with what it usually sends.
//!
//! Time is cut into ticks, fifteen of which are the window that is judged. What a cluster usually sends is an average
//! over about 16 windows, without the newest; it is not learned from while the cluster is silent. A cluster is judged
//! once two windows were learned from, and if it usually sends [`EXPECTED_EVENTS`] in one.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use watchbell_event::Timestamp;

use crate::files;

/// Name below the data directory.
const FILE: &str = "feeds.json";
const MAX_BYTES: u64 = 4 << 20;
const WINDOW_TICKS: usize = 15;
/// Two windows.
const LEARNED_TICKS: u32 = 30;
/// What the average covers: sixteen windows.
const MEMORY_TICKS: u32 = 240;
/// A cluster that usually sends fewer in a window is not judged: chance would decide.
const EXPECTED_EVENTS: f64 = 20.0;
/// With less than this share of what is usual, it is silent; with more than the other, it is back.
const SILENT_BELOW: f64 = 0.05;
const BACK_ABOVE: f64 = 0.2;
/// A cluster that was silent for so long is gone.
const FORGOTTEN_AFTER_MICROS: i64 = 30 * 86_400 * 1_000_000;

/// All feeds.
pub(crate) struct Feeds {
    path: PathBuf,
    tick_micros: i64,
    known: BTreeMap<String, Feed>,
    ticked_at: Timestamp,
}

/// What is known of one cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Feed {
    /// Events per tick, on average.
    usual: f64,
    /// From how many ticks that is known.
    learned: u32,
    silent_since: Option<Timestamp>,
    /// Events of the latest ticks, oldest first.
    #[serde(skip)]
    recent: VecDeque<u64>,
    /// All events since the server's start, as of the latest tick.
    #[serde(skip)]
    total: Option<u64>,
}

/// A feed fell silent or came back.
#[derive(Debug, PartialEq)]
pub(crate) struct FeedChange {
    pub(crate) cluster: String,
    pub(crate) is_silent: bool,
    /// Events in a window: how many there usually are, and how many there were.
    pub(crate) usual_events: u64,
    pub(crate) events: u64,
}

impl Feeds {
    /// Goes on with what was learned before; `window` is how long a feed must be silent to be reported.
    ///
    /// # Errors
    /// If what was learned cannot be read.
    pub(crate) fn open(data_dir: &Path, window: Duration, now: Timestamp) -> Result<Self> {
        let path = data_dir.join(FILE);
        let known = if path.exists() {
            let read = serde_json::from_slice(&files::read(&path, MAX_BYTES)?);
            read.with_context(|| {
                format!("failed to read {}; without it, what is usual is learned anew", path.display())
            })?
        } else {
            BTreeMap::new()
        };
        let tick_micros = i64::try_from(window.as_micros()).unwrap_or(i64::MAX) / WINDOW_TICKS as i64;
        Ok(Self { path, tick_micros: tick_micros.max(1), known, ticked_at: now })
    }

    /// Looks at how many events each cluster has sent since the server's start, if a tick has passed, and keeps what
    /// was learned. If that fails, changes are told all the same.
    pub(crate) fn look(
        &mut self,
        totals: impl FnOnce() -> BTreeMap<String, u64>,
        now: Timestamp,
    ) -> Vec<FeedChange> {
        // a clock that was set back begins a tick anew
        let passed = now.micros_since(self.ticked_at);
        if (0..self.tick_micros).contains(&passed) {
            return Vec::new();
        }
        self.ticked_at = now;
        let totals = totals();
        for cluster in totals.keys() {
            self.known.entry(cluster.clone()).or_default();
        }
        let mut changes = Vec::new();
        for (cluster, feed) in &mut self.known {
            let total = totals.get(cluster).copied().unwrap_or_default();
            changes.extend(feed.tick(total, now).map(|(is_silent, usual_events, events)| FeedChange {
                cluster: cluster.clone(),
                is_silent,
                usual_events,
                events,
            }));
        }
        self.known.retain(|_, feed| {
            feed.silent_since.is_none_or(|since| now.micros_since(since) < FORGOTTEN_AFTER_MICROS)
        });
        if let Err(error) = self.keep() {
            tracing::error!(
                error = &*error as &dyn std::error::Error,
                "failed to keep what feeds usually send"
            );
        }
        changes
    }

    fn keep(&self) -> Result<()> {
        files::write_private(&self.path, &serde_json::to_vec(&self.known)?)
    }
}

impl Feed {
    /// Takes the next tick. If that makes it silent, or ends that: whether it is silent now, and the events of a window
    /// as they usually are and as they were.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "averages of counts"
    )]
    fn tick(&mut self, total: u64, now: Timestamp) -> Option<(bool, u64, u64)> {
        // what came before a feed was known says nothing of a tick
        let before = self.total.replace(total).unwrap_or(total);
        self.recent.push_back(total.saturating_sub(before));
        if self.recent.len() <= WINDOW_TICKS {
            return None;
        }
        let left = self.recent.pop_front().unwrap_or_default();
        if self.silent_since.is_none() {
            self.learned = (self.learned + 1).min(MEMORY_TICKS);
            self.usual += (left as f64 - self.usual) / f64::from(self.learned);
        }
        let usual = self.usual * WINDOW_TICKS as f64;
        let events: u64 = self.recent.iter().sum();
        let is_silent = match self.silent_since {
            Some(_) => (events as f64) < usual * BACK_ABOVE,
            None => {
                let is_known = self.learned >= LEARNED_TICKS && usual >= EXPECTED_EVENTS;
                is_known && (events as f64) < usual * SILENT_BELOW
            }
        };
        let changed = is_silent != self.silent_since.is_some();
        self.silent_since = is_silent.then(|| self.silent_since.unwrap_or(now));
        changed.then_some((is_silent, usual as u64, events))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const MINUTE_MICROS: i64 = 60_000_000;

    /// A cluster whose minutes are told one after the other, and the changes that were reported, by minute.
    struct Cluster {
        dir: TempDir,
        feeds: Feeds,
        minute: i64,
        total: u64,
        changes: Vec<(i64, bool)>,
    }

    impl Cluster {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let feeds = Feeds::open(dir.path(), Duration::from_secs(15 * 60), at(0)).unwrap();
            Self { dir, feeds, minute: 0, total: 0, changes: Vec::new() }
        }

        fn send(&mut self, minutes: i64, events: u64) {
            for _ in 0..minutes {
                self.minute += 1;
                self.total += events;
                let totals = BTreeMap::from([("prod".to_owned(), self.total)]);
                let changes = self.feeds.look(|| totals, at(self.minute));
                self.changes.extend(changes.iter().map(|change| (self.minute, change.is_silent)));
            }
        }

        fn restart(&mut self) {
            self.feeds = Feeds::open(self.dir.path(), Duration::from_secs(15 * 60), at(self.minute)).unwrap();
            self.total = 0;
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + minute * MINUTE_MICROS)
    }

    #[test]
    fn a_feed_that_stops_is_reported_once_and_so_is_its_return() {
        let mut cluster = Cluster::new();
        cluster.send(100, 50);
        cluster.send(600, 0);
        cluster.send(60, 50);
        assert_eq!(cluster.changes, [(115, true), (703, false)]);
    }

    #[test]
    fn a_feed_of_which_hardly_anything_is_left_is_silent_and_one_that_varies_is_not() {
        let mut cluster = Cluster::new();
        for _ in 0..10 {
            cluster.send(20, 200);
            cluster.send(20, 20);
        }
        assert_eq!(cluster.changes, []);
        cluster.send(60, 2);
        assert!(matches!(cluster.changes[..], [(_, true)]), "{:?}", cluster.changes);
    }

    #[test]
    fn little_traffic_and_what_is_not_known_yet_is_not_judged() {
        let mut cluster = Cluster::new();
        cluster.send(20, 50);
        cluster.send(20, 0);
        assert_eq!(cluster.changes, []);
        let mut cluster = Cluster::new();
        cluster.send(100, 1);
        cluster.send(100, 0);
        assert_eq!(cluster.changes, []);
    }

    #[test]
    fn a_silence_is_told_even_if_nothing_can_be_kept() {
        let mut cluster = Cluster::new();
        cluster.send(100, 50);
        std::fs::remove_dir_all(cluster.dir.path()).unwrap();
        cluster.send(60, 0);
        assert_eq!(cluster.changes, [(115, true)]);
    }

    #[test]
    fn what_was_learned_outlives_a_restart() {
        let mut cluster = Cluster::new();
        cluster.send(100, 50);
        cluster.restart();
        cluster.send(14, 0);
        assert_eq!(cluster.changes, [], "a window must have passed");
        cluster.send(5, 0);
        assert_eq!(cluster.changes, [(116, true)]);
        cluster.restart();
        cluster.send(30, 0);
        assert_eq!(cluster.changes.len(), 1, "it is known to be silent");
        cluster.send(30 * 24 * 60, 0);
        assert!(cluster.feeds.known["prod"].silent_since.is_none(), "it is gone, and begins anew");
        assert_eq!(cluster.changes.len(), 1);
    }
}
