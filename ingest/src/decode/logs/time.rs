//! Times as they stand in log lines. What names no zone is taken as UTC, what names no year as in the year
//! that brings it closest to its arrival.

use bytes::BytesMut;
use watchbell_event::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Whatever is no further away is the closest of its kind: one year later or earlier, it is further.
const HALF_YEAR: i64 = 182 * DAY;
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A date and time of day in UTC, but for its year perhaps.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    micros: i64,
}

impl Civil {
    fn micros(&self) -> Option<i64> {
        let days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let in_month = *days.get(usize::try_from(self.month - 1).ok()?)?;
        if !(1..=in_month).contains(&self.day) || !(1..=9999).contains(&self.year) {
            return None;
        }
        Some(days_since_epoch(self.year, self.month, self.day) * DAY + self.micros)
    }

    fn timestamp(&self) -> Option<Timestamp> {
        self.micros().map(Timestamp::from_micros)
    }

    /// In the year that brings it closest to `near`.
    fn closest(mut self, near: Timestamp) -> Option<Timestamp> {
        let (this_year, _, _) = civil(near.as_micros().div_euclid(DAY));
        let distance = |time: &Timestamp| time.micros_since(near).abs();
        let mut in_year = |year| {
            self.year = year;
            self.timestamp()
        };
        let this = in_year(this_year);
        if this.is_some_and(|time| distance(&time) <= HALF_YEAR) {
            return this;
        }
        [in_year(this_year - 1), this, in_year(this_year + 1)].into_iter().flatten().min_by_key(distance)
    }
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // the year is counted from March, so that the leap day is its last
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Appends a time as RFC 3339 with microseconds.
pub(super) fn write(time: Timestamp, out: &mut BytesMut) {
    let micros = time.as_micros();
    let (year, month, day) = civil(micros.div_euclid(DAY));
    let of_day = micros.rem_euclid(DAY);
    if !(0..=9999).contains(&year) {
        out.extend_from_slice(time.to_string().as_bytes());
        return;
    }
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let seconds = of_day / SECOND;
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], seconds / 3600);
    put(&mut text[14..16], seconds / 60 % 60);
    put(&mut text[17..19], seconds % 60);
    put(&mut text[20..26], of_day % SECOND);
    out.extend_from_slice(&text);
}

/// Writes a number that is not negative over digits, the last one first.
fn put(digits: &mut [u8], number: i64) {
    let mut rest = number.unsigned_abs();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
}

/// Reads a text from its start.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        let found = allowed.iter().any(|byte| byte == first);
        found.then(|| self.0 = rest)?;
        Some(*first)
    }

    fn number<const DIGITS: usize>(&mut self) -> Option<i64> {
        let (digits, rest) = self.0.split_first_chunk::<DIGITS>()?;
        self.0 = rest;
        digits
            .iter()
            .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(*digit - b'0')))
    }

    fn month(&mut self) -> Option<i64> {
        let name: &[u8; 3] = self.0.first_chunk()?;
        self.0 = &self.0[3..];
        (1..).zip(MONTHS).find(|(_, month)| month.eq_ignore_ascii_case(name)).map(|(number, _)| number)
    }

    /// `HH:MM:SS`, and a fraction behind `.` or `,`; in microseconds.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number::<2>()?;
        self.byte(b":")?;
        let minute = self.number::<2>()?;
        self.byte(b":")?;
        let second = self.number::<2>()?;
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut fraction = 0;
        if let [b'.' | b',', rest @ ..] = self.0 {
            let mut unit = SECOND;
            let mut count = 0;
            while let Some(digit @ b'0'..=b'9') = rest.get(count) {
                unit /= 10;
                fraction += i64::from(*digit - b'0') * unit;
                count += 1;
            }
            self.0 = if count > 0 { &rest[count..] } else { self.0 };
        }
        Some(((hour * 60 + minute) * 60 + second) * SECOND + fraction)
    }

    /// `Z`, `+0100` or `+01:00`, in microseconds east; zero if there is none.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.0.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            first => {
                self.0 = if first == Some(&b'Z') { &self.0[1..] } else { self.0 };
                return Some(0);
            }
        };
        self.0 = &self.0[1..];
        let hours = self.number::<2>()?;
        let _ = self.byte(b":");
        let minutes = self.number::<2>()?;
        Some(sign * (hours * 60 + minutes) * 60 * SECOND)
    }
}

/// A time at the start of a text, and what follows: `2026-01-31T08:15:00.123Z`, also with a space or slashes,
/// and without a zone.
pub(super) fn leading(text: &str) -> Option<(Timestamp, &str)> {
    let (time, after) = leading_bytes(text.as_bytes())?;
    Some((time, rest(text, Reader(after))))
}

/// As [`leading`], of a text that may not be UTF-8.
pub(super) fn leading_bytes(text: &[u8]) -> Option<(Timestamp, &[u8])> {
    let mut reader = Reader(text);
    let year = reader.number::<4>()?;
    let separator = reader.byte(b"-/")?;
    let month = reader.number::<2>()?;
    reader.byte(&[separator])?;
    let day = reader.number::<2>()?;
    reader.byte(b"T ")?;
    let micros = reader.time_of_day()?;
    let time = Civil { year, month, day, micros: micros - reader.zone()? }.timestamp()?;
    Some((time, reader.0))
}

/// `21/Feb/2018:17:26:53 +0000`, as in access logs.
pub(super) fn access(text: &str) -> Option<Timestamp> {
    let mut reader = Reader(text.as_bytes());
    let day = reader.number::<2>()?;
    reader.byte(b"/")?;
    let month = reader.month()?;
    reader.byte(b"/")?;
    let year = reader.number::<4>()?;
    reader.byte(b":")?;
    let micros = reader.time_of_day()?;
    reader.byte(b" ")?;
    let micros = micros - reader.zone()?;
    Civil { year, month, day, micros }.timestamp().filter(|_| reader.0.is_empty())
}

