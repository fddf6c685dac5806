//! Remembers what parts of lately seen events decide, such as who asked, from where, and why that was allowed. The same
//! clients ask again and again, and these parts are written in the same bytes each time; what the bytes decide depends
//! on nothing but the set of rules. To compare them takes a fraction of the time that it takes to read them.

use std::hash::Hasher;
use std::ops::Range;

use rustc_hash::FxHasher;

use super::scan::Scalar;
use crate::compile::{AtomId, FieldId, Hot};
use crate::json::Reader;

/// Parts that are remembered for one place of the event.
const SLOTS: usize = 256;
/// Longer parts are not remembered, nor those that decide more than this.
const MAX_WRITTEN_BYTES: usize = 1 << 10;
const MAX_TEXT_BYTES: usize = 1 << 10;
const MAX_ATOMS: usize = 128;
const MAX_TEXTS: usize = 64;

/// If of so many parts fewer than one in [`LEAST_KNOWN`] was known, none is looked for in the next [`PAUSE`] events.
const TRIED: u32 = 256;
const LEAST_KNOWN: u32 = 4;
const PAUSE: u32 = 4_096;

/// What a part of an event decides.
#[derive(Clone, Default)]
pub(super) struct Effects {
    atoms: Vec<AtomId>,
    values: Vec<(FieldId, Range<usize>)>,
    arrays: Vec<(FieldId, Range<usize>)>,
    facts: Vec<Fact>,
    text: String,
}

/// Something that the evaluator itself must know.
#[derive(Clone)]
struct Fact {
    hot: Hot,
    is_number: bool,
    range: Range<usize>,
}

impl Effects {
    /// An atom is true.
    pub(super) fn mark(&mut self, atom: AtomId) {
        self.atoms.push(atom);
    }

    /// A value is kept.
    pub(super) fn keep(&mut self, field: FieldId, text: &str) {
        let range = self.add(text);
        self.values.push((field, range));
    }

    /// A whole value, as JSON, is kept.
    pub(super) fn keep_array(&mut self, field: FieldId, text: &str) {
        let range = self.add(text);
        self.arrays.push((field, range));
    }

    /// The evaluator itself must know a value. From words, it learns nothing.
    pub(super) fn learn(&mut self, hot: Hot, value: Scalar<'_>) {
        let (text, is_number) = match value {
            Scalar::Text(text) => (text, false),
            Scalar::Number(text) => (text, true),
            Scalar::Null | Scalar::Bool(_) => return,
        };
        let range = self.add(text);
        self.facts.push(Fact { hot, is_number, range });
    }

    /// The atoms that are true, some perhaps twice.
    pub(super) fn atoms(&self) -> impl Iterator<Item = AtomId> {
        self.atoms.iter().copied()
    }

    /// The values that are kept, in their order.
    pub(super) fn values(&self) -> impl Iterator<Item = (FieldId, &str)> {
        self.values.iter().map(|(field, range)| (*field, &self.text[range.clone()]))
    }

    /// The whole values that are kept, in their order.
    pub(super) fn arrays(&self) -> impl Iterator<Item = (FieldId, &str)> {
        self.arrays.iter().map(|(field, range)| (*field, &self.text[range.clone()]))
    }

    /// What the evaluator itself must know, in the order in which it was found.
    pub(super) fn facts(&self) -> impl Iterator<Item = (Hot, Scalar<'_>)> {
        self.facts.iter().map(|fact| {
            let text = &self.text[fact.range.clone()];
            (fact.hot, if fact.is_number { Scalar::Number(text) } else { Scalar::Text(text) })
        })
    }

    fn add(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    fn is_small(&self) -> bool {
        let texts = self.values.len() + self.arrays.len() + self.facts.len();
        self.atoms.len() <= MAX_ATOMS && texts <= MAX_TEXTS && self.text.len() <= MAX_TEXT_BYTES
    }

    fn clear(&mut self) {
        self.atoms.clear();
        self.values.clear();
        self.arrays.clear();
        self.facts.clear();
        self.text.clear();
        self.text.shrink_to(MAX_TEXT_BYTES);
        self.atoms.shrink_to(MAX_ATOMS);
        self.values.shrink_to(MAX_TEXTS);
        self.arrays.shrink_to(MAX_TEXTS);
        self.facts.shrink_to(MAX_TEXTS);
    }
}

/// Which parts of an event came so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Trail(usize);

/// What lately seen parts at one place of the event decided.
#[derive(Default)]
pub(super) struct Parts {
    /// The last one is for a part that is not remembered.
    slots: Vec<Slot>,
    /// For each trail of the parts before, the slot of the part that came next the last time.
    guesses: Vec<usize>,
    /// The slot of the part that was looked for last.
    latest: usize,
    tried: u32,
    known: u32,
    pause: u32,
}

#[derive(Clone, Default)]
struct Slot {
    /// As the part is written; empty if nothing is known.
    written: String,
    effects: Effects,
}

impl Parts {
    /// Whether it is likely enough that the next part is known. Where parts are nearly always new, nothing is gained by
    /// looking for them.
    pub(super) fn is_worth_while(&mut self) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        if self.tried == TRIED {
            let few = self.known < TRIED / LEAST_KNOWN;
            self.pause = if few { PAUSE } else { 0 };
            (self.tried, self.known) = (0, 0);
        }
        self.pause == 0
    }

    /// Steps over the part that came next the last time after the same parts, if that is what stands here, and says
    /// whether it did.
    pub(super) fn guess(&mut self, trail: Trail, reader: &mut Reader<'_>) -> bool {
        let guess = self.guesses.get(trail.0).copied().unwrap_or_default();
        let is_here = self.slots.get(guess).is_some_and(|slot| slot.is_known() && reader.take(&slot.written));
        if is_here {
            self.latest = guess;
            self.tried += 1;
            self.known += 1;
        }
        is_here
    }

