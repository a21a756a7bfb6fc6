//! Which ports of one SNAT address are taken toward one port of one backend, a bit each: so that a search need not try them.
//!
//! It is a hint. What decides is the connection table, in which the reply tuple is reserved or is not: a bit that is missing costs a try, and
//! none stays set without a connection, for whoever sets one has reserved the tuple or takes the bit back. All accesses are Relaxed: no
//! other memory is read because of a bit.

use super::spread::WORDS;
use super::turns::part;
use crate::conntrack::Millis;
use crate::service::Exhausted;
use crossbeam_utils::CachePadded;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// The ports, and where each worker's search goes on: 8 KiB, and 128 bytes a worker.
#[derive(Debug)]
pub(super) struct TakenPorts {
    words: Box<[AtomicU64]>,
    rounds: Box<[CachePadded<Round>]>,
}

/// One worker's way round.
#[derive(Debug)]
struct Round {
    /// The port that is looked at next at home, and away.
    next: AtomicU16,
    next_away: AtomicU16,
    /// When none was free at home.
    exhausted: Exhausted,
}

/// The only thing that a round can be without: ports at home.
const AT_HOME: u32 = 0;

impl TakenPorts {
    /// None is taken. The workers begin at ports far from each other.
    pub(super) fn new(workers: usize, ports: &RangeInclusive<u16>) -> Self {
        let round = |worker: usize| {
            let [next, next_away] = [part(worker, workers, ports); 2].map(AtomicU16::new);
            CachePadded::new(Round { next, next_away, exhausted: Exhausted::default() })
        };
        Self { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(), rounds: (0..workers).map(round).collect() }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.rounds)
    }

    /// For how many it was made.
    pub(super) fn workers(&self) -> usize {
        self.rounds.len()
    }

    /// 64 ports, the first one the lowest bit.
    #[inline(always)]
    pub(super) fn word(&self, word: usize) -> u64 {
        self.words[word].load(Relaxed)
    }

    /// It is taken now. `false`: it was before.
    #[inline(always)]
    pub(super) fn claim(&self, port: u16) -> bool {
        let bit = 1 << (port % 64);
        self.words[usize::from(port / 64)].fetch_or(bit, Relaxed) & bit == 0
    }

    /// It is taken no more.
    pub(super) fn release(&self, port: u16) {
        self.words[usize::from(port / 64)].fetch_and(!(1 << (port % 64)), Relaxed);
    }

    /// Where this worker's search goes on.
    #[inline(always)]
    pub(super) fn next(&self, worker: usize) -> u16 {
        self.rounds[worker].next.load(Relaxed)
    }

    /// This worker's next search begins here.
    #[inline(always)]
    pub(super) fn go_on_at(&self, worker: usize, port: u16) {
        self.rounds[worker].next.store(port, Relaxed);
    }

    /// Where this worker's search for other workers' ports goes on.
    pub(super) fn next_away(&self, worker: usize) -> u16 {
        self.rounds[worker].next_away.load(Relaxed)
    }

    /// It goes on here.
    pub(super) fn go_on_away_at(&self, worker: usize, port: u16) {
        self.rounds[worker].next_away.store(port, Relaxed);
    }

    /// Whether this worker found none free less than `pause` milliseconds before `now`.
    #[inline(always)]
    pub(super) fn is_exhausted(&self, worker: usize, now: Millis, pause: u32) -> bool {
        self.rounds[worker].exhausted.was(AT_HOME, now, pause)
    }

    /// This worker has found none free.
    pub(super) fn set_exhausted(&self, worker: usize, now: Millis) {
        self.rounds[worker].exhausted.note(AT_HOME, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_bit_and_claimed_once() {
        let taken = TakenPorts::new(2, &(1024..=65535));
        assert!([0, 63, 64, 1024, u16::MAX].into_iter().all(|port| taken.claim(port)));
        assert!(!taken.claim(64));
        assert_eq!([0, 1, 16, 1023].map(|word| taken.word(word)), [1 << 63 | 1, 1, 1, 1 << 63]);
        taken.release(64);
        assert!(taken.claim(64));
        assert_eq!(taken.bytes(), 8192 + 2 * 128);
    }

    #[test]
    fn each_worker_goes_its_own_round() {
        let taken = TakenPorts::new(4, &(1000..=1399));
        assert_eq!([0, 1, 2, 3].map(|worker| taken.next(worker)), [1000, 1100, 1200, 1300]);
        taken.go_on_at(1, 1399);
        assert_eq!([0, 1].map(|worker| taken.next(worker)), [1000, 1399]);
        taken.set_exhausted(2, Millis(1));
        assert!([2, 1].map(|worker| taken.is_exhausted(worker, Millis(2), 20)) == [true, false]);
    }
}
