use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How far ahead of its arrival an event may claim to have happened; what lies beyond is clamped, so that
/// one timestamp from the future cannot make everything else late.
pub const FUTURE_TOLERANCE_MICROS: i64 = 5 * 60 * 1_000_000;

/// A moment in microseconds since 1970-01-01T00:00:00Z; written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Takes microseconds since the epoch; what lies outside the years -9999 to 9999 is moved to the edge.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        let (min, max) = (jiff::Timestamp::MIN.as_microsecond(), jiff::Timestamp::MAX.as_microsecond());
        Self(micros.clamp(min, max))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Days since the epoch, in UTC.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000_000)
    }

    /// The moment `micros` later (or earlier, when negative).
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to here; negative if `earlier` is later.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time an event is treated to have happened at: what it says itself, but at most
    /// [`FUTURE_TOLERANCE_MICROS`] after it was received.
    #[must_use]
    pub fn event_time(claimed: Option<Self>, received_at: Self) -> Self {
        claimed.unwrap_or(received_at).min(received_at.plus_micros(FUTURE_TOLERANCE_MICROS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

/// The text is not an RFC 3339 time.
#[derive(Debug, thiserror::Error)]
#[error("a time is written as in 2026-01-31T08:15:00Z")]
pub struct ParseTimestampError;

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError)?;
        Ok(Self(parsed.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_keeps_microseconds() {
        for (text, canonical) in [
            ("2026-01-31T08:15:00Z", "2026-01-31T08:15:00.000000Z"),
            ("2026-01-31T08:15:00.123456Z", "2026-01-31T08:15:00.123456Z"),
            ("2026-01-31T09:15:00.5+01:00", "2026-01-31T08:15:00.500000Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), canonical);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn event_time_is_clamped_to_five_minutes_after_arrival() {
        let received: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
        let check = |claimed: &str, expect: &str| {
            let time = Timestamp::event_time(Some(claimed.parse().unwrap()), received);
            assert_eq!(time, expect.parse().unwrap());
        };
        check("2026-01-31T07:00:00Z", "2026-01-31T07:00:00Z");
        check("2026-01-31T08:04:00Z", "2026-01-31T08:04:00Z");
        check("2099-01-01T00:00:00Z", "2026-01-31T08:05:00Z");
        assert_eq!(Timestamp::event_time(None, received), received);
    }
}
