//! Atoms: the tests of all rules, each kept once however many rules share it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::RuleSet;
use super::field::FieldIndex;
use crate::formula::{Bodies, Check, Field, Reference, Test};
use crate::pattern::Pattern;

/// Index of an atom in its set.
pub(crate) type AtomId = u32;
/// Index of a field in its set.
pub(crate) type FieldId = u32;

/// A test that rules share.
#[derive(Debug)]
pub(crate) struct Atom {
    /// What is tested.
    pub(crate) test: Arc<Test>,
    /// The index of its field.
    pub(crate) field: FieldId,
    /// The field whose values it is compared to.
    pub(crate) other: Option<FieldId>,
    /// For conditions on members of an array: what must hold for a member.
    pub(crate) members: Option<Arc<RuleSet>>,
    /// The parts of the event it needs and that policy may leave out.
    pub(crate) bodies: Bodies,
    /// When it is decided.
    pub(crate) timing: Timing,
}

/// When an atom is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// While the event is read, because rules are found by it.
    Always,
    /// When a rule that may still match asks, together with the others of its field.
    OnDemand,
    /// When a rule that may still match asks, on its own: no look-up decides it.
    Alone,
}

impl Timing {
    /// When a test is decided, as long as no rule is found by it.
    pub(super) fn of(test: &Test) -> Self {
        match &test.check {
            _ if matches!(test.field, Field::Derived(_)) => Self::Alone,
            Check::Outside(_)
            | Check::Expression(_)
            | Check::Reference(_)
            | Check::Members(_)
            | Check::Folded(Pattern::Glob(_))
            | Check::Cased(Pattern::Glob(_)) => Self::Alone,
            Check::Exists | Check::Null | Check::Any => Self::Always,
            Check::Folded(_) | Check::Cased(_) | Check::Compare(..) | Check::Network(_) | Check::Time(..) => {
                Self::OnDemand
            }
        }
    }
}

/// What of a value has to be looked up to decide a check.
#[derive(PartialEq, Eq, Hash)]
enum Lookup {
    Whole,
    Parts,
    Number,
    Address,
    Moment,
    Nothing,
}

impl Lookup {
    fn of(check: &Check) -> Self {
        match check {
            Check::Folded(Pattern::Exact(_)) | Check::Cased(Pattern::Exact(_)) => Self::Whole,
            Check::Folded(_) | Check::Cased(_) => Self::Parts,
            Check::Compare(..) => Self::Number,
            Check::Network(_) => Self::Address,
            Check::Time(..) => Self::Moment,
            _ => Self::Nothing,
        }
    }
}

/// Gives equal tests equal ids.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) atoms: Vec<Atom>,
    ids: HashMap<Arc<Test>, AtomId>,
    fields: HashMap<Field, FieldId>,
    /// Fields whose values are kept, whatever the tests.
    kept: Vec<FieldId>,
}

impl Table {
    /// A table in which tests have their ids in this order.
    pub(super) fn of(tests: &[Arc<Test>]) -> Self {
        let mut table = Self::default();
        for test in tests {
            table.intern(test);
        }
        table
    }

    /// The id of a test.
    pub(crate) fn intern(&mut self, test: &Arc<Test>) -> AtomId {
        if let Some(&id) = self.ids.get(test) {
            return id;
        }
        let id = index(self.atoms.len());
        let field = self.field(&test.field);
        let other = match &test.check {
            Check::Reference(Reference { other, .. }) => Some(self.field(other)),
            _ => None,
        };
        let members = match &test.check {
            Check::Members(members) => Some(Arc::new(RuleSet::of_member(&members.body))),
            _ => None,
        };
        self.atoms.push(Atom {
            test: test.clone(),
            field,
            other,
            members,
            bodies: test.bodies(),
            timing: Timing::of(test),
        });
        self.ids.insert(test.clone(), id);
        id
    }

    /// The ids of fields by which correlations group and count, where there is one; their values are kept.
    pub(super) fn keep<'n>(&mut self, names: impl Iterator<Item = Option<&'n str>>) -> Vec<Option<FieldId>> {
        // No event has a field whose name is none.
        let fields = names.map(|name| Field::path(name?).ok());
        let ids: Vec<_> = fields.map(|field| field.map(|field| self.field(&field))).collect();
        self.kept.extend(ids.iter().flatten());
        ids
    }

    fn field(&mut self, field: &Field) -> FieldId {
        let next = index(self.fields.len());
        *self.fields.entry(field.clone()).or_insert(next)
    }

    /// Decides these atoms while the event is read, and with them all others that the same look-ups decide.
    pub(super) fn decide_always(&mut self, atoms: impl Iterator<Item = AtomId>) {
        let look_up = |atom: &Atom| (atom.field, Lookup::of(&atom.test.check));
        let look_ups: HashSet<_> = atoms.map(|atom| look_up(&self.atoms[atom as usize])).collect();
        for atom in self.atoms.iter_mut().filter(|atom| atom.timing == Timing::OnDemand) {
            if look_ups.contains(&look_up(atom)) {
                atom.timing = Timing::Always;
            }
        }
    }

    /// All fields, in the order of their ids.
    pub(crate) fn fields(&self) -> Vec<(FieldId, &Field)> {
        let mut fields: Vec<_> = self.fields.iter().map(|(field, &id)| (id, field)).collect();
        fields.sort_unstable_by_key(|(id, _)| *id);
        fields
    }

    /// For each field, what its values decide.
    pub(crate) fn field_indexes(&self) -> Vec<FieldIndex> {
        let mut by_field: Vec<Vec<(AtomId, &Atom)>> = vec![Vec::new(); self.fields.len()];
        for (id, atom) in self.atoms.iter().enumerate() {
            by_field[atom.field as usize].push((index(id), atom));
        }
        let mut indexes: Vec<_> = by_field.iter().map(|atoms| FieldIndex::new(atoms)).collect();
        for other in self.atoms.iter().filter_map(|atom| atom.other).chain(self.kept.iter().copied()) {
            indexes[other as usize].keeps_values = true;
        }
        indexes
    }
}

/// A position as an id. Limits on loading keep sets far below four billion of anything.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
