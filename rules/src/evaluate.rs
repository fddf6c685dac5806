//! Runs a compiled set over one event after the other.
//!
//! One pass over the event's bytes marks the atoms that are true; then the rules that a true atom points to
//! are decided. Other marks carry the number of the event they were made for. So nothing is cleared between
//! events but the atoms that were true, and nothing is done per rule. Parts of events that repeat are not read
//! again (`parts`).

mod document;
mod learn;
mod marks;
mod members;
mod memo;
pub(crate) mod naive;
mod parts;
mod scan;
mod script;
mod starving;

use std::sync::Arc;

use watchbell_event::Format;

use crate::compile::{Atom, AtomId, FieldId, NodeId, Programs, RuleSet, Sign, Step, Timing, index};
use crate::formula::{Bodies, Check, Field, MAX_COMPARED_VALUES, Reference};
use crate::json::Malformed;
use crate::text::fold;

use learn::Learning;
use marks::{Bits, Marks};
use memo::Memo;
use parts::{Parts, Trail};
use script::Script;
use starving::NotEvaluable;

pub use scan::MAX_DEPTH;

/// Memory that is kept from one event to the next for the texts of its values, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// The marks of one thread; the set is shared.
pub struct Evaluator {
    set: Arc<RuleSet>,
    event: Event,
    /// The rules that were looked at for this event.
    seen: Bits,
    seen_rules: Vec<u32>,
    /// Number of the last event for which each field's atoms were decided on demand.
    demanded: Vec<u32>,
    /// Number of the last event of which all values were read, for keywords.
    read_again: u32,
    /// What is known about atoms that are decided alone.
    decided: Vec<Decided>,
    not_evaluable: NotEvaluable,
    /// For atoms about members of arrays, what decides a member.
    members: Vec<Option<Box<Evaluator>>>,
    /// The event as a document, for what is derived from it.
    document: document::Document,
    /// Runs the rules that look at log lines.
    logs: Option<Box<Evaluator>>,
    /// The format of the latest event.
    latest: Format,
    candidates: u64,
    learning: Learning,
    /// Scratch space.
    buffer: String,
    scratch: String,
}

/// What the pass over one event leaves.
struct Event {
    /// Which event this is; never 0.
    number: u32,
    marks: Marks,
    values: Values,
    /// Whole values, as JSON, of fields with conditions on their members.
    arrays: Values,
    /// For each field, what its values decided in earlier events.
    memos: Vec<Memo>,
    facts: scan::Facts,
    missing: Bodies,
    /// For each place, the keys that are expected there.
    scripts: Vec<Script>,
    /// For each place of the event itself, what lately seen values decided.
    parts: Vec<Parts>,
    /// Which of them came so far.
    trail: Trail,
}

/// The values of fields that have atoms which are not decided while the event is read.
#[derive(Default)]
struct Values {
    text: String,
    items: Vec<Item>,
    /// For each field, its latest value, and the event in which that was.
    latest: Vec<(u32, u32)>,
}

/// One value.
struct Item {
    range: std::ops::Range<usize>,
    /// The value before it of the same field.
    previous: Option<u32>,
}

/// An atom's truth, in the event of this number.
#[derive(Clone, Copy, Default)]
struct Decided {
    number: u32,
    holds: bool,
}

impl Evaluator {
    /// Prepares to run a set.
    #[must_use]
    pub fn new(set: Arc<RuleSet>) -> Self {
        let atoms = set.atoms.len();
        let rules = set.conditions.len();
        let member = |atom: &Atom| atom.members.clone().map(|set| Box::new(Self::new(set)));
        Self {
            members: set.atoms.iter().map(member).collect(),
            event: Event::new(atoms, set.fields.len(), set.paths.len()),
            demanded: vec![0; set.fields.len()],
            read_again: 0,
            seen: Bits::new(rules),
            seen_rules: Vec::new(),
            decided: vec![Decided::default(); atoms],
            not_evaluable: NotEvaluable::new(&set),
            document: document::Document::default(),
            logs: set.logs.clone().map(|logs| Box::new(Self::new(logs))),
            latest: Format::KubernetesAudit,
            candidates: 0,
            learning: Learning::new(atoms),
            buffer: String::new(),
            scratch: String::new(),
            set,
        }
    }

