//! Which atoms are true in an event.

use crate::compile::AtomId;

/// Marks atoms and lists them, so that marks are taken back without a look at the others.
pub(super) struct Marks {
    truth: Bits,
    /// The atoms that are true, of those decided while the event was read.
    pub(super) hits: Vec<AtomId>,
    /// The atoms that turned out to be true later.
    late_hits: Vec<AtomId>,
}

impl Marks {
    pub(super) fn new(atoms: usize) -> Self {
        Self { truth: Bits::new(atoms), hits: Vec::new(), late_hits: Vec::new() }
    }

    #[inline]
    pub(super) fn holds(&self, atom: AtomId) -> bool {
        self.truth.holds(atom)
    }

    /// An atom is true, as is found while the event is read.
    #[inline]
    pub(super) fn set(&mut self, atom: AtomId) {
        if self.truth.set(atom) {
            self.hits.push(atom);
        }
    }

    /// An atom turns out to be true later.
    pub(super) fn set_late(&mut self, atom: AtomId) {
        if self.truth.set(atom) {
            self.late_hits.push(atom);
        }
    }

    /// All atoms that are true.
    pub(super) fn all(&self) -> impl Iterator<Item = AtomId> {
        self.hits.iter().chain(&self.late_hits).copied()
    }

    pub(super) fn clear(&mut self) {
        self.truth.clear(self.hits.iter().chain(&self.late_hits));
        self.hits.clear();
        self.late_hits.clear();
    }
}

/// One bit for each atom, or for each rule, so that all of them stay in the fastest cache.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    #[inline]
    fn holds(&self, at: u32) -> bool {
        self.0[at as usize / 64] >> (at % 64) & 1 != 0
    }

    /// Says whether the bit was not set before.
    #[inline]
    pub(super) fn set(&mut self, at: u32) -> bool {
        let word = &mut self.0[at as usize / 64];
        let bit = 1 << (at % 64);
        let before = *word & bit;
        *word |= bit;
        before == 0
    }

    /// Clears all bits, given those that are set.
    pub(super) fn clear<'a>(&mut self, set: impl Iterator<Item = &'a u32>) {
        set.for_each(|at| self.0[*at as usize / 64] = 0);
    }
}
