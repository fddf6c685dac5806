//! What the values of one field decide: each value makes atoms true by look-ups, whatever their number.

mod edges;
mod networks;
mod texts;
mod words;

use rustc_hash::FxHashMap;
use watchbell_event::predicate::Number;

use self::edges::{Edge, Edges};
use self::networks::Networks;
use self::texts::Texts;
use self::words::Words;
use super::atoms::{Atom, AtomId, Timing};
use crate::formula::{Check, Order, address, exact_number};
use crate::moment::{self, Unit};
use crate::pattern::Pattern;
use crate::text::folded;

/// Up to so many patterns are tried one after the other; more of them are found by look-ups.
const FEW_PATTERNS: usize = 4;

/// The atoms of one field, by what makes them true.
#[derive(Default)]
pub(crate) struct FieldIndex {
    exists: Option<AtomId>,
    null: Option<AtomId>,
    any: Option<AtomId>,
    always: TextChecks,
    /// Seldom needed, and so apart: a set has many fields, and each is looked at in every event.
    on_demand: Box<TextChecks>,
    /// Some atoms are not decided while the event is read, so its values are kept.
    pub(crate) keeps_values: bool,
    /// Looking a value up takes longer than remembering what it decided.
    pub(crate) is_dear: bool,
    /// Nothing is looked up while the event is read.
    has_no_texts: bool,
}

impl FieldIndex {
    pub(super) fn new(atoms: &[(AtomId, &Atom)]) -> Self {
        let mut index = Self::default();
        for &(id, atom) in atoms {
            index.keeps_values |= atom.timing != Timing::Always && atom.members.is_none();
            match &atom.test.check {
                _ if atom.timing == Timing::Alone => {}
                Check::Exists => index.exists = Some(id),
                Check::Null => index.null = Some(id),
                Check::Any => index.any = Some(id),
                check => match atom.timing {
                    Timing::Always => index.always.add(check, id),
                    Timing::OnDemand => index.on_demand.add(check, id),
                    Timing::Alone => {}
                },
            }
        }
        index.always.finish();
        index.on_demand.finish();
        index.is_dear = index.always.is_dear();
        index.has_no_texts = index.always.is_empty();
        index
    }

    /// The field is there, as an array.
    pub(crate) fn array(&self, mark: &mut impl FnMut(AtomId)) {
        self.exists.into_iter().for_each(mark);
    }

    /// The field is there, as an object.
    pub(crate) fn object(&self, mark: &mut impl FnMut(AtomId)) {
        self.exists.into_iter().chain(self.any).for_each(mark);
    }

    /// The field is null.
    pub(crate) fn null(&self, mark: &mut impl FnMut(AtomId)) {
        self.exists.into_iter().chain(self.null).for_each(mark);
    }

    /// The field has a value of this text. `buffer` is scratch space.
    #[inline]
    pub(crate) fn text(&self, text: &str, buffer: &mut String, mark: &mut impl FnMut(AtomId)) {
        self.exists.into_iter().chain(self.any).for_each(&mut *mark);
        if !self.has_no_texts {
            self.always.find(text, buffer, mark);
        }
    }

    /// Decides what was put off: the field has a value of this text.
    pub(crate) fn text_on_demand(&self, text: &str, buffer: &mut String, mark: &mut impl FnMut(AtomId)) {
        self.on_demand.find(text, buffer, mark);
    }
}

/// Atoms that the text of a value decides.
#[derive(Default)]
struct TextChecks {
    folded: TextIndex,
    /// Few fields have others.
    others: Option<Box<OtherChecks>>,
}

/// Atoms that the text decides as it is written, or by what it means.
#[derive(Default)]
struct OtherChecks {
    cased: TextIndex,
    compare: Vec<Thresholds>,
    networks: Networks,
    times: FxHashMap<(Unit, i16), AtomId>,
}

impl TextChecks {
    fn add(&mut self, check: &Check, atom: AtomId) {
        match check {
            Check::Folded(pattern) => self.folded.add(pattern, atom),
            Check::Cased(pattern) => self.others().cased.add(pattern, atom),
            Check::Compare(order, threshold) => {
                Thresholds::add(&mut self.others().compare, *order, *threshold, atom);
            }
            Check::Network(network) => self.others().networks.add(*network, atom),
            Check::Time(unit, number) => {
                self.others().times.insert((*unit, *number), atom);
            }
            Check::Exists
            | Check::Null
            | Check::Any
            | Check::Expression(_)
            | Check::Outside(_)
            | Check::Reference(_)
            | Check::Members(_) => {}
        }
    }

    fn others(&mut self) -> &mut OtherChecks {
        self.others.get_or_insert_default()
    }

    fn finish(&mut self) {
        self.folded.finish();
        if let Some(others) = &mut self.others {
            others.compare.iter_mut().for_each(Thresholds::sort);
            others.networks.finish();
            others.cased.finish();
        }
    }

    fn is_empty(&self) -> bool {
        self.folded.is_empty() && self.others.is_none()
    }

    fn is_dear(&self) -> bool {
        let dear = |others: &OtherChecks| others.cased.tables.is_some() || !others.networks.is_empty();
        self.folded.tables.is_some() || self.others.as_deref().is_some_and(dear)
    }

