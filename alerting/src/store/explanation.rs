//! Explanations of alerts: worked out before a transaction begins, and stored within bounds.

use std::collections::HashSet;

use rusqlite::OptionalExtension;
use watchbell_event::{Detection, Explanation};

use super::commit::{episode_key, is_replayed};
use super::text::{MAX_EXPLANATION_BYTES, MAX_NAME_BYTES, MAX_VALUE_BYTES, clip};
use super::{AlertStore, StoreError, micros};

/// Longest value in an explanation that is too long, in bytes.
const MAX_SHORT_BYTES: usize = 64;

impl AlertStore {
    /// Works out why rules matched, of the detections that will open an alert: that reads whole events, and nobody
    /// should wait for it who wants to write. What is overlooked is worked out when it is needed.
    pub(super) fn explain_ahead(&self, detections: &[Detection]) -> Result<(), StoreError> {
        let opening = self.opening(detections);
        let opening = opening.map_err(|source| StoreError::Sql { action: "look for open alerts", source })?;
        for detection in opening {
            let _ = detection.explanation.get();
        }
        Ok(())
    }

    /// The first detections of their groups, where no alert takes them.
    fn opening<'a>(&self, detections: &'a [Detection]) -> rusqlite::Result<Vec<&'a Detection>> {
        let (mut groups, mut opening) = (HashSet::new(), Vec::new());
        let writer = self.writer();
        let mut find = writer
            .connection
            .prepare_cached("SELECT last_received FROM alert WHERE episode = ?1 AND taking = 1")?;
        for detection in detections.iter().filter(|detection| !is_replayed(detection, &writer.positions)) {
            let key = episode_key(detection);
            if !groups.insert(key) {
                continue;
            }
            let last: Option<i64> = find.query_row([key.0], |row| row.get(0)).optional()?;
            let quiet = |last| detection.received_at.as_micros().saturating_sub(last);
            if last.is_none_or(|last| quiet(last) > micros(self.shared.config.quiet_ms)) {
                opening.push(detection);
            }
        }
        Ok(opening)
    }
}

/// An explanation as JSON. Rules bound what they say; should one say more, the least important goes first: what the
/// event says, which anybody may have written at any length, and what to do only at the very end.
pub(super) fn explanation_json(explanation: &Explanation) -> String {
    let mut json = as_json(explanation);
    if json.len() <= MAX_EXPLANATION_BYTES {
        return json;
    }
    let mut kept = explanation.clone();
    for shorten in SHORTER {
        shorten(&mut kept);
        json = as_json(&kept);
        if json.len() <= MAX_EXPLANATION_BYTES {
            break;
        }
    }
    json
}

/// How to make an explanation shorter, step by step; what is left after the last one fits, even if JSON needs six bytes
/// for each.
const SHORTER: [fn(&mut Explanation); 9] = [
    clip_values,
    |kept| kept.context.clear(),
    |kept| kept.matched.iter_mut().for_each(|met| met.values.clear()),
    |kept| keep_conditions(kept, 16),
    |kept| kept.references.clear(),
    |kept| kept.false_positives.clear(),
    |kept| keep_conditions(kept, 0),
    |kept| kept.correlation = None,
    |kept| {
        clip_text(&mut kept.description, MAX_VALUE_BYTES);
        kept.next_steps.truncate(6);
        kept.next_steps.iter_mut().for_each(|step| clip_text(step, MAX_NAME_BYTES));
    },
];

fn clip_values(kept: &mut Explanation) {
    let matched = kept.matched.iter_mut().flat_map(|met| &mut met.values);
    let groups = kept.correlation.iter_mut().flat_map(|counted| counted.group.values_mut());
    let values = matched.chain(kept.context.values_mut()).chain(groups);
    values.for_each(|value| clip_text(value, MAX_SHORT_BYTES));
}

fn keep_conditions(kept: &mut Explanation, count: usize) {
    kept.matched_beyond += kept.matched.len().saturating_sub(count) as u64;
    kept.matched.truncate(count);
}

fn clip_text(text: &mut String, max: usize) {
    text.truncate(clip(text, max).len());
}

fn as_json(explanation: &Explanation) -> String {
    serde_json::to_string(explanation).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use watchbell_event::MetCondition;

    use super::*;

    #[test]
    fn what_to_do_stays_when_an_explanation_is_shortened() {
        let condition = |length: usize| MetCondition {
            field: "userAgent".to_owned(),
            test: "has a value".to_owned(),
            values: vec!["x".repeat(length)],
        };
        let check = |matched: usize, length: usize, context: usize, what: &str| {
            let explanation = Explanation {
                description: "d".repeat(3_000),
                matched: vec![condition(length); matched],
                context: [("userAgent".to_owned(), "y".repeat(context))].into(),
                next_steps: vec!["look".to_owned()],
                false_positives: vec!["backup".to_owned()],
                ..Explanation::default()
            };
            let json = explanation_json(&explanation);
            assert!(json.len() <= MAX_EXPLANATION_BYTES, "{what}");
            let kept: Explanation = serde_json::from_str(&json).unwrap();
            assert_eq!(kept.next_steps, explanation.next_steps, "{what}");
            assert_eq!(kept.false_positives, explanation.false_positives, "{what}");
            assert_eq!(kept.description, explanation.description, "{what}");
            assert_eq!(kept.matched.len() as u64 + kept.matched_beyond, matched as u64, "{what}");
            kept
        };
        let kept = check(16, 2_000, 300, "long values");
        assert_eq!((kept.matched[15].values[0].len(), kept.context["userAgent"].len()), (64, 64));
        check(100, 2_000, 20_000, "many conditions");
        check(1_000, 2_000, 20_000, "very many conditions");
        let json = explanation_json(&Explanation {
            description: "\u{1}".repeat(10_000),
            next_steps: vec![format!("look{}", "\u{1}".repeat(300)); 100],
            references: vec!["r".repeat(20_000)],
            ..Explanation::default()
        });
        let kept: Explanation = serde_json::from_str(&json).unwrap();
        assert!(
            json.len() <= MAX_EXPLANATION_BYTES && kept.next_steps[0].starts_with("look"),
            "{}",
            json.len()
        );
    }
}
