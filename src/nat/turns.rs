//! Where each worker's searches for a SNAT port toward one backend go on. Each has its own, Relaxed: nobody else reads it.

use crate::conntrack::Millis;
use crate::service::Exhausted;
use crossbeam_utils::CachePadded;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

/// By worker, 128 bytes each.
#[derive(Debug)]
pub(super) struct Turns(Box<[CachePadded<Turn>]>);

/// One worker's.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Connections up to now: consecutive ones go to SNAT addresses in turn.
    count: AtomicU32,
    /// The port that is tried next, where nobody notes what is taken.
    port: AtomicU16,
    /// The port of a target toward which tries were in vain.
    exhausted: Exhausted,
}

impl Turns {
    /// The workers begin at ports far from each other.
    pub(super) fn new(workers: usize, ports: &RangeInclusive<u16>) -> Self {
        let turn = |worker| CachePadded::new(Turn { port: AtomicU16::new(part(worker, workers, ports)), ..Turn::default() });
        Self((0..workers).map(turn).collect())
    }

    pub(super) fn workers(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn of(&self, worker: usize) -> &Turn {
        &self.0[worker]
    }
}

/// The first port of a worker's part, where all of them have as many.
pub(super) fn part(worker: usize, workers: usize, ports: &RangeInclusive<u16>) -> u16 {
    (usize::from(*ports.start()) + ports.len() * worker / workers.max(1)) as u16
}

impl Turn {
    /// The number of one more connection.
    #[inline]
    pub(super) fn next(&self) -> usize {
        let count = self.count.load(Relaxed);
        self.count.store(count.wrapping_add(1), Relaxed);
        count as usize
    }

    pub(super) fn port(&self) -> u16 {
        self.port.load(Relaxed)
    }

    /// This one was tried last; the next search begins behind it.
    pub(super) fn tried(&self, port: u16) {
        self.port.store(port.wrapping_add(1), Relaxed);
    }

    /// Whether tries toward this port of the backend were in vain less than `pause` milliseconds before `now`.
    pub(super) fn is_exhausted(&self, target: u16, now: Millis, pause: u32) -> bool {
        self.exhausted.was(target.into(), now, pause)
    }

    /// Tries toward it were in vain.
    pub(super) fn set_exhausted(&self, target: u16, now: Millis) {
        self.exhausted.note(target.into(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_its_own() {
        let turns = Turns::new(4, &(1000..=1399));
        assert_eq!([0, 1, 2, 3].map(|worker| turns.of(worker).port()), [1000, 1100, 1200, 1300]);
        assert_eq!([1, 1, 2].map(|worker| turns.of(worker).next()), [0, 1, 0]);
        turns.of(1).tried(u16::MAX);
        assert_eq!((turns.of(1).port(), turns.of(0).port()), (0, 1000));
        turns.of(2).set_exhausted(80, Millis(1));
        assert!([2, 3].map(|worker| turns.of(worker).is_exhausted(80, Millis(2), 20)) == [true, false]);
    }
}
