//! The groups of one correlation, by their keys and in the order of their latest use.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use watchbell_event::EventId;

use super::fields::Value;
use super::novelty::Novelty;
use super::snapshot::write_group;
use super::watermark::Lane;
use super::window::Window;
use super::wire::Writer;

/// Memory of one group beyond what it holds, in bytes.
const GROUP_BYTES: usize = size_of::<Slot>() + size_of::<Neighbours>() + 64;

/// What makes a group: the lane and the values of the fields to group by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) lane: Lane,
    pub(crate) values: Vec<Value>,
}

impl Scope {
    fn bytes(&self) -> usize {
        self.values.iter().map(|value| 32 + value.as_ref().map_or(0, |value| value.len())).sum()
    }
}

/// A group's key: a hash over the rule, the lane and the values to group by, each with its length, so that no
/// sender can make two groups one.
pub(crate) fn group_key<'v>(
    rule: &'v str,
    lane: &'v Lane,
    values: impl Iterator<Item = Option<&'v str>>,
) -> EventId {
    let kind = if lane.history { "history" } else { "" };
    let parts = [rule, &lane.cluster, kind].into_iter().map(Some);
    EventId::from_hash(&hash_of(parts.chain(values)))
}

/// A hash over values that are counted together.
pub(crate) fn hash_of_values<'v>(values: impl Iterator<Item = Option<&'v str>>) -> u128 {
    u128::from_le_bytes(EventId::from_hash(&hash_of(values)).0)
}

/// A hash over parts, each with its length before it. They are put together first: they are short, and a hasher that is
/// fed piece by piece takes longer for its bookkeeping.
fn hash_of<'v>(parts: impl Iterator<Item = Option<&'v str>>) -> blake3::Hash {
    let mut bytes = Vec::with_capacity(256);
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    blake3::hash(&bytes)
}

/// What a group holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Window(Window),
    Novelty(Novelty),
}

/// One group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) scope: Arc<Scope>,
    pub(crate) content: Content,
}

impl Group {
    pub(crate) fn bytes(&self) -> usize {
        GROUP_BYTES + self.scope.bytes() + self.content.bytes()
    }
}

impl Group {
    /// The time of the first entry that waits for the watermark.
    pub(super) fn waits_since(&self) -> Option<i64> {
        match &self.content {
            Content::Window(window) => window.waits_since(),
            Content::Novelty(_) => None,
        }
    }
}

impl Content {
    /// Memory beyond the group itself, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Window(window) => window.bytes(),
            Self::Novelty(novelty) => novelty.bytes(),
        }
    }
}

#[derive(Clone, Debug)]
struct Slot {
    key: EventId,
    group: Group,
    /// When it was used last, in uses of any group.
    used: u64,
    /// The copy that it is in or need not be in.
    copied_by: u32,
    /// How many groups were added before it; their number may wrap around.
    number: u32,
}

/// Where a group stands. It is found there without a search, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    slot: u32,
    number: u32,
}

/// Neighbours of a slot in the order of use. They are apart from the slots because every use of a group changes those
/// of its neighbours, which so stay in a fast cache.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbours {
    older: Option<u32>,
    newer: Option<u32>,
}

/// A copy of all groups as they were at one moment. It is made in parts, while they go on changing: a group that is
/// about to change is copied before.
#[derive(Clone, Debug, Default)]
struct Copying {
    /// Slots from here to `end` are still to be copied, but for those that were before.
    next: usize,
    end: usize,
    copied: Copied,
}

/// A copy of groups, in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Copied {
    pub(super) count: usize,
    pub(super) bytes: Writer,
}

/// Groups by their keys. Finding, adding and removing one costs the same however many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    uses: u64,
    /// How many copies were begun.
    copies: u32,
    /// How many groups were added; the number may wrap around.
    added: u32,
    copying: Option<Copying>,
    by_key: FxHashMap<EventId, u32>,
    slots: Vec<Option<Slot>>,
    /// For each slot.
    neighbours: Vec<Neighbours>,
    free: Vec<u32>,
    oldest: Option<u32>,
    newest: Option<u32>,
}

