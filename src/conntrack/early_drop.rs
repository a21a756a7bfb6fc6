//! Room in a full table (`early_drop` in the kernel): a connection near the newcomer's place in the index gives way.
//!
//! As in the kernel the search is bounded and done by whoever needs the room. Those that are not ASSURED go first, which is what a flood
//! consists of; then those that are closing; established ones only if the config says so. Among equals the one that was silent for longest
//! goes. With sixteen to choose from, every neighbourhood is nearly a queue: one that was opened a moment ago has the time to
//! become ASSURED, so handshakes succeed during a flood (docs/conntrack.md says how many).

use super::entry::State;
use super::family::Family;
use super::free_list::Hoard;
use super::prefetch::prefetch;
use super::table::Table;
use super::{ConnectionView, Millis, TimeoutPolicy, l4proto};
use arrayvec::ArrayVec;
use std::cmp::Reverse;

/// Who does not give way, however full the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spared {
    /// Established connections.
    #[default]
    Established,
    /// Nobody: `evict_established = true`.
    Nobody,
}

/// Buckets of the index that are looked into (`NF_CT_EVICTION_RANGE` of the kernel, whose are smaller). They hold 34 connections of a full
/// table on average.
const BUCKETS: usize = if cfg!(feature = "loom") { 6 } else { 16 };
/// Connections of which one is chosen. Only if all of them are spared the next so many are looked at.
const CANDIDATES: usize = 16;

/// In the order in which they give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Unassured,
    Closing,
    Established,
}

fn class(state: State) -> Class {
    match state {
        _ if !state.has(State::ASSURED) => Class::Unassured,
        _ if l4proto::can_early_drop(state) => Class::Closing,
        _ => Class::Established,
    }
}

impl<F: Family> Table<F> {
    /// Ends a connection near the place of a tuple with this hash, so that `hoard`'s owner can use its entry once nobody else looks at it
    /// any more. The connection as it was; `None`: all that are near are spared, or enough entries wait already.
    #[cold]
    #[inline(never)]
    pub fn early_drop(
        &self,
        hoard: &mut Hoard,
        hash: u64,
        spared: Spared,
        now: Millis,
        timeouts: &TimeoutPolicy,
    ) -> Option<ConnectionView> {
        if !hoard.limbo.has_room(self.capacity()) {
            return None;
        }
        let mut near = self.numbers_near(hash, 0..BUCKETS).inspect(|number| prefetch(self.entry(*number)));
        loop {
            let candidates: ArrayVec<u32, CANDIDATES> = near.by_ref().take(CANDIDATES).collect();
            if candidates.is_empty() {
                return None;
            }
            let Some((number, seen)) = self.victim(&candidates, spared, now) else { continue };
            // Where its state changes at this moment it is not silent: others are tried.
            if self.entry(number).change_state(seen, seen.evicted()).is_ok() {
                let evicted = self.view(number, timeouts);
                self.unlink(number);
                hoard.limbo.push(number);
                return Some(evicted);
            }
        }
    }

    /// Who of these gives way first, and in which state that was found.
    fn victim(&self, near: &[u32], spared: Spared, now: Millis) -> Option<(u32, State)> {
        let candidates = near.iter().filter_map(|number| {
            let entry = self.entry(*number);
            let state = entry.state();
            let class = class(state);
            let may_go = state.is_live() && (class < Class::Established || spared == Spared::Nobody);
            may_go.then(|| ((class, Reverse(entry.silence(now))), (*number, state)))
        });
        candidates.min_by_key(|(rank, _)| *rank).map(|(_, victim)| victim)
    }
}