    /// The set it runs.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.set
    }

    /// As [`Self::matches`], for an event of this format: rules see only events of the format they are written for.
    pub fn matches_of(&mut self, format: Format, event: &[u8], matches: &mut Vec<usize>) -> bool {
        if format != Format::Log {
            return self.matches(event, matches);
        }
        matches.clear();
        self.latest = format;
        self.logs.as_mut().is_none_or(|logs| logs.matches(event, matches))
    }

    /// Puts the indexes of all rules that match an audit event, a JSON object, into `matches`, lowest first.
    /// What is not a JSON object matches nothing; then the answer is false.
    pub fn matches(&mut self, event: &[u8], matches: &mut Vec<usize>) -> bool {
        matches.clear();
        self.latest = Format::KubernetesAudit;
        self.next_event();
        let read = std::str::from_utf8(event).is_ok_and(|text| self.scan(text).is_ok());
        if read {
            if self.set.reads_again() {
                self.document.begin(event);
            }
            self.event.missing = self.event.facts.missing_bodies();
            self.decide_candidates(matches);
            self.count_not_evaluable(matches);
            matches.sort_unstable();
            self.learn();
        }
        read
    }

    /// How many rules were looked at so far, over all events. The others cost nothing.
    #[must_use]
    pub fn candidates(&self) -> u64 {
        self.candidates
    }

    /// The values that the latest event has in a field that correlations read, given by its number in their plan;
    /// the last one first. The text of values that are not empty.
    pub(crate) fn counted(&self, field: usize) -> impl Iterator<Item = &str> {
        let evaluator = self.logs.as_deref().filter(|_| self.latest == Format::Log).unwrap_or(self);
        let field = evaluator.set.counted.get(field).copied().flatten();
        let values = field.map(|field| evaluator.event.values.of(field, evaluator.event.number));
        values.into_iter().flatten().filter(|text| !text.is_empty())
    }

    fn next_event(&mut self) {
        self.event.marks.clear();
        self.seen.clear(self.seen_rules.iter());
        self.seen_rules.clear();
        self.event.trail = Trail::default();
        self.event.values.clear();
        self.event.arrays.clear();
        self.event.facts.clear();
        self.event.number = self.event.number.wrapping_add(1);
        if self.event.number == 0 {
            // Marks of four billion events ago would count again.
            self.event.values.latest.fill((0, 0));
            self.event.arrays.latest.fill((0, 0));
            self.demanded.fill(0);
            self.read_again = 0;
            self.decided.fill(Decided::default());
            self.not_evaluable.forget_marks();
            self.event.number = 1;
        }
    }

    fn scan(&mut self, text: &str) -> Result<(), Malformed> {
        scan::scan(&self.set, text, &mut self.event, &mut self.buffer, &mut self.scratch)
    }

    fn decide_candidates(&mut self, matches: &mut Vec<usize>) {
        let set = self.set.clone();
        let hits = std::mem::take(&mut self.event.marks.hits);
        for &atom in &hits {
            for candidate in set.plan.candidates.of(atom) {
                if candidate.guard.passes(|atom| self.is_marked(atom)) {
                    self.decide(&set, candidate.rule, matches);
                }
            }
        }
        for &rule in &set.plan.always {
            self.decide(&set, rule, matches);
        }
        self.event.marks.hits = hits;
    }

    fn decide(&mut self, set: &RuleSet, rule: u32, matches: &mut Vec<usize>) {
        if !self.seen.set(rule) {
            return;
        }
        self.seen_rules.push(rule);
        self.candidates += 1;
        if self.holds(set, &set.conditions, rule) {
            matches.push(rule as usize);
        }
    }

    /// Whether a condition holds for certain: what is not known counts against it. As `not` stands only
    /// before atoms, this is "true" of three-valued logic.
    fn holds(&mut self, set: &RuleSet, conditions: &Programs, number: u32) -> bool {
        self.step(set, conditions, conditions.start(number)).0
    }

    /// Decides the step at a place, and says where the next one is.
    fn step(&mut self, set: &RuleSet, conditions: &Programs, at: u32) -> (bool, u32) {
        let (step, end) = conditions.step(at);
        let holds = match step {
            Step::Marked(atom, sign) => self.is_marked(atom) == (sign == Sign::Positive),
            Step::Atom(atom, sign) => {
                self.is_true(set, atom) == (sign == Sign::Positive) && self.is_known(set, atom)
            }
            Step::All(_) => self.parts(set, conditions, at + 1, end, true),
            Step::Any(_) => self.parts(set, conditions, at + 1, end, false),
        };
        (holds, end)
    }

    /// Decides the parts from one place to another until one of them differs from `until`.
    fn parts(&mut self, set: &RuleSet, conditions: &Programs, mut at: u32, end: u32, until: bool) -> bool {
        while at < end {
            let (holds, next) = self.step(set, conditions, at);
            if holds != until {
                return holds;
            }
            at = next;
        }
        until
    }

    fn is_marked(&self, atom: AtomId) -> bool {
        self.event.marks.holds(atom)
    }

    fn is_known(&self, set: &RuleSet, id: AtomId) -> bool {
        !set.atoms[id as usize].bodies.meets(self.event.missing)
    }

    fn is_true(&mut self, set: &RuleSet, id: AtomId) -> bool {
        let atom = &set.atoms[id as usize];
        match atom.timing {
            Timing::Always => {}
            Timing::OnDemand => self.demand(set, atom.field),
            Timing::Alone => return self.decide_alone(set, id),
        }
        self.is_marked(id)
    }

    /// Reads all values of the event, once, if that was put off and a condition on this field needs it.
    fn read_again_for(&mut self, set: &RuleSet, field: FieldId) {
        let is_put_off = set.anywhere.is_some_and(|anywhere| anywhere.on_demand && anywhere.field == field);
        if !is_put_off || std::mem::replace(&mut self.read_again, self.event.number) == self.event.number {
            return;
        }
        let Self { document, event, buffer, scratch, .. } = self;
        // The same bytes were read without a mistake before.
        let _ = scan::scan_anywhere(set, document.text(), event, buffer, scratch);
    }

    /// Decides the atoms of a field that were put off, once per event.
    fn demand(&mut self, set: &RuleSet, field: FieldId) {
        self.read_again_for(set, field);
        let Event { number, marks, values, .. } = &mut self.event;
        let demanded = &mut self.demanded[field as usize];
        if std::mem::replace(demanded, *number) == *number {
            return;
        }
        let index = &set.fields[field as usize];
        for text in values.of(field, *number) {
            index.text_on_demand(text, &mut self.buffer, &mut |atom| marks.set_late(atom));
        }
    }

    fn decide_alone(&mut self, set: &RuleSet, id: AtomId) -> bool {
        let atom = &set.atoms[id as usize];
        let number = self.event.number;
        let decided = self.decided[id as usize];
        if decided.number == number {
            return decided.holds;
        }
        self.read_again_for(set, atom.field);
        let values = &self.event.values;
        let holds = match (&atom.test.field, &atom.test.check) {
            (_, Check::Members(members)) => self.members[id as usize].as_mut().is_some_and(|evaluator| {
                members::any_array(self.event.arrays.of(atom.field, number), members.which, evaluator)
            }),
            (_, Check::Reference(reference)) => {
                atom.other.is_some_and(|other| values.compare(reference, atom.field, other, number))
            }
            (Field::Derived(derived), check) => {
                let mut texts = self.document.values(atom.field, derived).iter();
                texts.any(|text| check.holds_for(text, &mut self.buffer))
            }
            (_, check) => {
                let mut texts = values.of(atom.field, number);
                texts.any(|text| check.holds_for(text, &mut self.buffer))
            }
        };
        self.decided[id as usize] = Decided { number, holds };
        holds
    }
}

