//! When each part of the table is to be looked at again: most of what is idle need not be looked at every second.
//!
//! A connection that is opened or changes its state after a part was looked at has been heard then, so it cannot be over before the
//! shortest of all timeouts has passed. Until then, or until the first time in it is over if that is earlier, the part is
//! passed over. Who ends a connection before its time urges its part.

use super::Millis;
use super::atomic::{AtomicU64, Ordering};
use std::ops::Range;

/// Entries of a part: 16 KiB over IPv4.
const PART: u32 = 256;
/// To be looked at in the next pass.
const NOW: u64 = 0;
/// Being looked at.
const LOOKING: u64 = 1 << 33;
/// Marks a time, which is in the lower half.
const AT: u64 = 1 << 32;

/// A word for each part.
#[derive(Debug)]
pub(super) struct Agenda(Box<[AtomicU64]>);

impl Agenda {
    /// Of entries with numbers below `end`, all to be looked at.
    pub(super) fn new(end: u32) -> Self {
        Self((0..end.div_ceil(PART)).map(|_| AtomicU64::new(NOW)).collect())
    }

    /// The part that `number` is in, from there on, up to `end`.
    pub(super) fn part(number: u32, end: u32) -> Range<u32> {
        number..(number / PART + 1).saturating_mul(PART).min(end)
    }

    fn word(&self, number: u32) -> &AtomicU64 {
        &self.0[(number / PART) as usize]
    }

    /// The part of this entry has one that is to go.
    pub(super) fn urge(&self, number: u32) {
        // Release: pairs with `begin`, whoever reads this there sees the entry's new state.
        self.word(number).store(NOW, Ordering::Release);
    }

    /// Everything is to be looked at.
    pub(super) fn urge_all(&self) {
        // Relaxed: told by the thread that looks.
        self.0.iter().for_each(|word| word.store(NOW, Ordering::Relaxed));
    }

    /// Whether the part of this entry is to be looked at.
    pub(super) fn is_due(&self, number: u32, now: Millis) -> bool {
        // Relaxed: `begin` reads it again; one that is urged right now is looked at in the next pass.
        let word = self.word(number).load(Ordering::Relaxed);
        word & AT == 0 || now.since(Millis(word as u32)) < u32::MAX / 2
    }

    /// Its entries are looked at from now on.
    pub(super) fn begin(&self, number: u32) {
        // AcqRel: pairs with `urge`. An urge before this is seen with its reason; one after it makes `settle` fail.
        self.word(number).swap(LOOKING, Ordering::AcqRel);
    }

    /// They were looked at; the next time is `next`, unless someone urged meanwhile.
    pub(super) fn settle(&self, number: u32, next: Millis) {
        // Relaxed: the times in it are of the same thread; on failure the urge stays.
        let settled = AT | u64::from(next.0);
        let _ = self.word(number).compare_exchange(LOOKING, settled, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_due_at_its_time_also_when_the_clock_wraps() {
        let agenda = Agenda::new(1000);
        assert!(agenda.is_due(300, Millis(5)), "never looked at");
        agenda.begin(300);
        agenda.settle(300, Millis(u32::MAX).after(11));
        assert!(!agenda.is_due(511, Millis(u32::MAX - 3)));
        assert!(!agenda.is_due(511, Millis(9)));
        assert!(agenda.is_due(511, Millis(10)));
        assert!(agenda.is_due(512, Millis(9)), "another part");
    }

    #[test]
    fn an_urge_is_not_forgotten() {
        let agenda = Agenda::new(1000);
        agenda.begin(1);
        agenda.urge(1);
        agenda.settle(1, Millis(1000));
        assert!(agenda.is_due(1, Millis(0)), "urged while it was looked at");
        agenda.begin(1);
        agenda.settle(1, Millis(1000));
        agenda.urge(200);
        assert!(agenda.is_due(1, Millis(0)), "urged afterwards");
    }

    #[test]
    fn parts_cover_all_numbers_once() {
        let mut numbers = Vec::new();
        let mut next = 1;
        while next < 700 {
            let part = Agenda::part(next, 700);
            numbers.extend(part.clone());
            next = part.end;
        }
        assert_eq!(numbers, (1..700).collect::<Vec<_>>());
    }
}
