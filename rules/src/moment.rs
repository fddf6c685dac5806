//! Parts of a moment in UTC, as the modifiers `minute` to `year` read them.

use watchbell_event::Timestamp;

/// A part of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    Minute,
    Hour,
    /// Of the month.
    Day,
    /// Of ISO 8601: it begins on Monday, and week 1 is the one with January 4th.
    Week,
    Month,
    Year,
}

impl Unit {
    const ALL: [Self; 6] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The modifier that asks for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// By the name of its modifier.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// The least and the greatest number that it can be.
    pub(crate) fn range(self) -> (i16, i16) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Week => (1, 53),
            Self::Month => (1, 12),
            Self::Year => (1, 9999),
        }
    }
}

/// The parts of a moment that is written as RFC 3339; none if the text is not one.
pub(crate) fn parts(text: &str) -> Option<[(Unit, i16); 6]> {
    // Most texts are not times, and this tells without parsing.
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let moment: Timestamp = text.parse().ok()?;
    let minutes = moment.as_micros().div_euclid(60_000_000);
    let days = moment.day();
    let (year, month, day) = civil(days);
    let part = |number: i64| i16::try_from(number).unwrap_or(i16::MAX);
    Some([
        (Unit::Minute, part(minutes.rem_euclid(60))),
        (Unit::Hour, part(minutes.div_euclid(60).rem_euclid(24))),
        (Unit::Day, part(day)),
        (Unit::Week, part(iso_week(days))),
        (Unit::Month, part(month)),
        (Unit::Year, part(year)),
    ])
}

/// Year, month and day of a day since the epoch. Years are counted from March here, so that the leap day is
/// the last one, and in eras of 400 years, which are all equally long.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The week of the Thursday in the same week, which always lies in the year that the week belongs to.
fn iso_week(days: i64) -> i64 {
    // The epoch was a Thursday.
    let monday = days - (days + 3).rem_euclid(7);
    let thursday = monday + 3;
    let (year, ..) = civil(thursday);
    let mut first = thursday;
    while civil(first - 7).0 == year {
        first -= 7;
    }
    (thursday - first) / 7 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_utc() {
        for (text, expect) in [
            ("2026-01-31T08:15:00Z", [15, 8, 31, 5, 1, 2026]),
            ("2026-01-31T23:59:59.999999-05:00", [59, 4, 1, 5, 2, 2026]),
            ("2024-02-29T00:00:00Z", [0, 0, 29, 9, 2, 2024]),
            ("2027-01-03T12:00:00Z", [0, 12, 3, 53, 1, 2027]),
            ("2024-12-30T12:00:00Z", [0, 12, 30, 1, 12, 2024]),
            ("1969-12-31T23:01:00Z", [1, 23, 31, 1, 12, 1969]),
            ("2000-12-31T00:00:00Z", [0, 0, 31, 52, 12, 2000]),
        ] {
            assert_eq!(parts(text).map(|parts| parts.map(|(_, number)| number)), Some(expect), "{text}");
        }
        for text in ["", "yesterday", "2026-01-31", "1769847300", "2026-13-31T08:15:00Z"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