impl Event {
    fn new(atoms: usize, fields: usize, places: usize) -> Self {
        Self {
            scripts: std::iter::repeat_with(Script::default).take(places).collect(),
            number: 0,
            marks: Marks::new(atoms),
            parts: std::iter::repeat_with(Parts::default).take(places).collect(),
            trail: Trail::default(),
            values: Values { latest: vec![(0, 0); fields], ..Values::default() },
            arrays: Values { latest: vec![(0, 0); fields], ..Values::default() },
            memos: std::iter::repeat_with(Memo::default).take(fields).collect(),
            facts: scan::Facts::default(),
            missing: Bodies::default(),
        }
    }

    /// Adds what the part at a place decides that was looked for last.
    fn apply(&mut self, place: NodeId, for_facets: bool) {
        let Self { number, marks, values, arrays, facts, parts, trail, .. } = self;
        let parts = &mut parts[place as usize];
        parts.follow(trail);
        let effects = parts.effects();
        effects.atoms().for_each(|atom| marks.set(atom));
        effects.values().for_each(|(field, text)| values.add(field, *number, text));
        effects.arrays().for_each(|(field, text)| arrays.add(field, *number, text));
        effects.facts().for_each(|(hot, value)| facts.learn(hot, value, for_facets));
    }
}

impl Values {
    /// Forgets all values; what one large event needed is not kept for the next.
    fn clear(&mut self) {
        self.text.clear();
        self.items.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.items.shrink_to(KEPT_BYTES / size_of::<Item>());
    }

    fn add(&mut self, field: FieldId, number: u32, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        let latest = &mut self.latest[field as usize];
        let previous = (latest.0 == number).then_some(latest.1);
        *latest = (number, index(self.items.len()));
        self.items.push(Item { range: start..self.text.len(), previous });
    }

    fn of(&self, field: FieldId, number: u32) -> impl Iterator<Item = &str> {
        let latest = self.latest[field as usize];
        let mut next = (latest.0 == number).then_some(latest.1);
        std::iter::from_fn(move || {
            let item = &self.items[next? as usize];
            next = item.previous;
            Some(&self.text[item.range.clone()])
        })
    }
}

impl Values {
    /// Whether a value of `field` compares so to one of `other`.
    fn compare(&self, reference: &Reference, field: FieldId, other: FieldId, number: u32) -> bool {
        let values = |field| {
            let texts = self.of(field, number).take(MAX_COMPARED_VALUES);
            texts.map(|text| if reference.cased { text.to_owned() } else { fold(text) }).collect::<Vec<_>>()
        };
        let (values, others) = (values(field), values(other));
        values.iter().any(|value| others.iter().any(|other| reference.place.holds(value, other)))
    }
}

#[cfg(test)]
mod falco_tests;
#[cfg(test)]
mod tests;
