//! What several targets share.

pub mod documents;
pub mod events;

use watchbell_rules::Evaluator;

/// The rules that match, or none if the event is not a JSON object; checked to be in order and in range.
pub fn verdicts(evaluator: &mut Evaluator, event: &[u8]) -> Option<Vec<usize>> {
    let mut matches = vec![usize::MAX];
    let read = evaluator.matches(event, &mut matches);
    assert!(matches.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(matches.last().is_none_or(|last| *last < evaluator.rules().rules().len()));
    assert!(read || matches.is_empty());
    read.then_some(matches)
}
