use std::cell::Cell;

use watchbell_event::EventId;

use super::super::Origin;

/// Keeps these hashes apart from all others.
const DOMAIN: &str = "watchbell log record 2";
/// Bits of a number that are not hashed: a kilobyte of a file has one hash, and so have most deliveries.
const LOW_BITS: u32 = 10;

/// Something that numbers its records: a file by byte offsets, a message of a topic, one delivery.
///
/// Log lines have no identity of their own: five equal lines are five events. What tells a record that is sent
/// again from another one is where it came from.
#[derive(Clone, Debug)]
pub struct Sequence {
    key: [u8; 32],
    /// The hash that the last record took, and which it was.
    last: Cell<Option<(u64, u128)>>,
}

impl Sequence {
    /// A file, by something that stays the same when it is renamed, such as device, inode and a hash of its
    /// beginning. Records are numbered by the byte offset at which they begin.
    #[must_use]
    pub fn file(origin: &Origin, file: &[u8]) -> Self {
        Self::of(origin, "file", &[file])
    }

    /// A message of the topic that the origin's source names, by its partition and offset. When it was written (in
    /// any unit) and what it says count, too: a topic that is made anew begins again at offset 0. Records are
    /// numbered by their place in it.
    #[must_use]
    pub fn message(origin: &Origin, partition: i32, offset: i64, written: Option<i64>, value: &[u8]) -> Self {
        let written = written.map(i64::to_le_bytes);
        let written = written.as_ref().map_or(&[][..], |written| &written[..]);
        let place = [&partition.to_le_bytes()[..], &offset.to_le_bytes()];
        Self::of(origin, "message", &[place[0], place[1], written, blake3::hash(value).as_bytes()])
    }

    /// One delivery, by what its sender repeats when it sends it again (an idempotency key, a chunk id), or
    /// else by random bytes. Records are numbered by their place in it.
    #[must_use]
    pub fn delivery(origin: &Origin, id: &[u8]) -> Self {
        Self::of(origin, "delivery", &[id])
    }

    fn of(origin: &Origin, kind: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        let named = [origin.cluster.as_bytes(), origin.source.as_bytes(), kind.as_bytes()];
        for part in named.iter().chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self { key: *hasher.finalize().as_bytes(), last: Cell::new(None) }
    }

    /// The identity of the record with this number: a hash of the number without its lowest ten bits, combined with
    /// these. Two records of one hash never have one identity, others only if 118 bits of their hashes are alike. To
    /// hash each number would be a tenth of all that a line of a file takes.
    #[must_use]
    pub fn id(&self, number: u64) -> EventId {
        let block = number >> LOW_BITS;
        let hash = match self.last.get() {
            Some((last, hash)) if last == block => hash,
            _ => {
                let hash = blake3::keyed_hash(&self.key, &block.to_le_bytes());
                u128::from_be_bytes(EventId::from_hash(&hash).0)
            }
        };
        self.last.set(Some((block, hash)));
        let low = u128::from(number & ((1 << LOW_BITS) - 1));
        // at the end of the half that the index keeps, where neighbours take little room
        EventId((hash ^ low << 64).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use watchbell_event::Timestamp;

    use super::*;

    fn origin(cluster: &str) -> Origin {
        let (source, cluster) = ("logs".into(), cluster.into());
        Origin { source, cluster, peer: None, received_at: Timestamp::default(), history: false }
    }

    #[test]
    fn records_are_told_apart_by_where_they_came_from() {
        let prod = origin("prod");
        let ids = [
            Sequence::file(&prod, b"1").id(0),
            Sequence::file(&prod, b"1").id(1),
            Sequence::file(&prod, b"12").id(0),
            Sequence::delivery(&prod, b"1").id(0),
            Sequence::delivery(&origin("test"), b"1").id(0),
            Sequence::message(&prod, 0, 1, None, b"1").id(0),
            Sequence::message(&prod, 1, 0, None, b"1").id(0),
            Sequence::message(&prod, 0, 1, Some(0), b"1").id(0),
            Sequence::message(&prod, 0, 1, Some(0), b"2").id(0),
            Sequence::message(&prod, 0, 1, Some(0), b"2").id(1),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id), "{index}");
        }
    }

    proptest::proptest! {
        #[test]
        fn records_of_a_sequence_are_told_apart_in_whatever_order_they_come(
            numbers in proptest::collection::vec(proptest::prop_oneof![0u64..5_000, proptest::num::u64::ANY], 2..50),
        ) {
            let begin = || Sequence::delivery(&origin("prod"), b"1");
            let sequence = begin();
            let ids: Vec<EventId> = numbers.iter().map(|number| sequence.id(*number)).collect();
            for (index, (number, id)) in numbers.iter().zip(&ids).enumerate() {
                proptest::prop_assert_eq!(*id, begin().id(*number));
                for (other, other_id) in numbers.iter().zip(&ids).take(index) {
                    proptest::prop_assert_eq!(number == other, id == other_id);
                }
            }
        }
    }
}
