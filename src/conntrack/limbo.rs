//! Entries that a worker took out of a full table, until it may use them itself: of connections that had ended, or that gave way.
//!
//! Others may still be looking at such an entry, so it waits as long as one that the control thread removed: until everyone who is
//! inside entered after it was taken out of the index (see [`super::quiescence`]). It stays with the worker that took it: that worker
//! needs it, and nothing shared is touched.

use std::collections::VecDeque;

/// Most entries that one worker keeps so: as many as it may need while the others finish their bursts.
const MOST: usize = 256;

/// Evicted entries of one worker and one table.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    /// Taken out of the index since the last stamp.
    unstamped: Vec<u32>,
    /// With the time at which they were retired, oldest first.
    waiting: VecDeque<(u64, u32)>,
    /// To be used.
    ready: Vec<u32>,
    /// Of all of them, places that were free but for the waiting: nobody gave way for them, and nobody needs to until they are used.
    reclaimed: usize,
}

impl Limbo {
    /// Whether one more may be evicted from a table for `capacity` connections: a small one must not end up in here.
    pub(super) fn has_room(&self, capacity: usize) -> bool {
        self.unstamped.len() + self.waiting.len() + self.ready.len() < (capacity / 16).clamp(1, MOST)
    }

    /// An entry that nobody finds any more.
    pub(super) fn push(&mut self, number: u32) {
        if self.unstamped.capacity() == 0 {
            // Once in the life of a worker; from then on nothing is allocated.
            for room in [&mut self.unstamped, &mut self.ready] {
                room.reserve_exact(MOST);
            }
            self.waiting.reserve_exact(MOST);
        }
        self.unstamped.push(number);
    }

    /// As [`Limbo::push`], of a connection that had ended before.
    pub(super) fn reclaim(&mut self, number: u32) {
        self.push(number);
        self.reclaimed += 1;
    }

    /// Whether there is a place here that nobody gave way for.
    pub(super) fn has_reclaimed(&self) -> bool {
        self.reclaimed > 0
    }

    /// An entry to be used.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let number = self.ready.pop()?;
        self.reclaimed = self.reclaimed.saturating_sub(1);
        Some(number)
    }

    /// Whether [`Limbo::settle`] has something to do.
    #[inline(always)]
    pub(super) fn is_waiting(&self) -> bool {
        !self.unstamped.is_empty() || !self.waiting.is_empty()
    }

    /// What was evicted up to now is retired at `now`; what was retired before `oldest` is ready.
    pub(super) fn settle(&mut self, now: u64, oldest: u64) {
        self.waiting.extend(self.unstamped.drain(..).map(|number| (now, number)));
        while let Some((_, number)) = self.waiting.pop_front_if(|(retired, _)| *retired < oldest) {
            self.ready.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_ready_when_everyone_entered_later() {
        let mut limbo = Limbo::default();
        assert!(!limbo.is_waiting());
        limbo.push(7);
        limbo.settle(3, 3);
        assert_eq!(limbo.pop(), None, "someone may have entered at 3, before it was retired");
        limbo.push(8);
        limbo.settle(4, 4);
        assert_eq!((limbo.pop(), limbo.pop()), (Some(7), None));
        assert!(limbo.is_waiting());
        limbo.settle(5, 5);
        assert_eq!(limbo.pop(), Some(8));
        assert!(!limbo.is_waiting());
    }

    #[test]
    fn a_reclaimed_place_counts_until_one_is_used() {
        let mut limbo = Limbo::default();
        limbo.push(1);
        limbo.reclaim(2);
        assert!(limbo.has_reclaimed());
        limbo.settle(1, 2);
        assert!(limbo.pop().is_some() && !limbo.has_reclaimed(), "one newcomer is served without anybody giving way");
    }

    #[test]
    fn a_small_table_keeps_little_back() {
        let mut limbo = Limbo::default();
        assert!(limbo.has_room(3));
        limbo.push(1);
        assert!(!limbo.has_room(3) && limbo.has_room(40));
        (2..=256).for_each(|number| limbo.push(number));
        assert!(!limbo.has_room(1 << 20));
    }
}
