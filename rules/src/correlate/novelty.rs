//! What one group of a `new_value` correlation has seen: each value with the time it was seen last.

use rustc_hash::FxHashMap;

/// Most values of one group. Those not seen for longest go first, and that is counted.
pub(crate) const MAX_VALUES: usize = 65_536;
/// Memory of one value, in bytes, with what a hash table keeps free.
const VALUE_BYTES: usize = 48;
/// With fewer values, nothing is gained by forgetting.
const FEW_VALUES: usize = 64;

/// The values of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Novelty {
    /// When the first event of the group happened; learning begins there.
    pub(super) began: Option<i64>,
    pub(super) last_seen: FxHashMap<u128, i64>,
    pub(super) newest: i64,
    /// So many values are looked through for old ones when there are twice as many.
    forgot_at: usize,
}

impl Novelty {
    /// From what a snapshot holds.
    pub(super) fn restore(began: Option<i64>, newest: i64, last_seen: FxHashMap<u128, i64>) -> Self {
        let forgot_at = last_seen.len();
        Self { began, last_seen, newest, forgot_at }
    }

    /// Sees a value. True if it was not seen for the timespan and the group has learned long enough; and how
    /// many values went for want of room.
    pub(crate) fn see(&mut self, value: u128, time: i64, span: i64, warm_up: i64, floor: i64) -> (bool, u64) {
        let evicted = self.make_room(span, floor);
        let began = *self.began.get_or_insert(time);
        self.began = Some(began.min(time));
        self.newest = self.newest.max(time);
        let last_seen = self.last_seen.entry(value).or_insert(i64::MIN);
        let is_new = *last_seen < time.saturating_sub(span);
        *last_seen = (*last_seen).max(time);
        (is_new && time.saturating_sub(began) >= warm_up, evicted)
    }

    /// Whether every value is forgotten once no event comes before `floor`.
    pub(crate) fn is_over(&self, span: i64, floor: i64) -> bool {
        self.newest < floor.saturating_sub(span)
    }

    /// Memory beyond itself, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.last_seen.capacity() * VALUE_BYTES
    }

    /// Forgets a quarter of the values, those not seen for longest. Returns how many.
    pub(crate) fn drop_quarter(&mut self) -> u64 {
        let mut times: Vec<i64> = self.last_seen.values().copied().collect();
        let middle = times.len() / 4;
        if times.is_empty() {
            return 0;
        }
        let (_, oldest_kept, _) = times.select_nth_unstable(middle);
        let (oldest_kept, before) = (*oldest_kept, self.last_seen.len());
        self.last_seen.retain(|_, seen| *seen > oldest_kept);
        self.last_seen.shrink_to_fit();
        self.forgot_at = self.last_seen.len();
        (before - self.last_seen.len()) as u64
    }

    fn make_room(&mut self, span: i64, floor: i64) -> u64 {
        if self.last_seen.len() < FEW_VALUES.max(2 * self.forgot_at).min(MAX_VALUES) {
            return 0;
        }
        let reach = floor.saturating_sub(span);
        self.last_seen.retain(|_, seen| *seen >= reach);
        self.forgot_at = self.last_seen.len();
        if self.last_seen.len() >= MAX_VALUES { self.drop_quarter() } else { 0 }
    }
}
