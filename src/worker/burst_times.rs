//! How long bursts take: recorded by the worker, read by anyone at any time, without a lock.

use crate::datapath::Counter;
use hdrhistogram::Histogram;

/// Buckets in each power of two: a value is known to within 1/16.
const STEPS: u32 = 16;
/// Powers of two from [`STEPS`] ns on; the last one is about a second.
const OCTAVES: u32 = 27;
const BUCKETS: usize = (STEPS * (OCTAVES + 1)) as usize;

/// Service time of bursts, in nanoseconds, 16 buckets in each power of two; one second and more counts as one second.
///
/// The worker is the only writer, so a record is one load and one store. [`BurstTimes::histogram`] makes an HDR histogram of it.
#[derive(Debug)]
pub struct BurstTimes(Box<[Counter]>);

impl Default for BurstTimes {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| Counter::default()).collect())
    }
}

impl BurstTimes {
    /// Each of so many bursts took `nanos`. Only the owning worker may call it.
    #[inline]
    pub fn record(&self, bursts: u64, nanos: u64) {
        self.0[bucket(nanos)].add(bursts);
    }

    /// What was recorded up to now, in nanoseconds, each value as the lower end of its bucket.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 2_000_000_000, 2).unwrap_or_else(|_| unreachable_bounds());
        for (index, count) in self.0.iter().enumerate().filter(|(_, count)| count.get() > 0) {
            histogram.saturating_record_n(floor(index), count.get());
        }
        histogram
    }
}

/// The bounds above are constants that satisfy the crate's rules (low at least 1, high at least twice low, 0 to 5 digits).
#[cold]
fn unreachable_bounds() -> Histogram<u64> {
    unreachable!("constant histogram bounds are valid")
}

fn bucket(nanos: u64) -> usize {
    if nanos < u64::from(STEPS) {
        return nanos as usize;
    }
    let octave = nanos.ilog2() - STEPS.ilog2();
    let step = nanos >> octave & u64::from(STEPS - 1);
    ((octave + 1) as usize * STEPS as usize + step as usize).min(BUCKETS - 1)
}

fn floor(bucket: usize) -> u64 {
    let (octave, step) = ((bucket / STEPS as usize) as u32, (bucket % STEPS as usize) as u64);
    if octave == 0 { step } else { (u64::from(STEPS) + step) << (octave - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_in_a_bucket_that_begins_at_most_a_sixteenth_below_it() {
        for nanos in (0..100_000).chain((17..30).map(|shift| (1 << shift) + 12_345)) {
            let floor = floor(bucket(nanos));
            assert!(floor <= nanos && nanos - floor <= nanos / 16, "{nanos} in a bucket from {floor}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_histogram_has_what_was_recorded() {
        let times = BurstTimes::default();
        (1..=1000).for_each(|microseconds| times.record(1, microseconds * 1000));
        let histogram = times.histogram();
        assert_eq!(histogram.len(), 1000);
        let median = histogram.value_at_quantile(0.5);
        assert!((460_000..=505_000).contains(&median), "{median}");
    }
}
