//! Room in a full table (`early_drop` in the kernel): a connection near the newcomer's place in the index gives way.
//!
//! Places of connections that have ended and wait for the sweep are taken first ([`super::departed`]): nobody gives way as long as there is
//! one, and nobody who is ASSURED while some are about to be free.
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
/// Numbers that are tried at a time in the search for a connection that has ended.
const TRIES: usize = 32;

/// What became of the search for room. Its entry is the asking worker's as soon as nobody else looks at it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // nothing is allocated on this way, and it is taken apart at once
pub enum Room {
    /// The place of a connection that had ended before.
    Reclaimed,
    /// This connection gave way.
    Evicted(ConnectionView),
    /// All that are near are spared, or enough entries wait already.
    None,
}

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
    /// Finds a place for a newcomer whose tuple has this hash: that of a connection that has ended, of which `closed` is told as by
    /// [`super::Conntrack::sweep`], or else near the newcomer's place that of one that gives way. `hoard`'s owner can use it once nobody else looks
    /// at it any more.
    #[cold]
    #[inline(never)]
    pub fn early_drop(
        &self,
        hoard: &mut Hoard,
        hash: u64,
        spared: Spared,
        (now, timeouts): (Millis, &TimeoutPolicy),
        closed: &mut dyn FnMut(&ConnectionView),
    ) -> Room {
        if !hoard.limbo.has_room(self.capacity()) {
            return Room::None;
        }
        if let Some(number) = self.reclaim(timeouts, closed) {
            hoard.limbo.reclaim(number);
            return Room::Reclaimed;
        }
        // Free in a moment, or a place of this worker's own: nothing that is ASSURED gives way meanwhile.
        let is_expected = hoard.limbo.has_reclaimed() || self.departed.count() > 0;
        let most = match spared {
            _ if is_expected => Class::Unassured,
            Spared::Established => Class::Closing,
            Spared::Nobody => Class::Established,
        };
        let mut near = self.numbers_near(hash, 0..BUCKETS).inspect(|number| prefetch(self.entry(*number)));
        loop {
            let candidates: ArrayVec<u32, CANDIDATES> = near.by_ref().take(CANDIDATES).collect();
            if candidates.is_empty() {
                return Room::None;
            }
            let Some((number, seen)) = self.victim(&candidates, most, now) else { continue };
            // Where its state changes at this moment it is not silent: others are tried.
            if self.entry(number).change_state(seen, seen.taken_out()).is_ok() {
                let evicted = self.view(number, timeouts);
                self.unlink(number);
                hoard.limbo.push(number);
                return Room::Evicted(evicted);
            }
        }
    }

    /// Takes a connection that has ended out of the table. The number of its entry.
    fn reclaim(&self, timeouts: &TimeoutPolicy, closed: &mut dyn FnMut(&ConnectionView)) -> Option<u32> {
        for _ in 0..TRIES {
            let number = self.departed.pop()?;
            let entry = self.entry(number);
            let seen = entry.state();
            // Else the sweep was here before, and it may be in use again. Nothing else changes the state of one that has ended.
            if seen.has_ended() && entry.change_state(seen, seen.taken_out()).is_ok() {
                self.unlink(number);
                if !seen.is_abandoned() {
                    self.settle_account(seen, &self.view(number, timeouts), closed);
                }
                self.departed.left(1);
                return Some(number);
            }
        }
        None
    }

    /// Who of these gives way first, and in which state that was found.
    fn victim(&self, near: &[u32], most: Class, now: Millis) -> Option<(u32, State)> {
        let candidates = near.iter().filter_map(|number| {
            let entry = self.entry(*number);
            let state = entry.state();
            let class = class(state);
            let may_go = state.is_live() && class <= most;
            may_go.then(|| ((class, Reverse(entry.silence(now))), (*number, state)))
        });
        candidates.min_by_key(|(rank, _)| *rank).map(|(_, victim)| victim)
    }
}
