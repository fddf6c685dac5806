use watchbell_event::EventId;

use super::super::Origin;

/// Keeps these hashes apart from all others.
const DOMAIN: &str = "watchbell log record 1";

/// Something that numbers its records: a file by byte offsets, a message of a topic, one delivery.
///
/// Log lines have no identity of their own: five equal lines are five events. What tells a record that is sent
/// again from another one is where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence([u8; 32]);

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
        Self(*hasher.finalize().as_bytes())
    }

    /// The identity of the record with this number.
    #[must_use]
    pub fn id(&self, number: u64) -> EventId {
        EventId::from_hash(&blake3::keyed_hash(&self.0, &number.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use watchbell_event::Timestamp;

    use super::*;

    #[test]
    fn records_are_told_apart_by_where_they_came_from() {
        let origin = |cluster: &str| Origin {
            source: "logs".into(),
            cluster: cluster.into(),
            peer: None,
            received_at: Timestamp::default(),
            history: false,
        };
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
        assert_eq!(Sequence::delivery(&prod, b"1").id(7), Sequence::delivery(&prod, b"1").id(7));
    }
}
