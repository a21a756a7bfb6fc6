//! The clock that workers and the control thread share.

use crate::conntrack::{Micros, Millis, Now};
use rustix::time::{ClockId, clock_gettime};

/// A moment on the kernel's monotonic clock, in nanoseconds since boot: the same for every thread and after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// Reads the clock (about 20 ns, no system call).
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        Self(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
    }

    /// What timeouts are measured by: milliseconds, wrapping.
    pub fn millis(self) -> Millis {
        Millis((self.0 / 1_000_000) as u32)
    }

    /// What a burst is given: milliseconds, and microseconds for round trips, both wrapping.
    pub fn both(self) -> Now {
        Now { millis: self.millis(), micros: Micros((self.0 / 1000) as u32) }
    }

    /// Nanoseconds since `earlier`, 0 if that is later.
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
