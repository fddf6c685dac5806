//! The entries of one group in the order of time, and the windows over them. A window ends at an entry and
//! holds all entries that lie at most the timespan before it.

use std::collections::VecDeque;
use std::sync::Arc;

use watchbell_event::{EventId, Position};

use super::aggregate::Aggregate;
use super::decisive;
use super::engine::EventRef;
use super::fields::Value;
use super::model::{Correlation, Kind};
use super::reach::Reach;

/// Most entries of one group. The oldest go first, and that is counted.
pub(crate) const MAX_ENTRIES: usize = 65_536;
/// The same where the values are kept in order.
pub(crate) const MAX_ORDERED_ENTRIES: usize = 10_000;

/// With fewer entries, nothing is gained by looking for those that are not needed.
const FEW_ENTRIES: u32 = 16;
/// Where windows are quiet, old entries go when so many came.
const FORGET_EVERY: usize = 16;
/// Least number of entries between two looks for whether windows are quiet.
const LOOK_AGAIN_IN: u32 = 8;

/// One match of a rule that a correlation refers to. There are many, and each is looked at when it is long out of the
/// fast caches; so it fills one line of a cache, and no more.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Entry {
    /// When it happened, in microseconds since the epoch.
    pub(crate) time: i64,
    /// Where the event stands in the log.
    partition: u32,
    offset: u64,
    /// Which event it was.
    pub(crate) event: EventId,
    counted: [u8; 16],
    /// Which of the rules referred to matched.
    pub(crate) member: u16,
    /// What only chains of correlations need.
    pub(crate) chained: Option<Arc<Chained>>,
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry must fill one line of a cache");

/// What a correlation hands to one above it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chained {
    /// Values of fields that a correlation above reads.
    pub(crate) carried: Vec<Value>,
    /// The events behind the match.
    pub(crate) events: Vec<EventRef>,
    /// How many more there were.
    pub(crate) beyond: u64,
}

impl Entry {
    /// Of an event that counts for nothing but itself.
    pub(crate) fn new(event: &EventRef, member: u16) -> Self {
        let Position { partition, offset } = event.position;
        let time = event.time.as_micros();
        Self { time, partition, offset, event: event.id, counted: [0; 16], member, chained: None }
    }

    /// The same, counting for this: a hash of the counted values, or the number in units.
    pub(crate) fn counting(self, counted: u128) -> Self {
        Self { counted: counted.to_ne_bytes(), ..self }
    }

    /// Hash of the counted values, or the number in units.
    pub(crate) fn counted(&self) -> u128 {
        u128::from_ne_bytes(self.counted)
    }

    /// Where the event stands in the log.
    pub(crate) fn position(&self) -> Position {
        Position { partition: self.partition, offset: self.offset }
    }

    /// The counted number.
    #[expect(clippy::cast_possible_truncation, reason = "it was made from 64 bits")]
    pub(crate) fn units(&self) -> i64 {
        self.counted() as u64 as i64
    }

    /// How a number is kept.
    #[expect(clippy::cast_sign_loss, reason = "only the bits matter")]
    pub(crate) fn number(units: i64) -> u128 {
        u128::from(units as u64)
    }

    /// Events of one time are ordered by their places in the log.
    pub(super) fn order(&self) -> (i64, Position, u16) {
        (self.time, self.position(), self.member)
    }

    fn bytes(&self) -> usize {
        self.chained.as_ref().map_or(0, |chained| chained.bytes())
    }
}

impl Chained {
    fn bytes(&self) -> usize {
        let texts = self.carried.iter().flatten().map(|text| text.len() + 32).sum::<usize>();
        128 + texts + self.events.len() * size_of::<EventRef>()
    }
}

/// The condition held: in the window of the entries `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hit {
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// The number reached.
    pub(crate) value: f64,
}

/// The entries of one group.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(super) entries: VecDeque<Entry>,
    /// The first entry of the window that ends at the last decided one.
    pub(super) start: usize,
    /// The first entry that waits to be decided.
    pub(super) next: usize,
    /// Of the entries from `start` to before `next`; of all entries while windows are quiet. Then nothing is decided.
    aggregate: Aggregate,
    /// When so many more entries came, all of them are looked at for whether windows are quiet.
    look_in: u32,
    /// With so many entries, those that are not needed are looked for.
    prune_at: u32,
    /// When windows ended of which alerts were made; ascending in no order that matters.
    pub(super) fired: Vec<i64>,
    chained_bytes: usize,
}

