//! Query strings: every parameter is known, given once, and within its limits, or the answer says which is
//! not.

use std::fmt::Display;
use std::str::FromStr;

use watchbell_event::Timestamp;

use super::error::ApiError;

const MAX_PARAMS: usize = 32;

/// The parameters of one request that were not taken yet.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let params: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().take(MAX_PARAMS + 1).collect();
        if params.len() > MAX_PARAMS {
            return Err(bad(format!("there are more than {MAX_PARAMS} parameters")));
        }
        Ok(Self(params))
    }

    /// The parameter's value; an empty one counts as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(index).1).filter(|value| !value.is_empty())
    }

    /// The parameter as it was written, left in place.
    pub(super) fn peek(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    pub(super) fn number(
        &mut self,
        name: &str,
        default: usize,
        min: usize,
        max: usize,
    ) -> Result<usize, ApiError> {
        let Some(text) = self.take(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        number
            .ok_or_else(|| bad(format!("{name} must be a whole number from {min} to {max}, but is {text:?}")))
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let text = self.take(name);
        text.map(|text| text.parse().map_err(|error| bad(format!("{name}: {error}")))).transpose()
    }

    pub(super) fn time(&mut self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let text = self.take(name);
        text.map(|text| {
            parse_time(&text, now).ok_or_else(|| bad(format!("{name} must be {TIME_FORMS}, but is {text:?}")))
        })
        .transpose()
    }

    /// Refuses parameters that nobody took.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) if known.contains(&name.as_str()) => Err(bad(format!("{name} is given twice"))),
            Some((name, _)) => Err(bad(format!("unknown parameter {name:?}; known: {}", known.join(", ")))),
        }
    }
}

/// What [`parse_time`] reads, for people.
pub(crate) const TIME_FORMS: &str = "an RFC 3339 time, milliseconds since 1970, or relative as in now-24h";

/// Reads `2026-01-31T08:15:00Z`, `1769846400000`, `now`, `now-24h`.
pub(crate) fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(offset) = text.strip_prefix("now") {
        if offset.is_empty() {
            return Some(now);
        }
        let span = humantime::parse_duration(offset.strip_prefix('-')?).ok()?;
        return Some(now.plus_micros(-i64::try_from(span.as_micros()).ok()?));
    }
    if let Ok(millis) = text.parse::<i64>() {
        return Some(Timestamp::from_micros(millis.saturating_mul(1_000)));
    }
    text.parse().ok()
}

fn bad(message: String) -> ApiError {
    ApiError::bad_request("bad_parameter", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_three_forms() {
        let now: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
        for (text, expect) in [
            ("now", Some("2026-01-31T08:00:00Z")),
            ("now-24h", Some("2026-01-30T08:00:00Z")),
            ("now-1d 1h", Some("2026-01-30T07:00:00Z")),
            ("1769846400000", Some("2026-01-31T08:00:00Z")),
            ("2026-01-31T10:00:00+02:00", Some("2026-01-31T08:00:00Z")),
            ("now+1h", None),
            ("yesterday", None),
            ("now-99999999999999y", None),
        ] {
            assert_eq!(parse_time(text, now), expect.map(|time| time.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        for (query, reason) in [
            ("q=a&qq=b", "unknown parameter \"qq\"; known: q, limit"),
            ("q=a&q=b", "q is given twice"),
            ("limit=0", "limit must be a whole number from 1 to 10, but is \"0\""),
        ] {
            let mut params = Params::parse(query).unwrap();
            let _ = params.take("q");
            let limit = params.number("limit", 5, 1, 10).map(|_| ());
            let error = limit.and_then(|()| params.finish(&["q", "limit"])).unwrap_err();
            assert_eq!(error.message, reason);
        }
    }
}
