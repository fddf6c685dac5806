//! Which detections would have opened an alert.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use watchbell_event::{Detection, EventId};

/// Alerts that are followed at one time.
const MAX_OPEN: usize = 500_000;
/// Requests that are remembered, in each of two generations; as many as alerting remembers.
const MAX_REQUESTS: usize = 50_000;

/// Alerts as alerting counts them: one for each rule and group, until nothing more came for a while; and a request that
/// is seen at two stages counts once.
pub(super) struct Episodes {
    quiet_micros: i64,
    /// When the last occurrence came; of imported history, when it happened.
    open: HashMap<(Key, bool), i64>,
    requests: [HashSet<Key>; 2],
    /// More alerts were open than are followed, so some may be counted twice.
    pub(super) is_estimate: bool,
}

type Key = (Arc<str>, EventId);

impl Episodes {
    pub(super) fn new(quiet_micros: i64) -> Self {
        Self { quiet_micros, open: HashMap::new(), requests: Default::default(), is_estimate: false }
    }

    /// Takes the next detection; true if it opens an alert.
    pub(super) fn opens(&mut self, detection: &Detection) -> bool {
        if self.knows_request(detection) {
            return false;
        }
        // What was imported arrived all at once, so when it happened is all that tells how long it was quiet.
        let at = if detection.history { detection.event_time } else { detection.received_at }.as_micros();
        // The times of history and of what is live say nothing about each other.
        let key = ((Arc::clone(&detection.rule_id), detection.group_key), detection.history);
        match self.open.get_mut(&key) {
            Some(last) if at.saturating_sub(*last) <= self.quiet_micros => {
                *last = at.max(*last);
                false
            }
            _ => {
                self.make_room(at);
                self.open.insert(key, at);
                true
            }
        }
    }

    fn knows_request(&mut self, detection: &Detection) -> bool {
        let key = (Arc::clone(&detection.rule_id), detection.request_key);
        let [recent, before] = &mut self.requests;
        if recent.contains(&key) || before.contains(&key) {
            return true;
        }
        if recent.len() >= MAX_REQUESTS {
            std::mem::swap(recent, before);
            recent.clear();
        }
        recent.insert(key);
        false
    }

    fn make_room(&mut self, now: i64) {
        if self.open.len() < MAX_OPEN {
            return;
        }
        self.open.retain(|_, last| now.saturating_sub(*last) <= self.quiet_micros);
        if self.open.len() >= MAX_OPEN {
            self.is_estimate = true;
            self.open.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rules::backtest::tests::detection;

    #[test]
    fn an_alert_is_open_until_it_was_quiet_and_a_request_counts_once() {
        let mut episodes = Episodes::new(60_000_000);
        let mut check = |group: u8, request: u8, second: i64, history: bool, opens: bool| {
            let mut detection = detection(group, request, second);
            detection.history = history;
            assert_eq!(episodes.opens(&detection), opens, "{group} {request} {second}");
        };
        check(1, 1, 0, false, true);
        check(1, 1, 0, false, false);
        check(2, 2, 1, false, true);
        check(1, 3, 60, false, false);
        check(1, 4, 120, false, false);
        check(1, 5, 181, false, true);
        // The same request, long after.
        check(1, 1, 900, false, false);
        // Imported history arrived within a moment.
        check(3, 6, 0, true, true);
        check(3, 7, 30, true, false);
        check(3, 8, 91, true, true);
        // What was imported is not part of the alert that is open, nor the other way round.
        check(1, 9, 200, true, true);
        check(1, 10, 242, false, true);
        check(1, 11, 243, false, false);
    }
}