impl Window {
    /// Without entries.
    pub(crate) fn new(rule: &Correlation) -> Self {
        Self {
            entries: VecDeque::new(),
            start: 0,
            next: 0,
            aggregate: match Reach::new(rule).filter(|_| !rule.is_immediate()) {
                Some(reach) => Aggregate::Quiet(reach),
                None => Aggregate::new(rule),
            },
            look_in: LOOK_AGAIN_IN,
            prune_at: FEW_ENTRIES,
            fired: Vec::new(),
            chained_bytes: 0,
        }
    }

    /// From what a snapshot holds.
    pub(super) fn restore(
        rule: &Correlation,
        entries: VecDeque<Entry>,
        start: usize,
        next: usize,
        fired: Vec<i64>,
    ) -> Self {
        let chained_bytes = entries.iter().map(Entry::bytes).sum();
        let mut window = Self { entries, start, next, fired, chained_bytes, ..Self::new(rule) };
        if !window.is_quiet() || !window.look(None, rule) {
            window.rebuild(rule);
        }
        window
    }

    /// Adds an entry and decides at once the windows it belongs to. `floor` is a time before which no entry
    /// comes any more, and an alert lists at most `listed` entries. Returns how many old entries went for want of room, and the window that fires.
    pub(crate) fn insert(
        &mut self,
        entry: Entry,
        rule: &Correlation,
        floor: i64,
        listed: usize,
    ) -> (u64, Option<Hit>) {
        let evicted = self.make_room(rule);
        self.forget(rule, floor.min(entry.time));
        self.prune(rule, floor, listed);
        let newest = self.entries.back().map_or(i64::MIN, |entry| entry.time);
        let (time, at) = (entry.time, self.place(entry));
        self.next = self.entries.len();
        if at + 1 == self.entries.len() {
            let hit = self.extend_to(at, time, rule);
            return (evicted, hit.filter(|_| self.fire(time, rule)));
        }
        if time < newest.saturating_sub(rule.span_micros) {
            self.start += 1;
        } else if let Some(entry) = self.entries.get(at)
            && !self.aggregate.add_among(entry, rule)
        {
            self.rebuild(rule);
        }
        let hit = self.search(at, time, rule);
        let ended = hit.and_then(|hit| self.entries.get(hit.last)).map(|entry| entry.time);
        (evicted, hit.filter(|_| ended.is_some_and(|ended| self.fire(ended, rule))))
    }

    /// Adds an entry that is decided later. Returns how many old entries went for want of room.
    pub(crate) fn put(&mut self, entry: Entry, rule: &Correlation, floor: i64, listed: usize) -> u64 {
        self.watch(&entry, rule, floor.min(entry.time));
        let evicted = self.make_room(rule);
        self.prune(rule, floor, listed);
        self.place(entry);
        evicted
    }

    /// Decides the next windows that end before `watermark`, up to the first that fires. To be called until
    /// it returns nothing.
    pub(crate) fn decide(&mut self, rule: &Correlation, watermark: i64) -> Option<Hit> {
        // Nothing before the window is needed any more.
        for _ in 0..self.start {
            self.drop_oldest();
        }
        self.fired.drain(..self.fired.len().saturating_sub(1));
        while let Some(time) = self.waits_since().filter(|time| *time < watermark) {
            let mut hit = None;
            while self.entries.get(self.next).is_some_and(|entry| entry.time == time) {
                hit = self.extend_to(self.next, time, rule);
                self.next += 1;
            }
            if hit.is_some() && self.fire(time, rule) {
                return hit;
            }
        }
        None
    }

    /// The time of the first entry that waits to be decided. In quiet windows, none does.
    pub(crate) fn waits_since(&self) -> Option<i64> {
        self.entries.get(self.next).filter(|_| !self.is_quiet()).map(|entry| entry.time)
    }

    /// Whether nothing here can matter any more once no entry comes before `floor`.
    pub(crate) fn is_over(&self, rule: &Correlation, floor: i64) -> bool {
        let reach = floor.saturating_sub(rule.span_micros);
        let newest = self.entries.back().is_none_or(|entry| entry.time < reach);
        newest && self.waits_since().is_none() && self.fired.iter().all(|ended| *ended < reach)
    }

