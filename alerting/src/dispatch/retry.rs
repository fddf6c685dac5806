//! What becomes of a message after an attempt. Pure, so that every case is a line of a table.

use watchbell_event::Timestamp;

use super::DispatchConfig;
use crate::DeliveryId;
use crate::alert::hash_parts;
use crate::notify::Outcome;
use crate::store::{Attempt, Verdict, micros};

/// Age alone ends no message before this many attempts: it may have been the process that was down, or the
/// clock that was set forward.
const MIN_ATTEMPTS: u64 = 8;

/// Judges an attempt to send `alerts` alerts.
pub(super) fn verdict(
    config: &DispatchConfig,
    attempt: &Attempt,
    alerts: u64,
    outcome: Outcome,
    now: Timestamp,
) -> Verdict {
    match outcome {
        Outcome::TooLarge(outcome) if alerts > 1 => Verdict::Split { outcome, keep: alerts / 2 },
        Outcome::Delivered(outcome) => Verdict::Sent { outcome },
        Outcome::TooLarge(outcome) | Outcome::Refused(outcome) | Outcome::Gone(outcome) => {
            Verdict::Dead { outcome }
        }
        Outcome::Later { detail, not_before } => {
            let next = backoff(config, attempt.id, attempt.number, now).max(not_before.unwrap_or(now));
            let age_micros = next.micros_since(attempt.created_at);
            let too_old = age_micros > micros(config.give_up_after_ms) && attempt.number >= MIN_ATTEMPTS;
            if too_old || attempt.number >= config.max_attempts {
                let outcome = format!("given up after {} attempts: {detail}", attempt.number);
                return Verdict::Dead { outcome };
            }
            Verdict::Retry { outcome: detail, not_before: next }
        }
    }
}

/// The wait doubles with each failure up to a limit, and its second half is spread by a hash of message and
/// number, so that the receivers of one failed server do not come back all at once.
pub(super) fn backoff(config: &DispatchConfig, id: DeliveryId, failures: u64, now: Timestamp) -> Timestamp {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(40);
    let wait_ms = config.retry_min_ms.saturating_mul(1 << doublings).min(config.retry_max_ms);
    let half = micros(wait_ms) / 2;
    let spread = hash_parts(&[&id.0.0, &failures.to_be_bytes()]).prefix();
    let spread = i64::try_from(spread % u64::try_from(half).unwrap_or(0).saturating_add(1)).unwrap_or(0);
    now.plus_micros(half.saturating_add(spread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, id};

    fn attempt(number: u64) -> Attempt {
        Attempt { delivery: 1, id: DeliveryId(id(7)), number, created_at: at(0) }
    }

    fn later(not_before: Option<Timestamp>) -> Outcome {
        Outcome::Later { detail: "HTTP 503".to_owned(), not_before }
    }

    #[test]
    fn waits_double_up_to_the_limit_and_are_spread() {
        let config = DispatchConfig::default();
        for (number, longest_s) in [(1, 1), (2, 2), (5, 16), (9, 256), (10, 300), (1000, 300)] {
            let Verdict::Retry { not_before, .. } = verdict(&config, &attempt(number), 1, later(None), at(0))
            else {
                panic!("attempt {number} was given up");
            };
            let wait = not_before.micros_since(at(0));
            assert!((longest_s * 500_000..=longest_s * 1_000_000).contains(&wait), "{number}: {wait}");
        }
    }

    #[test]
    fn a_receiver_that_asks_for_more_time_gets_it() {
        let verdict = verdict(&DispatchConfig::default(), &attempt(1), 1, later(Some(at(3600))), at(0));
        assert_eq!(verdict, Verdict::Retry { outcome: "HTTP 503".to_owned(), not_before: at(3600) });
    }

    #[test]
    fn a_message_that_is_too_large_is_halved_down_to_one_alert() {
        let too_large = || Outcome::TooLarge("HTTP 413".to_owned());
        for (alerts, keep) in [(1000, Some(500)), (3, Some(1)), (2, Some(1)), (1, None)] {
            let expect = match keep {
                Some(keep) => Verdict::Split { outcome: "HTTP 413".to_owned(), keep },
                None => Verdict::Dead { outcome: "HTTP 413".to_owned() },
            };
            let verdict = verdict(&DispatchConfig::default(), &attempt(5), alerts, too_large(), at(0));
            assert_eq!(verdict, expect, "{alerts}");
        }
    }

    #[test]
    fn messages_are_given_up_by_age_by_attempts_and_when_refused() {
        let config = DispatchConfig { max_attempts: 20, ..DispatchConfig::default() };
        let dead = |attempt: &Attempt, outcome, now| {
            matches!(verdict(&config, attempt, 1, outcome, now), Verdict::Dead { .. })
        };
        assert!(!dead(&attempt(8), later(None), at(24 * 3600)));
        assert!(dead(&attempt(20), later(None), at(0)));
        assert!(dead(&attempt(8), later(None), at(48 * 3600)));
        assert!(!dead(&attempt(7), later(None), at(48 * 3600)));
        assert!(dead(&attempt(1), Outcome::Refused("HTTP 400".to_owned()), at(0)));
        assert!(dead(&attempt(1), Outcome::Gone("HTTP 410".to_owned()), at(0)));
        assert!(dead(&attempt(1), Outcome::TooLarge("HTTP 413".to_owned()), at(0)));
        assert!(!dead(&attempt(1), Outcome::Delivered("HTTP 200".to_owned()), at(0)));
    }
}
