//! When a worker that finds nothing to do goes to sleep.

use std::time::Duration;

/// Empty rounds before the first sleep. A round over empty rings takes some 50 ns, so this is a few microseconds: enough to
/// bridge the gap between two bursts under load, little enough that an idle worker leaves its core.
const SPIN: u32 = 64;

/// Sleep with nothing under way. A frame ends it; so this only bounds how late a stop is noticed.
const ASLEEP: Duration = Duration::from_millis(100);

/// Sleep while frames are on their way out or packets wait: nobody signals that a completion came or a neighbour answered.
const DOZE: Duration = Duration::from_millis(1);

/// What a worker does after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next round at once.
    Again,
    /// Sleep until a frame arrives, at most this long.
    Sleep(Duration),
}

/// What an idle worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenIdle {
    /// Sleeps in `poll(2)` until a frame arrives.
    #[default]
    Sleep,
    /// Looks again at once, and never leaves its core.
    Spin,
}

/// Counts empty rounds.
#[derive(Debug, Clone, Default)]
pub struct Idle {
    when_idle: WhenIdle,
    empty: u32,
}

impl Idle {
    /// At first busy.
    pub fn new(when_idle: WhenIdle) -> Self {
        Self { when_idle, empty: 0 }
    }

    /// After a round that took `frames` frames; `unfinished` when something is under way that no arriving frame will signal.
    pub fn after(&mut self, frames: usize, unfinished: bool) -> Next {
        if frames > 0 || self.when_idle == WhenIdle::Spin {
            self.empty = 0;
            return Next::Again;
        }
        self.empty = self.empty.saturating_add(1);
        match (self.empty > SPIN, unfinished) {
            (false, _) => Next::Again,
            (true, true) => Next::Sleep(DOZE),
            (true, false) => Next::Sleep(ASLEEP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_worker_never_sleeps_and_an_idle_one_spins_only_at_first() {
        let mut idle = Idle::default();
        assert!((0..1000).all(|_| idle.after(1, true) == Next::Again));
        assert!((0..SPIN).all(|_| idle.after(0, false) == Next::Again));
        assert_eq!(idle.after(0, false), Next::Sleep(ASLEEP));
        assert_eq!(idle.after(0, true), Next::Sleep(DOZE));
        assert_eq!(idle.after(3, false), Next::Again);
        assert_eq!(idle.after(0, false), Next::Again);
    }

    #[test]
    fn a_spinning_worker_never_sleeps() {
        let mut idle = Idle::new(WhenIdle::Spin);
        assert!((0..2 * SPIN).all(|_| idle.after(0, true) == Next::Again));
    }
}