impl Groups {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// A group, without changing the order of use.
    pub(crate) fn get_mut(&mut self, key: &EventId) -> Option<&mut Group> {
        let slot = *self.by_key.get(key)?;
        self.copy_before_change(slot);
        self.slot_mut(Some(slot)).map(|slot| &mut slot.group)
    }

    /// A group and its key, without changing the order of use; none if it is not there any more.
    pub(super) fn at(&mut self, place: Place) -> Option<(EventId, &mut Group)> {
        self.copy_before_change(place.slot);
        let slot = self.slot_mut(Some(place.slot)).filter(|slot| slot.number == place.number)?;
        Some((slot.key, &mut slot.group))
    }

    /// A group becomes the latest used. Says where it is.
    pub(super) fn touch(&mut self, key: &EventId) -> Option<Place> {
        let slot = *self.by_key.get(key)?;
        self.copy_before_change(slot);
        self.uses += 1;
        let used = self.uses;
        let found = self.slot_mut(Some(slot))?;
        found.used = used;
        let number = found.number;
        if self.newest != Some(slot) {
            self.unlink(slot);
            self.link_newest(slot);
        }
        Some(Place { slot, number })
    }

    /// Adds a group that is not there yet, as the latest used.
    pub(super) fn insert(&mut self, key: EventId, group: Group) -> Option<Place> {
        self.uses += 1;
        self.added = self.added.wrapping_add(1);
        let (used, copied_by, number) = (self.uses, self.copies, self.added);
        let slot = Slot { key, group, used, copied_by, number };
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(None);
                self.neighbours.push(Neighbours::default());
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        *self.slots.get_mut(index as usize)? = Some(slot);
        self.by_key.insert(key, index);
        self.link_newest(index);
        Some(Place { slot: index, number })
    }

    /// The group that was not used for longest.
    pub(crate) fn oldest(&self) -> Option<(EventId, &Group)> {
        let slot = self.slots.get(self.oldest? as usize)?.as_ref()?;
        Some((slot.key, &slot.group))
    }

    /// Takes a group out.
    pub(crate) fn remove(&mut self, key: &EventId) -> Option<Group> {
        let index = self.by_key.remove(key)?;
        self.copy_before_change(index);
        self.unlink(index);
        self.free.push(index);
        self.slots.get_mut(index as usize)?.take().map(|slot| slot.group)
    }

