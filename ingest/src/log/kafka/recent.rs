use std::collections::HashSet;

use watchbell_event::EventId;

use crate::mix::Mix;

/// The identities of the newest events of all partitions, at least half of `capacity` of them. Producers that
/// are not idempotent write a message twice when the first answer was lost, and forwarders start again a little
/// before the place where they stopped.
#[derive(Debug)]
pub(super) struct Recent {
    newer: HashSet<EventId, Mix>,
    older: HashSet<EventId, Mix>,
    capacity: usize,
}

impl Recent {
    pub(super) fn new(capacity: usize) -> Self {
        let empty = || HashSet::with_hasher(Mix::new());
        Self { newer: empty(), older: empty(), capacity: capacity.max(2) }
    }

    /// Remembers an event; false if it was known.
    pub(super) fn insert(&mut self, id: EventId) -> bool {
        if self.older.contains(&id) || !self.newer.insert(id) {
            return false;
        }
        if self.newer.len() >= self.capacity / 2 {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.clear();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_old_ones_are_forgotten() {
        let id = |number: u64| EventId::from_hash(&blake3::hash(&number.to_le_bytes()));
        let mut recent = Recent::new(100);
        assert!((0..100).all(|number| recent.insert(id(number))));
        assert!((50..100).all(|number| !recent.insert(id(number))));
        assert!((100..200).all(|number| recent.insert(id(number))));
        assert!(recent.insert(id(0)));
    }
}
