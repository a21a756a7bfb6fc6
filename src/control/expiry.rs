//! When the connection table is swept: once a second, in slices so short that nothing else on the control thread waits for it.

use crate::conntrack::Swept;
use crate::worker::Monotonic;

/// From the beginning of one pass to the beginning of the next: how late a connection may be removed, in nanoseconds.
const PASS_EVERY: u64 = 1_000_000_000;
/// Entries of one step; the clock is read after each.
const STEP: usize = 4096;
/// Longest work of any walk over the table in one wake of the loop, but for the last step, in nanoseconds.
pub(super) const SLICE: u64 = 2_000_000;
/// From the end of a slice to the next one of the same walk: it takes at most a third of the control thread's time.
pub(super) const PAUSE: u64 = 4_000_000;

/// From the end of a pass, or from the last look, to a look at whether what it removed is free: workers take a burst in less.
const FREE_AFTER: u64 = 2_000_000;

/// Where the pass is.
#[derive(Debug)]
pub struct Expiry {
    /// When the pass under way began; `None` between two passes.
    pass_began: Option<Monotonic>,
    /// When the next one begins.
    pass_due: Monotonic,
    /// What the last pass removed is not free yet.
    waiting: bool,
    next: Monotonic,
}

impl Expiry {
    /// The first pass is due now.
    pub fn new(now: Monotonic) -> Self {
        Self { pass_began: None, pass_due: now, waiting: false, next: now }
    }

    /// When there is something to do.
    pub fn next(&self) -> Monotonic {
        self.next
    }

    /// Somebody ended connections: a pass is due now, so that their room is free soon.
    pub fn hurry(&mut self, now: Monotonic) {
        if self.pass_began.is_none() {
            (self.pass_due, self.next) = (now, now);
        }
    }

    /// Does a slice if it is due. `sweep` is told how many entries to look at; `free` frees what was removed, and says whether more of
    /// it waits.
    pub fn run(
        &mut self,
        clock: impl Fn() -> Monotonic,
        mut sweep: impl FnMut(usize, Monotonic) -> Swept,
        free: impl FnOnce() -> bool,
    ) {
        let began = clock();
        if began < self.next {
            return;
        }
        if self.pass_began.is_none() && began < self.pass_due {
            self.waiting = free();
            self.rest(clock());
            return;
        }
        let pass_began = *self.pass_began.get_or_insert(began);
        let mut now = began;
        while now.nanos_since(began) < SLICE {
            let swept = sweep(STEP, now);
            now = clock();
            if swept.wrapped {
                self.pass_began = None;
                self.pass_due = Monotonic(pass_began.0 + PASS_EVERY).max(now);
                self.waiting = swept.waiting;
                self.rest(now);
                return;
            }
        }
        self.next = Monotonic(now.0 + PAUSE);
    }

    /// Until the next pass, or the next look at what waits.
    fn rest(&mut self, now: Monotonic) {
        let look = if self.waiting { Monotonic(now.0 + FREE_AFTER) } else { self.pass_due };
        self.next = look.min(self.pass_due);
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
                Swept { scanned: budget, wrapped: left.get() == 0, ..Swept::default() }
            },
            || false,
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

    #[test]
    fn what_was_removed_is_freed_soon_and_a_pass_may_be_hurried() {
        let time = Cell::new(0);
        let (mut expiry, looks) = (Expiry::new(Monotonic(0)), Cell::new(0));
        let mut run = |at: u64, hurried: bool, waits: bool| {
            time.set(at);
            if hurried {
                expiry.hurry(Monotonic(at));
            }
            let passes = Cell::new(0);
            let sweep = |_, _| {
                passes.set(passes.get() + 1);
                Swept { wrapped: true, waiting: true, ..Swept::default() }
            };
            let free = || {
                looks.set(looks.get() + 1);
                waits
            };
            expiry.run(|| Monotonic(time.get()), sweep, free);
            (passes.get(), looks.get(), expiry.next())
        };
        assert_eq!(run(0, false, true), (1, 0, Monotonic(FREE_AFTER)));
        assert_eq!(run(FREE_AFTER, false, true), (0, 1, Monotonic(2 * FREE_AFTER)), "a worker was still at it");
        assert_eq!(run(2 * FREE_AFTER, false, false), (0, 2, Monotonic(PASS_EVERY)));
        assert_eq!(run(10 * MS, false, false), (0, 2, Monotonic(PASS_EVERY)), "not yet");
        assert_eq!(run(10 * MS, true, false), (1, 2, Monotonic(10 * MS + FREE_AFTER)));
    }
}
