//! Which groups wait for the watermark, by when the first entry that waits in each of them happened.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use rustc_hash::FxHashMap;

use super::groups::Place;
use super::watermark::Lane;

/// The groups of one correlation that wait, by lane. It may hold groups that do not wait any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    queues: Vec<(Lane, BinaryHeap<Reverse<Turn>>)>,
    lanes: FxHashMap<Lane, usize>,
    /// The queue that was used last: it is mostly used again.
    latest: usize,
    len: usize,
}

/// A group's turn comes when the watermark is behind this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    time: i64,
    group: Place,
}

impl Waiting {
    /// Memory of it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<Turn>()
    }

    /// How many places all queues have.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Nothing waits in a lane that happened before this.
    pub(super) fn since(&self, lane: &Lane) -> Option<i64> {
        let (_, queue) = self.queues.get(self.find(lane)?)?;
        queue.peek().map(|Reverse(turn)| turn.time)
    }

    /// A group waits from now on, for the time of an entry.
    pub(super) fn add(&mut self, lane: &Lane, time: i64, group: Place) {
        self.latest = self.find(lane).unwrap_or_else(|| {
            self.queues.push((lane.clone(), BinaryHeap::new()));
            self.lanes.insert(lane.clone(), self.queues.len() - 1);
            self.queues.len() - 1
        });
        if let Some((_, queue)) = self.queues.get_mut(self.latest) {
            queue.push(Reverse(Turn { time, group }));
            self.len += 1;
        }
    }

    /// Calls `decide` with each group of a lane whose turn comes before `watermark`, in the order of their turns. It
    /// says for what time the group waits next, if it does.
    pub(super) fn take_turns(
        &mut self,
        lane: &Lane,
        watermark: i64,
        mut decide: impl FnMut(Place) -> Option<i64>,
    ) {
        let Some((_, queue)) = self.find(lane).and_then(|latest| self.queues.get_mut(latest)) else { return };
        while let Some(mut turn) = queue.peek_mut().filter(|turn| turn.0.time < watermark) {
            match decide(turn.0.group) {
                Some(next) => turn.0.time = next,
                None => {
                    PeekMut::pop(turn);
                    self.len = self.len.saturating_sub(1);
                }
            }
        }
    }

    fn find(&self, lane: &Lane) -> Option<usize> {
        let is_latest = self.queues.get(self.latest).is_some_and(|(latest, _)| latest == lane);
        if is_latest { Some(self.latest) } else { self.lanes.get(lane).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_turns_in_the_order_of_time_in_each_lane() {
        let lanes = ["a", "b"].map(|cluster| Lane { cluster: cluster.into(), history: false });
        let mut waiting = Waiting::default();
        for (lane, time, slot) in [(0, 30, 1), (1, 5, 2), (0, 10, 3), (0, 20, 4), (1, 90, 5)] {
            waiting.add(&lanes[lane], time, Place::of(slot, 0));
        }
        assert_eq!(
            (waiting.len(), waiting.since(&lanes[0]), waiting.since(&lanes[1])),
            (5, Some(10), Some(5))
        );
        let mut turns = Vec::new();
        waiting.take_turns(&lanes[0], 30, |group| {
            turns.push(group);
            (group == Place::of(3, 0)).then_some(25 + i64::try_from(turns.len() * 10).unwrap())
        });
        assert_eq!(turns, [3, 4].map(|slot| Place::of(slot, 0)));
        assert_eq!((waiting.len(), waiting.since(&lanes[0])), (4, Some(30)));
        let nowhere = Lane { cluster: "c".into(), history: true };
        waiting.take_turns(&nowhere, i64::MAX, |_| None);
        waiting.take_turns(&lanes[1], i64::MAX, |_| None);
        assert_eq!((waiting.len(), waiting.since(&lanes[1]), waiting.since(&nowhere)), (2, None, None));
    }
}
