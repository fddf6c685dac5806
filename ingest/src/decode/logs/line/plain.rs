//! Text: perhaps a time, perhaps a level near its beginning, and otherwise nothing that is understood.

use super::super::draft::Draft;
use super::super::{Field, level, time};

/// Words at the beginning among which a level is looked for.
const WORDS: usize = 4;

pub(super) fn read<'a>(line: &'a str, draft: &mut Draft<'a>) {
    let mut rest = line;
    if let Some((time, after)) = time::leading(line.trim_start_matches('[')) {
        draft.time = Some(time);
        rest = after;
    }
    let level =
        rest.split([' ', '\t', '|', ']']).filter(|word| !word.is_empty()).take(WORDS).find_map(level_word);
    if let Some(level) = level {
        draft.say(Field::LogLevel, level);
    }
}

/// A level in capitals or in brackets: a sentence has `error` in it for other reasons.
fn level_word(word: &str) -> Option<&'static str> {
    if word.starts_with(|first: char| first.is_ascii_lowercase()) {
        return None;
    }
    let bare = word.trim_matches(['[', ']', ':', '(', ')', '<', '>']);
    let is_marked = bare.len() > 2
        && (bare.bytes().all(|byte| byte.is_ascii_uppercase()) || word.starts_with(['[', '<']));
    is_marked.then(|| level::known(bare))?
}