    /// Takes out the groups that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Group) -> bool) -> Vec<Group> {
        let unwanted: Vec<EventId> =
            self.iter().filter(|(_, group)| !keep(group)).map(|(key, _)| key).collect();
        unwanted.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// All groups, the one not used for longest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EventId, &Group)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let index = next? as usize;
            let slot = self.slots.get(index)?.as_ref()?;
            next = self.neighbours.get(index)?.newer;
            Some((slot.key, &slot.group))
        })
    }

    /// All groups and where they are, in no order.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, &Group)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(slot, group)| {
            let group = group.as_ref()?;
            Some((Place { slot, number: group.number }, &group.group))
        })
    }

    /// Begins a copy of all groups as they are now, in place of one that is not done.
    pub(super) fn begin_copy(&mut self) {
        self.copies = self.copies.wrapping_add(1);
        self.copying = Some(Copying { end: self.slots.len(), ..Copying::default() });
    }

    /// Gives up the copy.
    pub(super) fn cancel_copy(&mut self) {
        self.copying = None;
    }

    /// Goes on with the copy, a whole group at a time, until about so many bytes were copied or passed over, and
    /// returns how many.
    pub(super) fn copy(&mut self, most_bytes: usize) -> usize {
        let Some(copying) = &mut self.copying else { return 0 };
        let before = copying.copied.bytes.0.len();
        let mut passed = 0;
        while copying.next < copying.end && copying.copied.bytes.0.len() - before + passed < most_bytes {
            // Passing an empty slot takes time, too.
            passed += size_of::<EventId>();
            if let Some(Some(slot)) = self.slots.get_mut(copying.next) {
                copying.copied.add(slot, self.copies);
            }
            copying.next += 1;
        }
        copying.copied.bytes.0.len() - before + passed
    }

    /// The copy, if it is done.
    pub(super) fn take_copy(&mut self) -> Option<Copied> {
        self.copying.take_if(|copying| copying.next >= copying.end).map(|copying| copying.copied)
    }

    fn copy_before_change(&mut self, slot: u32) {
        let (Some(copying), slot) = (&mut self.copying, slot as usize) else { return };
        if let (true, Some(Some(slot))) =
            ((copying.next..copying.end).contains(&slot), self.slots.get_mut(slot))
        {
            copying.copied.add(slot, self.copies);
        }
    }

    fn slot_mut(&mut self, index: Option<u32>) -> Option<&mut Slot> {
        self.slots.get_mut(index? as usize)?.as_mut()
    }

    fn neighbours_of(&mut self, index: Option<u32>) -> Option<&mut Neighbours> {
        self.neighbours.get_mut(index? as usize)
    }

    fn unlink(&mut self, index: u32) {
        let Some(Neighbours { older, newer }) = self.neighbours_of(Some(index)).map(std::mem::take) else {
            return;
        };
        match self.neighbours_of(older) {
            Some(neighbours) => neighbours.newer = newer,
            None => self.oldest = newer,
        }
        match self.neighbours_of(newer) {
            Some(neighbours) => neighbours.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, index: u32) {
        let older = self.newest.replace(index);
        if let Some(neighbours) = self.neighbours_of(Some(index)) {
            *neighbours = Neighbours { older, newer: None };
        }
        match self.neighbours_of(older) {
            Some(neighbours) => neighbours.newer = Some(index),
            None => self.oldest = Some(index),
        }
    }
}

#[cfg(test)]
impl Place {
    pub(super) fn of(slot: u32, number: u32) -> Self {
        Self { slot, number }
    }
}

impl Copied {
    fn add(&mut self, slot: &mut Slot, copy: u32) {
        if std::mem::replace(&mut slot.copied_by, copy) != copy {
            self.count += 1;
            write_group(&mut self.bytes, slot.key, slot.used, &slot.group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::novelty::Novelty;

    fn key(number: u8) -> EventId {
        EventId([number; 16])
    }

    fn order(groups: &Groups) -> Vec<u8> {
        groups.iter().map(|(key, _)| key.0[0]).collect()
    }

    #[test]
    fn groups_stand_in_the_order_of_their_latest_use() {
        let mut groups = Groups::default();
        let scope =
            Arc::new(Scope { lane: Lane { cluster: "c".into(), history: false }, values: vec![None] });
        let group = Group { scope, content: Content::Novelty(Novelty::default()) };
        assert!((1..=4).all(|number| groups.insert(key(number), group.clone()).is_some()));
        groups.touch(&key(2));
        groups.touch(&key(2));
        assert_eq!(order(&groups), [1, 3, 4, 2]);
        assert!(groups.remove(&key(3)).is_some() && groups.remove(&key(3)).is_none());
        groups.insert(key(5), group);
        groups.touch(&key(1));
        assert_eq!(order(&groups), [4, 2, 5, 1]);
        assert_eq!((groups.len(), groups.oldest().map(|(key, _)| key.0[0])), (4, Some(4)));
        for number in [4, 2, 5, 1] {
            groups.remove(&key(number));
        }
        assert_eq!(order(&groups), [0; 0]);
        assert!(groups.touch(&key(1)).is_none());
    }

    #[test]
    fn values_with_other_borders_make_other_groups() {
        let lane = Lane { cluster: "c".into(), history: false };
        let key = |values: &[Option<&str>]| group_key("r", &lane, values.iter().copied());
        let keys = [
            key(&[Some("a"), Some("b")]),
            key(&[Some("ab"), Some("")]),
            key(&[Some("ab"), None]),
            key(&[None, Some("ab")]),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
