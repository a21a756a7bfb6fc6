//! When the connection table is swept: once a second, in slices so short that nothing else on the control thread waits for it.

use crate::conntrack::Swept;
use crate::worker::Monotonic;

/// From the beginning of one pass to the beginning of the next: how late a connection may be removed, in nanoseconds.
const PASS_EVERY: u64 = 1_000_000_000;
/// Entries of one step; the clock is read after each.
const STEP: usize = 4096;
/// Longest work in one wake of the loop, but for the last step.
const SLICE: u64 = 2_000_000;
/// From the end of a slice to the next one of the same pass: the control thread sweeps at most a third of its time.
const PAUSE: u64 = 4_000_000;

/// Where the pass is.
#[derive(Debug)]
pub struct Expiry {
    /// When the pass under way began; `None` between two passes.
    pass_began: Option<Monotonic>,
    next: Monotonic,
}

impl Expiry {
    /// The first pass is due now.
    pub fn new(now: Monotonic) -> Self {
        Self { pass_began: None, next: now }
    }

    /// When there is something to do.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// Does a slice if it is due. `sweep` is told how many entries to look at.
    pub fn run(&mut self, clock: impl Fn() -> Monotonic, mut sweep: impl FnMut(usize, Monotonic) -> Swept) {
        let began = clock();
        if began < self.next {
            return;
        }
        let pass_began = *self.pass_began.get_or_insert(began);
        let mut now = began;
        while now.nanos_since(began) < SLICE {
            let swept = sweep(STEP, now);
            now = clock();
            if swept.wrapped {
                self.pass_began = None;
                self.next = Monotonic(pass_began.0 + PASS_EVERY).max(now);
                return;
            }
        }
        self.next = Monotonic(now.0 + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const MS: u64 = 1_000_000;

    /// A table of `steps` steps, each of which takes `nanos`; returns how many steps were done and when it is to go on.
    fn slice(expiry: &mut Expiry, time: &Cell<u64>, left: &Cell<u32>, nanos: u64) -> u32 {
        let mut done = 0;
        expiry.run(
            || Monotonic(time.get()),
            |budget, _| {
                done += 1;
                time.set(time.get() + nanos);
                left.set(left.get() - 1);
                Swept { scanned: budget, expired: 0, ended: 0, wrapped: left.get() == 0 }
            },
        );
        done
    }

    #[test]
    fn a_small_table_is_swept_once_a_second() {
        let (time, left) = (Cell::new(5 * MS), Cell::new(2));
        let mut expiry = Expiry::new(Monotonic(5 * MS));
        assert_eq!(slice(&mut expiry, &time, &left, 1000), 2);
        assert_eq!(expiry.next(), Monotonic(1005 * MS));
        time.set(700 * MS);
        assert_eq!(slice(&mut expiry, &time, &left, 1000), 0, "not yet");
        time.set(1006 * MS);
        left.set(2);
        assert_eq!(slice(&mut expiry, &time, &left, 1000), 2);
        assert_eq!(expiry.next(), Monotonic(2006 * MS));
    }

    #[test]
    fn a_large_table_is_swept_in_slices() {
        let (time, left) = (Cell::new(0), Cell::new(100));
        let mut expiry = Expiry::new(Monotonic(0));
        let mut slices = 0;
        while left.get() > 0 {
            time.set(expiry.next().0);
            let began = time.get();
            slice(&mut expiry, &time, &left, 100_000);
            assert!(time.get() - began <= SLICE + 100_000);
            slices += 1;
        }
        assert_eq!(slices, 5);
        assert!(time.get() < 40 * MS);
        assert_eq!(expiry.next(), Monotonic(1000 * MS));
    }

    #[test]
    fn a_pass_that_takes_longer_than_a_second_is_followed_at_once() {
        let (time, left) = (Cell::new(0), Cell::new(1000));
        let mut expiry = Expiry::new(Monotonic(0));
        while left.get() > 0 {
            time.set(expiry.next().0);
            slice(&mut expiry, &time, &left, SLICE);
        }
        assert_eq!(expiry.next(), Monotonic(time.get()));
    }
}
