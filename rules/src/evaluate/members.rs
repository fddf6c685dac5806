//! Conditions on members of arrays: each member is read as an event of its own, from the text of the array.

use super::{Evaluator, MAX_DEPTH, scan};
use crate::formula::Which;
use crate::json::{Kind, Malformed, Reader};

/// Whether one of the arrays has such a member.
pub(super) fn any_array<'a>(
    mut arrays: impl Iterator<Item = &'a str>,
    which: Which,
    evaluator: &mut Evaluator,
) -> bool {
    arrays.any(|array| match which {
        Which::Any => any_member(array, &mut |member| evaluator.holds_for_member(member)),
        Which::At(_) => {
            let mut members = Vec::new();
            any_member(array, &mut |member| {
                members.push(member);
                false
            });
            let position = which.position(members.len());
            let member = position.and_then(|position| members.get(position));
            member.is_some_and(|member| evaluator.holds_for_member(member))
        }
    })
}

/// Whether `holds` for a member of an array; what is no array is its own member.
fn any_member<'a>(array: &'a str, holds: &mut impl FnMut(&'a str) -> bool) -> bool {
    walk(&mut Reader::new(array), 0, holds).unwrap_or(false)
}

fn walk<'a>(
    reader: &mut Reader<'a>,
    depth: usize,
    holds: &mut impl FnMut(&'a str) -> bool,
) -> Result<bool, Malformed> {
    if reader.kind()? != Kind::Array || depth >= MAX_DEPTH {
        let start = reader.position();
        reader.skip()?;
        return Ok(holds(reader.since(start)));
    }
    let mut more = reader.enter(b'[', b']')?;
    while more {
        if walk(reader, depth + 1, holds)? {
            return Ok(true);
        }
        more = reader.more(b']')?;
    }
    Ok(false)
}

impl Evaluator {
    /// Whether the set's only condition holds for a member of an array.
    fn holds_for_member(&mut self, member: &str) -> bool {
        self.next_event();
        let Self { set, event, buffer, scratch, .. } = self;
        if scan::scan_member(set, member, event, buffer, scratch).is_err() {
            return false;
        }
        let mut matches = Vec::new();
        self.decide_candidates(&mut matches);
        !matches.is_empty()
    }
}