    #[inline]
    fn find(&self, text: &str, buffer: &mut String, mark: &mut impl FnMut(AtomId)) {
        if self.folded.may_find(text) {
            self.folded.find(folded(text, buffer), mark);
        }
        if let Some(others) = &self.others {
            others.find(text, mark);
        }
    }
}

impl OtherChecks {
    fn find(&self, text: &str, mark: &mut impl FnMut(AtomId)) {
        if !self.cased.is_empty() {
            self.cased.find(text, mark);
        }
        if !self.compare.is_empty()
            && let Some(number) = exact_number(text)
        {
            self.compare.iter().for_each(|thresholds| thresholds.find(number, mark));
        }
        if !self.networks.is_empty()
            && let Some(address) = address(text)
        {
            self.networks.find(address, mark);
        }
        if !self.times.is_empty()
            && let Some(parts) = moment::parts(text)
        {
            parts.iter().filter_map(|part| self.times.get(part)).for_each(|atom| mark(*atom));
        }
    }
}

/// Atoms that are decided by text.
#[derive(Default)]
struct TextIndex {
    exact: Texts,
    /// Bit n is set if some exact text has n bytes; the last bit stands for all longer ones.
    exact_lengths: u64,
    patterns: Vec<(Pattern, AtomId)>,
    tables: Option<Box<Tables>>,
}

impl TextIndex {
    fn add(&mut self, pattern: &Pattern, atom: AtomId) {
        match pattern {
            Pattern::Exact(text) => {
                self.exact_lengths |= length_bit(text);
                self.exact.add(text, atom);
            }
            _ => self.patterns.push((pattern.clone(), atom)),
        }
    }

    fn finish(&mut self) {
        self.exact.finish();
        if self.patterns.len() > FEW_PATTERNS {
            let (tables, rest) = Tables::new(std::mem::take(&mut self.patterns));
            (self.tables, self.patterns) = (Some(Box::new(tables)), rest);
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.patterns.is_empty() && self.tables.is_none()
    }

    /// False if no atom holds, however `text` is folded.
    fn may_find(&self, text: &str) -> bool {
        let only_exact = self.patterns.is_empty() && self.tables.is_none();
        // Folding changes the length only of what is not ASCII.
        !only_exact
            || self.exact_lengths & length_bit(text) != 0
            || (self.exact_lengths != 0 && !text.is_ascii())
    }

    fn find(&self, text: &str, mark: &mut impl FnMut(AtomId)) {
        if self.exact_lengths & length_bit(text) != 0 {
            self.exact.get(text).into_iter().for_each(&mut *mark);
        }
        for (pattern, atom) in &self.patterns {
            if pattern.matches(text) {
                mark(*atom);
            }
        }
        if let Some(tables) = &self.tables {
            tables.beginnings.find(text, mark);
            tables.ends.find(text, mark);
            tables.words.find(text, mark);
        }
    }
}

/// One bit of 64 for the length of a text.
pub(super) fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

/// Finds all beginnings, ends and parts of a text, whatever their number.
struct Tables {
    beginnings: Edges,
    ends: Edges,
    words: Words,
}

impl Tables {
    /// What no table takes is returned.
    fn new(patterns: Vec<(Pattern, AtomId)>) -> (Self, Vec<(Pattern, AtomId)>) {
        let (mut beginnings, mut ends, mut words, mut rest) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (pattern, atom) in patterns {
            match pattern {
                Pattern::Prefix(word) => beginnings.push((word.into(), atom)),
                Pattern::Suffix(word) => ends.push((word.into(), atom)),
                Pattern::Contains(word) => words.push((word.into(), atom)),
                Pattern::Any | Pattern::Exact(_) | Pattern::Glob(_) => rest.push((pattern, atom)),
            }
        }
        let (words, too_many) = Words::new(words);
        rest.extend(too_many);
        let beginnings = Edges::new(Edge::Beginning, beginnings.into_iter());
        let ends = Edges::new(Edge::End, ends.into_iter());
        (Self { beginnings, ends, words }, rest)
    }
}

/// Thresholds of one order, those that hold most easily first.
struct Thresholds {
    order: Order,
    atoms: Vec<(Number, AtomId)>,
}

impl Thresholds {
    fn add(all: &mut Vec<Self>, order: Order, threshold: Number, atom: AtomId) {
        match all.iter_mut().find(|thresholds| thresholds.order == order) {
            Some(thresholds) => thresholds.atoms.push((threshold, atom)),
            None => all.push(Self { order, atoms: vec![(threshold, atom)] }),
        }
    }

    fn sort(&mut self) {
        self.atoms.sort_by(|(a, _), (b, _)| a.compare(*b));
        if matches!(self.order, Order::Less | Order::LessOrEqual) {
            self.atoms.reverse();
        }
    }

    fn find(&self, value: Number, mark: &mut impl FnMut(AtomId)) {
        let holding = self.atoms.iter().take_while(|(threshold, _)| self.order.holds(value, *threshold));
        holding.for_each(|(_, atom)| mark(*atom));
    }
}
