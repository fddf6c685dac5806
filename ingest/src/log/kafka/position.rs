//! Offsets of a topic as positions in the log.
//!
//! One message may hold many events, but a reader's position must be exact even where a commit falls between
//! two events of one message. So a log offset is the message's offset and the event's number within it:
//!
//! ```text
//! bit 63             16 15          0
//!     ├ message offset ┼ event number ┤
//! ```
//!
//! The order stays that of the topic, and the offset after a message is `(offset + 1, 0)`. Numbers count what
//! was rejected, too, so that they do not change with the limits. Databases keep 63 bits: 2^47 messages in one
//! partition, at a million each second more than four years.

/// Events of one message that are told apart.
pub(super) const MAX_EVENTS: usize = 1 << EVENT_BITS;
const EVENT_BITS: u32 = 16;
/// The offsets that fit into 63 bits together with the event's number.
const MAX_OFFSET: u64 = (1 << (63 - EVENT_BITS)) - 1;

/// The log offset of an event of a message.
pub(super) fn pack(message: i64, event: usize) -> u64 {
    let message = u64::try_from(message).unwrap_or(0).min(MAX_OFFSET);
    message << EVENT_BITS | (event.min(MAX_EVENTS - 1) as u64)
}

/// The log offset of the first event of a message.
pub(super) fn at(message: i64) -> u64 {
    pack(message, 0)
}

/// The message a reader needs next if this is its position. Some of its events may have been read.
pub(super) fn message(offset: u64) -> i64 {
    i64::try_from(offset >> EVENT_BITS).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_messages_and_events(a in 0..i64::from(u32::MAX), b in 0..i64::from(u32::MAX),
            x in 0..MAX_EVENTS, y in 0..MAX_EVENTS) {
            prop_assert_eq!(pack(a, x).cmp(&pack(b, y)), (a, x).cmp(&(b, y)));
            prop_assert_eq!(message(pack(a, x)), a);
            prop_assert!(pack(a, x) < at(a + 1));
        }
    }

    #[test]
    fn the_last_offset_fits_into_a_signed_number() {
        assert!(i64::try_from(pack(i64::MAX, usize::MAX)).is_ok());
        assert_eq!(at(-1), 0);
    }
}
