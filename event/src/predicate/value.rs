use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use crate::Timestamp;

/// How much of a value patterns and ranges see, in bytes. A longer value is cut at a character.
pub const MAX_VALUE_BYTES: usize = 1024;
/// Moments beyond this distance from 1970, in microseconds, are moved to it: an index counts nanoseconds
/// in 64 bits.
const MAX_TIME_MICROS: i64 = 9_000_000_000_000_000;

/// A value in an event that is neither an object nor an array nor null.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A number.
    Number(Number),
    /// True or false.
    Bool(bool),
}

impl Scalar<'_> {
    /// What patterns look at.
    #[must_use]
    pub fn pattern_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(visible_text(text)),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
        }
    }
}

/// A finite number in its one form: a whole number that fits is an `I64`, else a `U64`; all others are `F64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    I64(i64),
    /// A whole number beyond `i64::MAX`.
    U64(u64),
    /// Any other number.
    F64(f64),
}

impl Number {
    /// Reads a number as JSON or a person writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !digits.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        if let Ok(number) = text.parse::<i64>() {
            return Some(Self::I64(number));
        }
        match text.parse::<u64>() {
            Ok(number) => Some(Self::U64(number)),
            Err(_) => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Self::from),
        }
    }

    /// The order of the numbers' values.
    #[must_use]
    pub fn compare(self, other: Self) -> Ordering {
        match (self.whole(), other.whole()) {
            (Some(one), Some(two)) => one.cmp(&two),
            _ => self.to_f64().total_cmp(&other.to_f64()),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    fn whole(self) -> Option<i128> {
        match self {
            Self::I64(number) => Some(i128::from(number)),
            Self::U64(number) => Some(i128::from(number)),
            Self::F64(number) => (number.fract() == 0.0 && number.abs() < 1e38).then_some(number as i128),
        }
    }

    /// The nearest floating point number.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nearest, not equal")]
    pub fn to_f64(self) -> f64 {
        match self {
            Self::I64(number) => number as f64,
            Self::U64(number) => number as f64,
            Self::F64(number) => number,
        }
    }
}

/// A finite number equals itself.
impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::I64(number) => number.hash(state),
            Self::U64(number) => number.hash(state),
            // Zero is an `I64`, so equal numbers have equal bits.
            Self::F64(number) => number.to_bits().hash(state),
        }
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::I64(number)
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::U64(number), Self::I64)
    }
}

impl From<f64> for Number {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    #[expect(clippy::cast_precision_loss, reason = "the limits, rounded up to the power of two")]
    fn from(number: f64) -> Self {
        if number.fract() != 0.0 {
            Self::F64(number)
        } else if number >= i64::MIN as f64 && number < i64::MAX as f64 {
            Self::I64(number as i64)
        } else if number >= 0.0 && number < u64::MAX as f64 {
            Self::U64(number as u64)
        } else {
            Self::F64(number)
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(number) => write!(f, "{number}"),
            Self::U64(number) => write!(f, "{number}"),
            Self::F64(number) => write!(f, "{number}"),
        }
    }
}

/// A block of addresses; IPv4 addresses are taken as IPv4-mapped IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The lowest address.
    pub first: u128,
    /// The highest address.
    pub last: u128,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or one address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(width);
        let host_bits = width.checked_sub(length)?;
        let host_mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let bits = address_bits(address);
        Some(Self { first: bits & !host_mask, last: bits | host_mask })
    }

    /// True if the address lies in the block.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address_bits(address))
    }
}

/// The address as an IPv6 address, as a number.
pub(super) fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// What patterns and ranges see of a text.
#[must_use]
pub fn visible_text(text: &str) -> &str {
    if text.len() <= MAX_VALUE_BYTES { text } else { &text[..text.floor_char_boundary(MAX_VALUE_BYTES)] }
}

/// The form under which a text is indexed: itself, or, if it is too long, what is visible of it with a hash
/// of the whole, so that equality still works. Only such a form is longer than [`MAX_VALUE_BYTES`].
#[must_use]
pub fn indexed_text(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_VALUE_BYTES {
        return Cow::Borrowed(text);
    }
    let hash = blake3::hash(text.as_bytes()).to_hex();
    Cow::Owned(format!("{}\u{2026}{}", visible_text(text), &hash[..32]))
}

/// A moment in the microseconds that an index can hold.
#[must_use]
pub fn indexed_time(time: Timestamp) -> i64 {
    time.as_micros().clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS)
}

/// The first and last microsecond that a text in a query means: an RFC 3339 time, or a day in UTC.
#[must_use]
pub fn time_span(text: &str) -> Option<(i64, i64)> {
    const DAY_MICROS: i64 = 86_400_000_000;
    if let Ok(time) = text.parse::<Timestamp>() {
        let micros = indexed_time(time);
        return Some((micros, micros));
    }
    let day: Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
    let first = indexed_time(day);
    Some((first, first + DAY_MICROS - 1))
}