    /// Drops the oldest quarter of the entries, and at least one. Returns how many.
    pub(crate) fn drop_quarter(&mut self) -> u64 {
        let count = self.entries.len().div_ceil(4);
        (0..count).for_each(|_| self.drop_oldest());
        self.entries.shrink_to_fit();
        count as u64
    }

    /// The entries of a window that fired, but for those that were dropped because they make no difference.
    pub(crate) fn of(&self, hit: Hit) -> Vec<&Entry> {
        self.entries.iter().take(hit.last + 1).skip(hit.first).collect()
    }

    /// Memory beyond the window itself, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.aggregate.bytes()
            + self.fired.capacity() * 8
            + self.chained_bytes
    }

    fn is_quiet(&self) -> bool {
        matches!(self.aggregate, Aggregate::Quiet(_))
    }

    /// Before an entry is added that is decided later: sees whether windows are quiet with it.
    fn watch(&mut self, entry: &Entry, rule: &Correlation, floor: i64) {
        self.look_in = self.look_in.saturating_sub(1);
        let mut is_quiet = false;
        if let Aggregate::Quiet(reach) = &mut self.aggregate {
            reach.add(entry, rule.kind);
            is_quiet = !reach.may_hold(rule);
            let count = self.entries.len();
            if count == self.entries.capacity() || count.is_multiple_of(FORGET_EVERY) {
                self.forget(rule, floor);
            }
        }
        if !is_quiet && self.look_in == 0 {
            self.forget(rule, floor);
            is_quiet = self.look(Some(entry), rule);
        }
        if !is_quiet && self.is_quiet() {
            self.wake(rule, floor);
        }
    }

    /// Looks at all entries, and one to come, for whether windows over them are quiet; then they are from now on.
    fn look(&mut self, next: Option<&Entry>, rule: &Correlation) -> bool {
        let Some(mut reach) = Reach::new(rule) else { return false };
        self.look_in = LOOK_AGAIN_IN.max(small(self.entries.len() / 2));
        self.entries.iter().chain(next).for_each(|entry| reach.add(entry, rule.kind));
        let is_quiet = !reach.may_hold(rule);
        if is_quiet {
            (self.start, self.next, self.aggregate) = (0, 0, Aggregate::Quiet(reach));
        }
        is_quiet
    }

    /// Windows are not quiet any more. All that end before `floor` were, and count as decided.
    fn wake(&mut self, rule: &Correlation, floor: i64) {
        self.next = self.entries.partition_point(|entry| entry.time < floor);
        let decided = self.next.checked_sub(1).and_then(|last| self.entries.get(last));
        let began = decided.map_or(i64::MIN, |last| last.time.saturating_sub(rule.span_micros));
        self.start = self.entries.partition_point(|entry| entry.time < began);
        self.rebuild(rule);
    }

    /// Moves the window so that it ends at an entry.
    fn extend_to(&mut self, at: usize, time: i64, rule: &Correlation) -> Option<Hit> {
        self.aggregate.add(self.entries.get(at)?, rule);
        let began = time.saturating_sub(rule.span_micros);
        while let Some(entry) = self.entries.get(self.start).filter(|entry| entry.time < began) {
            self.aggregate.remove(entry);
            self.start += 1;
        }
        let value = self.aggregate.holds(rule, began)?;
        Some(Hit { first: self.start, last: at, value })
    }

    /// Looks for the first window that holds the entry `at` and fires. For entries that came after later
    /// ones: the cost is that of the windows around it.
    fn search(&self, at: usize, time: i64, rule: &Correlation) -> Option<Hit> {
        let end = time.saturating_add(rule.span_micros);
        let newest = self.entries.back().map_or(time, |entry| entry.time).min(end);
        if self.fired.iter().any(|ended| newest <= ended.saturating_add(rule.span_micros) && *ended <= end) {
            return None;
        }
        let began = time.saturating_sub(rule.span_micros);
        let mut first = self.entries.partition_point(|entry| entry.time < began);
        let mut aggregate = Aggregate::new(rule);
        for (last, entry) in self.entries.iter().enumerate().skip(first) {
            if entry.time > end {
                break;
            }
            aggregate.add(entry, rule);
            let began = entry.time.saturating_sub(rule.span_micros);
            while let Some(entry) = self.entries.get(first).filter(|entry| entry.time < began) {
                aggregate.remove(entry);
                first += 1;
            }
            let is_last_of_its_time = self.entries.get(last + 1).is_none_or(|next| next.time > entry.time);
            if last < at || !is_last_of_its_time || self.overlaps(entry.time, rule) {
                continue;
            }
            if let Some(value) = aggregate.holds(rule, began) {
                return Some(Hit { first, last, value });
            }
        }
        None
    }

    /// Whether a window that ends at `time` shares a moment with one of which an alert was made.
    fn overlaps(&self, time: i64, rule: &Correlation) -> bool {
        self.fired.iter().any(|ended| time.abs_diff(*ended) <= rule.span_micros.unsigned_abs())
    }

    /// Notes an alert; false if it would overlap an earlier one.
    fn fire(&mut self, time: i64, rule: &Correlation) -> bool {
        let fires = !self.overlaps(time, rule);
        if fires {
            self.fired.push(time);
        }
        fires
    }

    /// Puts an entry where it belongs.
    fn place(&mut self, entry: Entry) -> usize {
        self.chained_bytes += entry.bytes();
        let is_newest = self.entries.back().is_none_or(|newest| newest.order() <= entry.order());
        let at = match is_newest {
            true => self.entries.len(),
            false => self.entries.partition_point(|other| other.order() <= entry.order()),
        };
        if self.entries.len() == self.entries.capacity() {
            // Half of what is there, where the standard library would double it.
            self.entries.reserve_exact(with_half(self.entries.len()).max(4) - self.entries.len());
        }
        self.entries.insert(at, entry);
        at
    }

    /// Drops what no window that is still to come can hold.
    fn forget(&mut self, rule: &Correlation, floor: i64) {
        let reach = floor.saturating_sub(rule.span_micros);
        while self.entries.front().is_some_and(|entry| entry.time < reach) {
            self.drop_oldest();
        }
        self.fired.retain(|ended| *ended >= reach);
        if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Drops what was decided and can make no difference to a window that ends at `floor` or later, nor is among
    /// the latest `listed` entries of it. That is done when there are half as many entries again as were left the
    /// last time, so that the cost per entry stays constant.
    fn prune(&mut self, rule: &Correlation, floor: i64, listed: usize) {
        if self.entries.len() < (self.prune_at as usize).max(listed) || !decisive::drops(rule.kind) {
            return;
        }
        let decided = self.entries.partition_point(|entry| entry.time < floor).min(self.next);
        let needed = decisive::needed(self.entries.range(..decided), rule, listed);
        let mut at = 0;
        let (mut start, mut next) = (self.start, self.next);
        let Self { entries, aggregate, chained_bytes, .. } = self;
        entries.retain(|entry| {
            let unneeded = needed.get(at) == Some(&false);
            if unneeded {
                next -= 1;
                *chained_bytes = chained_bytes.saturating_sub(entry.bytes());
                if at < self.start { start -= 1 } else { aggregate.remove(entry) }
            }
            at += 1;
            !unneeded
        });
        (self.start, self.next) = (start, next);
        self.prune_at = FEW_ENTRIES.max(small(with_half(self.entries.len())));
        self.entries.shrink_to(self.prune_at as usize);
    }

    fn make_room(&mut self, rule: &Correlation) -> u64 {
        let most = match rule.kind {
            Kind::Percentile(_) | Kind::Median => MAX_ORDERED_ENTRIES,
            _ => MAX_ENTRIES,
        };
        let surplus = (self.entries.len() + 1).saturating_sub(most);
        (0..surplus).for_each(|_| self.drop_oldest());
        surplus as u64
    }

    fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.chained_bytes = self.chained_bytes.saturating_sub(entry.bytes());
        if self.next == 0 {
            return;
        }
        self.next -= 1;
        match self.start.checked_sub(1) {
            Some(start) => self.start = start,
            None => self.aggregate.remove(&entry),
        }
    }

    fn rebuild(&mut self, rule: &Correlation) {
        self.aggregate = Aggregate::new(rule);
        let decided = self.entries.iter().take(self.next).skip(self.start);
        decided.for_each(|entry| self.aggregate.add(entry, rule));
    }
}

/// There are never so many entries that their number does not fit.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn with_half(count: usize) -> usize {
    count + count / 2
}
