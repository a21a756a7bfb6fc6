//! How many new connections a second: token buckets, counted from the full one down, so that all zeroes are a full
//! bucket.

use super::Millis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// So many a second for long, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Connections a second, 1 to [`Rate::MOST`].
    pub per_second: u32,
    /// Connections at once after silence, 1 to [`Rate::MOST`].
    pub burst: u32,
}

/// Thousandths of a token: what one millisecond earns at a rate of one a second.
const TOKEN: u32 = 1000;
/// A worker's clock may be so many milliseconds behind that of the one that took the last token.
const BEHIND: u32 = 60_000;

impl Rate {
    /// Most of either: in thousandths it fits into 32 bits.
    pub const MOST: u32 = 4_000_000;
}

/// What was taken out of a bucket and has not come back, in thousandths of a token, and when that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    last: Millis,
    taken: u32,
}

impl Bucket {
    /// As it is at `now`.
    fn at(self, now: Millis, rate: Rate) -> Self {
        match now.since(self.last) {
            // Time does not go back; and when a full one was last looked at says nothing.
            ago if ago > u32::MAX - BEHIND && self.taken > 0 => self,
            ago => {
                let earned = u64::from(ago) * u64::from(rate.per_second);
                let taken = u64::from(self.taken).saturating_sub(earned);
                Self { last: now, taken: taken as u32 }
            }
        }
    }

    /// With one token less; `None`: there is none.
    pub(super) fn take(self, now: Millis, rate: Rate) -> Option<Self> {
        let Self { last, taken } = self.at(now, rate);
        let taken = taken.checked_add(TOKEN).filter(|taken| u64::from(*taken) <= u64::from(rate.burst) * u64::from(TOKEN))?;
        Some(Self { last, taken })
    }

    /// With a token that was taken in vain.
    pub(super) fn give_back(self) -> Self {
        Self { taken: self.taken.saturating_sub(TOKEN), ..self }
    }

    /// Milliseconds until it is full.
    pub(super) fn fills_in(self, rate: Rate) -> u32 {
        self.taken.div_ceil(rate.per_second.max(1))
    }
}

/// A bucket that several workers take from.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

// Relaxed, all of it: the word is the whole message.
impl SharedBucket {
    fn read(word: u64) -> Bucket {
        Bucket { last: Millis((word >> 32) as u32), taken: word as u32 }
    }

    /// Takes a token, if there is one.
    pub fn take(&self, now: Millis, rate: Rate) -> bool {
        let taken =
            |word| Self::read(word).take(now, rate).map(|bucket| u64::from(bucket.last.0) << 32 | u64::from(bucket.taken));
        self.0.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// Whether [`SharedBucket::take`] would find one.
    pub fn has_token(&self, now: Millis, rate: Rate) -> bool {
        Self::read(self.0.load(Relaxed)).take(now, rate).is_some()
    }

    /// Gives back a token that was taken in vain.
    pub fn give_back(&self) {
        let given = |word| {
            let bucket = Self::read(word).give_back();
            Some(u64::from(bucket.last.0) << 32 | u64::from(bucket.taken))
        };
        // It never refuses.
        let _ = self.0.fetch_update(Relaxed, Relaxed, given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(bucket: &SharedBucket, now: u32, rate: Rate, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(Millis(now), rate)).count()
    }

    const RATE: Rate = Rate { per_second: 100, burst: 20 };

    #[test]
    fn the_burst_first_and_then_the_rate() {
        // Whatever the clock shows, one that was never used is full.
        for begin in [0, 7, u32::MAX - 40_000, u32::MAX - 100, 1 << 31] {
            let bucket = SharedBucket::default();
            assert_eq!(taken(&bucket, begin, RATE, 50), 20);
            assert_eq!(taken(&bucket, begin.wrapping_add(9), RATE, 50), 0);
            assert_eq!(taken(&bucket, begin.wrapping_add(10), RATE, 50), 1);
            assert_eq!(taken(&bucket, begin.wrapping_add(60), RATE, 50), 5);
            assert_eq!(taken(&bucket, begin.wrapping_add(5_000_000), RATE, 50), 20);
        }
    }

    #[test]
    fn a_clock_that_is_behind_earns_nothing_and_takes_nothing_away() {
        let bucket = SharedBucket::default();
        assert_eq!(taken(&bucket, 1000, RATE, 15), 15);
        assert_eq!(taken(&bucket, 990, RATE, 50), 5);
        assert_eq!(taken(&bucket, 1010, RATE, 50), 1);
    }

    #[test]
    fn what_was_taken_in_vain_comes_back() {
        let bucket = SharedBucket::default();
        bucket.give_back();
        assert_eq!(taken(&bucket, 5, RATE, 50), 20);
        bucket.give_back();
        assert!(bucket.has_token(Millis(5), RATE) && bucket.has_token(Millis(5), RATE));
        assert_eq!(taken(&bucket, 5, RATE, 50), 1);
    }

    #[test]
    fn it_is_known_when_it_is_full() {
        let mut bucket = Bucket::default();
        (0..3).for_each(|_| bucket = bucket.take(Millis(0), RATE).unwrap());
        assert_eq!(bucket.fills_in(RATE), 30);
        assert_eq!((bucket.at(Millis(29), RATE).taken, bucket.at(Millis(30), RATE).taken), (100, 0));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            per_second in 1..=Rate::MOST, burst in 1u32..5000, steps in prop::collection::vec((0u32..50, 0usize..400), 1..60),
        ) {
            let (rate, bucket) = (Rate { per_second, burst }, SharedBucket::default());
            let (mut now, mut total) = (0u32, 0usize);
            for (wait, tries) in steps {
                now += wait;
                total += taken(&bucket, now, rate, tries);
            }
            prop_assert!(total as u64 * 1000 <= u64::from(burst) * 1000 + u64::from(now) * u64::from(per_second));
        }
    }
}
