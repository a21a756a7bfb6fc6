//! Connections that have ended and whose places are not free yet: how many, and which, so that whoever finds the table full takes such a
//! place before a living connection gives way ([`super::early_drop`]), and need not wait for the control thread's next pass.
//!
//! The queue is a hint: the sweep frees what is in it, too, and who comes first takes the entry by a compare-exchange of its state. A number
//! whose entry is somebody else's by then is passed over.

use super::family::Family;
use super::table::Table;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
// Not loom's: numbers that publish nothing; the entry's state does.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most that are known by their number, the last ones.
const KNOWN: usize = 1 << 14;

/// Those of one table.
#[derive(Debug)]
pub(super) struct Departed {
    waiting: CachePadded<AtomicUsize>,
    numbers: ArrayQueue<u32>,
}

impl Departed {
    /// Of a table for `connections`.
    pub(super) fn new(connections: usize) -> Self {
        Self { waiting: CachePadded::default(), numbers: ArrayQueue::new(connections.clamp(1, KNOWN)) }
    }

    /// This one has ended.
    pub(super) fn push(&self, number: u32) {
        self.expect(1);
        // What falls out at the other end is left to the sweep.
        let _ = self.numbers.force_push(number);
    }

    /// So many have ended and are in the hands of the control thread.
    pub(super) fn expect(&self, count: usize) {
        self.waiting.fetch_add(count, Relaxed);
    }

    /// The one that has waited for longest, perhaps. Who takes its place says so by [`Departed::left`].
    pub(super) fn pop(&self) -> Option<u32> {
        self.numbers.pop()
    }

    /// So many places are somebody's again.
    pub(super) fn left(&self, count: usize) {
        self.waiting.fetch_sub(count, Relaxed);
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Forgets the numbers that are nobody's any more. The control thread's, once a pass.
    pub(super) fn retain(&self, still_waits: impl Fn(u32) -> bool) {
        for number in (0..self.numbers.len()).map_while(|_| self.numbers.pop()) {
            if still_waits(number) {
                let _ = self.numbers.force_push(number);
            }
        }
    }
}

impl<F: Family> Table<F> {
    /// It is dying now: whoever needs a place may take its, and the next sweep frees it.
    pub(super) fn depart(&self, number: u32) {
        self.agenda.urge(number);
        self.departed.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_taken_first_and_those_beyond_the_room_are_only_counted() {
        let departed = Departed::new(3);
        (1..=4).for_each(|number| departed.push(number));
        departed.expect(2);
        assert_eq!((departed.count(), departed.pop()), (6, Some(2)));
        departed.left(1);
        departed.retain(|number| number != 3);
        assert_eq!((departed.count(), departed.pop(), departed.pop()), (5, Some(4), None));
    }
}
