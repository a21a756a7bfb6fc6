//! When it was: the clock of connections, laid onto that of the world.
//!
//! It is laid on once, and anew only when somebody has set the machine's clock: so an event has one time, whoever asks and how often, and
//! later ones have later times.

use crate::conntrack::Millis;
use crate::worker::Monotonic;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds by which the clocks may have come apart. NTP slows and hastens both of them alike; what sets one of them moves it farther.
const TOLERANCE: u64 = 10;

/// What all threads go by.
#[derive(Debug, Default)]
pub(super) struct WallClock(Mutex<Option<Look>>);

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    millis: Millis,
    unix: u64,
}

impl WallClock {
    /// At both clocks.
    pub(super) fn look(&self) -> Look {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.settle(Monotonic::now().millis(), u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    }

    fn settle(&self, millis: Millis, unix: u64) -> Look {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = known.map(|look| look.of(millis)).filter(|expected| expected.abs_diff(unix) <= TOLERANCE);
        *known.insert(Look { millis, unix: expected.unwrap_or(unix) })
    }
}

impl Look {
    /// Now, in milliseconds since 1970-01-01 UTC.
    pub(super) fn now(&self) -> u64 {
        self.unix
    }

    /// Then. At most 24 days before or after the look: [`Millis`] tells no more apart.
    pub(super) fn of(&self, then: Millis) -> u64 {
        self.unix.saturating_add_signed(i64::from(then.since(self.millis).cast_signed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_time_whoever_asks() {
        let clock = WallClock::default();
        let (first, event) = (clock.settle(Millis(1000), 500_000), Millis(990));
        assert_eq!((first.now(), first.of(event), first.of(Millis(1001))), (500_000, 499_990, 500_001));
        // The grains of the two clocks do not turn over together.
        for (millis, unix) in [(1005, 500_006), (2000, 500_999), (3000, 502_010)] {
            let look = clock.settle(Millis(millis), unix);
            assert_eq!((look.of(event), look.now()), (499_990, 499_000 + u64::from(millis)));
        }
    }

    #[test]
    fn it_follows_a_clock_that_is_set_and_one_that_wraps() {
        let clock = WallClock::default();
        clock.settle(Millis(u32::MAX - 4), 1_000_000);
        let look = clock.settle(Millis(5), 1_000_011);
        assert_eq!((look.now(), look.of(Millis(u32::MAX))), (1_000_010, 1_000_004));
        assert_eq!(clock.settle(Millis(6), 9_000_000).now(), 9_000_000);
        assert_eq!(clock.settle(Millis(7), 5).now(), 5);
        assert_eq!(clock.settle(Millis(7), 6).of(Millis(0)), 0, "not before 1970");
    }
}