/// `Jan 31 08:15:00` at the start of a text, as in syslog, and what follows. Some devices write the year behind the day.
pub(super) fn syslog(text: &str, near: Timestamp) -> Option<(Timestamp, &str)> {
    let mut reader = Reader(text.as_bytes());
    let month = reader.month()?;
    reader.byte(b" ")?;
    let padded = reader.byte(b" ").is_some();
    let day = if padded { reader.number::<1>()? } else { reader.number::<2>()? };
    reader.byte(b" ")?;
    let mut with_year = reader;
    let year = with_year.number::<4>().filter(|_| with_year.byte(b" ").is_some());
    if year.is_some() {
        reader = with_year;
    }
    let civil = Civil { year: year.unwrap_or(0), month, day, micros: reader.time_of_day()? };
    let time = if year.is_some() { civil.timestamp() } else { civil.closest(near) };
    Some((time?, rest(text, reader)))
}

/// `0131 08:15:00.123456` at the start of a text, as klog writes it, and what follows.
pub(super) fn klog(text: &str, near: Timestamp) -> Option<(Timestamp, &str)> {
    let mut reader = Reader(text.as_bytes());
    let (month, day) = (reader.number::<2>()?, reader.number::<2>()?);
    reader.byte(b" ")?;
    let civil = Civil { year: 0, month, day, micros: reader.time_of_day()? };
    Some((civil.closest(near)?, rest(text, reader)))
}

/// A whole text that is a time.
pub(super) fn whole(text: &str) -> Option<Timestamp> {
    match leading(text) {
        Some((time, "")) => Some(time),
        _ => epoch(text.parse().ok()?),
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970; which of them the size tells. Only times
/// between 2001 and 2286 are taken for ones.
pub(super) fn epoch(number: f64) -> Option<Timestamp> {
    let factor = match number {
        1e9..1e10 => 1e6,
        1e12..1e13 => 1e3,
        1e15..1e16 => 1.0,
        1e18..1e19 => 1e-3,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation, reason = "below 1e16")]
    Some(Timestamp::from_micros((number * factor) as i64))
}

fn rest<'a>(text: &'a str, reader: Reader<'_>) -> &'a str {
    text.get(text.len() - reader.0.len()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn times_are_read_as_logs_write_them() {
        let leading = |text: &str| leading(text).map(|(time, _)| time);
        for (read, expect) in [
            (leading("2026-01-31T08:15:00.123456789Z stdout F x"), "2026-01-31T08:15:00.123456Z"),
            (leading("2026-01-31T08:15:00.5+01:00"), "2026-01-31T07:15:00.500000Z"),
            (leading("2024-02-29 23:59:60,1 x"), "2024-03-01T00:00:00.100000Z"),
            (leading("2026/01/31 08:15:00 [error]"), "2026-01-31T08:15:00.000000Z"),
            (access("21/Feb/2018:17:26:53 -0130"), "2018-02-21T18:56:53.000000Z"),
            (syslog("Dec 31 23:59:59 host", arrival()).map(|t| t.0), "2025-12-31T23:59:59.000000Z"),
            (syslog("Jan  2 00:00:01 host", arrival()).map(|t| t.0), "2026-01-02T00:00:01.000000Z"),
            (syslog("Oct 11 2019 22:14:15 host", arrival()).map(|t| t.0), "2019-10-11T22:14:15.000000Z"),
            (klog("0102 00:00:00.000007       1 a", arrival()).map(|t| t.0), "2026-01-02T00:00:00.000007Z"),
            (whole("1769847300"), "2026-01-31T08:15:00.000000Z"),
            (whole("1769847300.25"), "2026-01-31T08:15:00.250000Z"),
            (epoch(1_769_847_300_000.0), "2026-01-31T08:15:00.000000Z"),
        ] {
            let mut written = BytesMut::new();
            write(read.unwrap(), &mut written);
            assert_eq!(str::from_utf8(&written).unwrap(), expect);
        }
    }

    #[test]
    fn what_is_no_time_is_not_read_as_one() {
        for text in ["2026-13-01T00:00:00Z", "2026-01-31", "2026-01-31T24:00:00Z", "12", "", "20é"] {
            assert_eq!(whole(text), None, "{text}");
        }
        assert_eq!(access("21/Foo/2018:17:26:53 +0000"), None);
        assert_eq!(syslog("Feb 30 00:00:00 ", arrival()).map(|t| t.0), None);
    }

    proptest::proptest! {
        #[test]
        fn a_day_without_a_year_is_in_the_closest_one(
            near in 1_000_000_000_000_000i64..4_000_000_000_000_000,
            month in 1i64..=12,
            day in 1i64..=31,
        ) {
            let near = Timestamp::from_micros(near);
            let civil = |year| Civil { year, month, day, micros: 0 };
            let (year, _, _) = super::civil(near.day());
            let times = [year - 1, year, year + 1].into_iter().filter_map(|year| civil(year).timestamp());
            let expect = times.min_by_key(|time| time.micros_since(near).abs());
            proptest::prop_assert_eq!(civil(0).closest(near), expect);
        }

        #[test]
        fn what_is_written_is_what_the_calendar_says(micros in -62_000_000_000_000_000i64..250_000_000_000_000_000) {
            let time = Timestamp::from_micros(micros);
            let mut written = BytesMut::new();
            write(time, &mut written);
            let written = str::from_utf8(&written).unwrap();
            proptest::prop_assert_eq!(written.parse::<Timestamp>().unwrap(), time);
            if micros > 0 {
                proptest::prop_assert_eq!(leading(written), Some((time, "")));
            }
        }
    }
}