    /// Looks for a part, as it is written, and says whether it is known what it decides.
    pub(super) fn find(&mut self, written: &str) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS + 1, Slot::default());
            self.guesses.resize(SLOTS, 0);
        }
        self.tried += 1;
        self.latest = if written.len() <= MAX_WRITTEN_BYTES { slot_of(written) } else { SLOTS };
        let is_known = self.slots[self.latest].written == written;
        self.known += u32::from(is_known);
        is_known
    }

    /// Notes that the part that was looked for last came after others.
    pub(super) fn follow(&mut self, trail: &mut Trail) {
        if let Some(guess) = self.guesses.get_mut(trail.0) {
            *guess = self.latest;
        }
        trail.0 = (trail.0 * 31 + self.latest + 1) % SLOTS;
    }

    /// What the part decides that was looked for last.
    pub(super) fn effects(&self) -> &Effects {
        &self.slots[self.latest].effects
    }

    /// Room for what that part decides.
    pub(super) fn forget(&mut self) -> Effects {
        let slot = &mut self.slots[self.latest];
        slot.written.clear();
        let mut effects = std::mem::take(&mut slot.effects);
        effects.clear();
        effects
    }

    /// What that part decides. If it is too much, it is only known until the next part is looked for.
    pub(super) fn learn(&mut self, written: &str, effects: Effects) {
        if !effects.is_small() {
            self.latest = SLOTS;
        }
        let slot = &mut self.slots[self.latest];
        slot.effects = effects;
        if self.latest < SLOTS {
            slot.written.push_str(written);
        }
    }
}

impl Slot {
    fn is_known(&self) -> bool {
        !self.written.is_empty()
    }
}

/// Where what a part decides is remembered.
fn slot_of(written: &str) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(written.as_bytes());
    usize::try_from(hasher.finish() % SLOTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atom(written: &str) -> AtomId {
        AtomId::try_from(written.len()).unwrap()
    }

    /// Looks for a part and learns what it decides if that is not known; says whether it was.
    fn look(parts: &mut Parts, written: &str) -> bool {
        let is_known = parts.find(written);
        if !is_known {
            let mut effects = parts.forget();
            effects.mark(atom(written));
            effects.keep(7, &written[..1]);
            effects.learn(Hot::Code, Scalar::Number("200"));
            parts.learn(written, effects);
        }
        check(parts, written);
        is_known
    }

    fn check(parts: &Parts, written: &str) {
        let effects = parts.effects();
        assert_eq!(effects.atoms().collect::<Vec<_>>(), [atom(written)]);
        assert_eq!(effects.values().collect::<Vec<_>>(), [(7, &written[..1])]);
        assert!(matches!(effects.facts().next(), Some((Hot::Code, Scalar::Number("200")))));
    }

    #[test]
    fn what_is_remembered_is_what_was_decided() {
        let mut parts = Parts::default();
        let written = |number: usize| format!("{{\"name\":\"{}\"}}", "x".repeat(number % 500));
        let known = (0..3_000).filter(|number| look(&mut parts, &written(*number))).count();
        assert!((300..2_500).contains(&known), "{known}");
        assert!(!look(&mut parts, "once") && look(&mut parts, "once"));
        let long = "x".repeat(MAX_WRITTEN_BYTES + 1);
        assert!(!look(&mut parts, &long) && !look(&mut parts, &long));
    }

    #[test]
    fn what_decides_too_much_or_was_given_up_is_not_remembered() {
        let mut parts = Parts::default();
        assert!(!parts.find("many"));
        let mut effects = parts.forget();
        (0..=MAX_ATOMS).for_each(|_| effects.mark(1));
        parts.learn("many", effects);
        assert_eq!(parts.effects().atoms().count(), MAX_ATOMS + 1);
        assert!(!look(&mut parts, "many") && look(&mut parts, "many"));
        assert!(!parts.find("broken"));
        parts.forget().mark(1);
        assert!(!look(&mut parts, "broken"));
    }

    #[test]
    fn what_came_next_the_last_time_is_guessed() {
        let mut places = [Parts::default(), Parts::default()];
        let mut read = |written: [&str; 2]| {
            let mut trail = Trail::default();
            let guessed = places.iter_mut().zip(written).filter_map(|(parts, written)| {
                let mut reader = Reader::new(written);
                let guessed = parts.guess(trail, &mut reader);
                assert_eq!(reader.position(), if guessed { written.len() } else { 0 });
                if guessed {
                    check(parts, written)
                } else {
                    _ = look(parts, written)
                }
                parts.follow(&mut trail);
                guessed.then_some(())
            });
            guessed.count()
        };
        let clients = [["\"ann\"", "\"allowed\""], ["\"bob\"", "\"because of a binding\""]];
        assert_eq!(clients.map(&mut read), [0, 0]);
        assert_eq!(clients.map(&mut read), [1, 1], "the reason is known by who asks");
        assert_eq!(read(clients[1]), 2);
        assert_eq!(read(["\"bob\"", "\"because of another\""]), 1);
    }

    #[test]
    fn parts_that_are_always_new_are_not_looked_for() {
        let mut parts = Parts::default();
        let mut looked = 0;
        for number in 0..100_000 {
            if parts.is_worth_while() {
                looked += 1;
                look(&mut parts, &number.to_string());
            }
        }
        assert!((256..8_000).contains(&looked), "{looked}");
        let looked = (0..100_000)
            .filter(|_| {
                parts.is_worth_while() && {
                    look(&mut parts, "same");
                    true
                }
            })
            .count();
        assert!(looked > 90_000, "{looked}");
    }
}
