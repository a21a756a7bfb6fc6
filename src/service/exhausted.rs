//! What had no free SNAT port a moment ago, so that it is not searched again for each packet of a flood.

use crate::conntrack::Millis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What was found without a free port last, and when. Relaxed: a number that publishes nothing.
#[derive(Debug, Default)]
pub struct Exhausted(AtomicU64);

/// Of what is noted: it is not 0, which says that nothing is.
const NOTED: u32 = 1 << 31;

impl Exhausted {
    /// Whether that was `what`, a number below 2^31, less than `pause` milliseconds before `now`.
    #[inline(always)]
    pub fn was(&self, what: u32, now: Millis, pause: u32) -> bool {
        let seen = self.0.load(Relaxed);
        seen >> 32 == u64::from(NOTED | what) && now.since(Millis(seen as u32)) < pause
    }

    /// It is `what`, a number below 2^31, now.
    pub fn note(&self, what: u32, now: Millis) {
        self.0.store(u64::from(NOTED | what) << 32 | u64::from(now.0), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_known_for_a_while_also_when_the_clock_wraps() {
        let exhausted = Exhausted::default();
        assert!(!exhausted.was(0, Millis(0), 20), "nothing was noted");
        exhausted.note(80, Millis(u32::MAX));
        let was = |what, now| exhausted.was(what, Millis(now), 20);
        assert!(was(80, u32::MAX) && was(80, 18) && !was(80, 19) && !was(81, 18));
        exhausted.note(0, Millis(0));
        assert!(exhausted.was(0, Millis(0), 20) && !exhausted.was(80, Millis(0), 20));
    }
}
