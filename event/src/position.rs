use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a record stands in the log: offsets rise within a partition and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The log partition; the disk journal is partition 0, partitions of topics have the numbers after that.
    pub partition: u32,
    /// The record's number within its partition; on a topic, the message's offset times 65,536 and the event's
    /// number within the message.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// How far a reader has come: for each partition the offset of the next record it needs.
///
/// A partition that is absent has not been read at all, which means from its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Positions(BTreeMap<u32, u64>);

impl Positions {
    /// The next offset to read in `partition`.
    #[must_use]
    pub fn next(&self, partition: u32) -> u64 {
        self.0.get(&partition).copied().unwrap_or(0)
    }

    /// True if the record at `position` was read before.
    #[must_use]
    pub fn covers(&self, position: Position) -> bool {
        position.offset < self.next(position.partition)
    }

    /// Notes that the record at `position` was read. Never moves backwards.
    pub fn advance_past(&mut self, position: Position) {
        let next = self.0.entry(position.partition).or_insert(0);
        *next = (*next).max(position.offset + 1);
    }

    /// Sets the next offset of a partition.
    pub fn set_next(&mut self, partition: u32, next: u64) {
        self.0.insert(partition, next);
    }

    /// The partitions that were read, with their next offsets.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().map(|(partition, next)| (*partition, *next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_advance_per_partition_and_never_move_back() {
        let mut positions = Positions::default();
        positions.advance_past(Position { partition: 1, offset: 7 });
        positions.advance_past(Position { partition: 1, offset: 3 });
        assert_eq!(positions.next(1), 8);
        assert_eq!(positions.next(0), 0);
        assert!(positions.covers(Position { partition: 1, offset: 7 }));
        assert!(!positions.covers(Position { partition: 0, offset: 0 }));
        assert_eq!(serde_json::to_string(&positions).unwrap(), r#"{"1":8}"#);
    }
}
