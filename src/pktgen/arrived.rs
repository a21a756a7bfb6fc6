//! What came of one kind, and how long it was on the way.

use hdrhistogram::Histogram;

/// Buckets of the kernel's histogram: 64 for each power of two.
pub(super) const BUCKETS: usize = 2560;
/// `struct arrived` of ends.bpf.c.
pub(super) const NUMBERS: usize = 9;

/// What came of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Frames, each sequence number once.
    pub frames: u64,
    /// Bytes of them, without FCS.
    pub bytes: u64,
    /// Frames whose sequence number had come already (among the last 131,072).
    pub duplicates: u64,
    /// Frames with a lower sequence number than one before them, on the same core.
    pub late: u64,
    fastest: u64,
    slowest: u64,
    /// Frames by time on the way.
    buckets: Vec<u64>,
}

/// How long frames were on the way, in nanoseconds. Quantiles are right to within a 64th, and lie between the least and the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How many times there are: as many as frames.
    pub count: u64,
    /// The shortest time; of a part of a trial to within a 64th.
    pub least: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// 99 % of them are.
    pub p99: u64,
    /// 99.9 % of them are.
    pub p99_9: u64,
    /// The longest time; of a part of a trial to within a 64th.
    pub most: u64,
}

impl Arrived {
    /// How long they were on the way; `None` where nothing came.
    pub fn times(&self) -> Option<Times> {
        let histogram = self.histogram();
        // hdrhistogram answers with the highest value that it cannot tell from the right one: that may be above any that there was.
        let at = |part| histogram.value_at_quantile(part).min(self.slowest);
        let (least, most) = (self.fastest, self.slowest);
        (!histogram.is_empty()).then(|| Times {
            count: histogram.len(),
            least,
            p50: at(0.5),
            p99: at(0.99),
            p99_9: at(0.999),
            most,
        })
    }

    fn histogram(&self) -> Histogram<u64> {
        // Up to ten hours with three digits: there is such a histogram, and every bucket lies in it.
        let mut histogram = Histogram::new_with_bounds(1, 1 << 45, 3).unwrap_or_else(|error| unreachable!("{error}"));
        for (bucket, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let value = middle(bucket).clamp(self.fastest.min(self.slowest), self.slowest.max(1));
            histogram.saturating_record_n(value, *count);
        }
        histogram
    }

    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let minus = |now: u64, then: u64| now.saturating_sub(then);
        let then = before.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets: Vec<u64> = self.buckets.iter().zip(then).map(|(now, then)| minus(*now, then)).collect();
        let (first, last) = (buckets.iter().position(|count| *count > 0), buckets.iter().rposition(|count| *count > 0));
        Self {
            frames: minus(self.frames, before.frames),
            bytes: minus(self.bytes, before.bytes),
            duplicates: minus(self.duplicates, before.duplicates),
            late: minus(self.late, before.late),
            fastest: first.map_or(0, |bucket| lowest(bucket).max(self.fastest)),
            slowest: last.map_or(0, |bucket| (lowest(bucket + 1) - 1).min(self.slowest)),
            buckets,
        }
    }

    /// From all cores.
    pub(super) fn sum(cores: &[[u64; NUMBERS]], buckets: &[[u64; BUCKETS]]) -> Self {
        let sum = |number: usize| cores.iter().map(|core| core[number]).sum();
        let seen = || cores.iter().filter(|core| core[0] > 0);
        let mut all = vec![0; if buckets.is_empty() { 0 } else { BUCKETS }];
        for core in buckets {
            all.iter_mut().zip(core).for_each(|(sum, count)| *sum += count);
        }
        Self {
            frames: sum(0),
            bytes: sum(1),
            duplicates: sum(2),
            late: sum(3),
            fastest: seen().map(|core| core[6]).min().unwrap_or(0),
            slowest: seen().map(|core| core[7]).max().unwrap_or(0),
            buckets: all,
        }
    }
}

/// The least time of a bucket, in nanoseconds: the inverse of `bucket` of ends.bpf.c.
fn lowest(bucket: usize) -> u64 {
    match bucket {
        0..64 => bucket as u64,
        _ => (64 + bucket as u64 % 64) << (bucket / 64 - 1),
    }
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> u64 {
    lowest(bucket) + (lowest(bucket + 1) - lowest(bucket)) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On one core, at these times.
    fn arrived(times: &[u64]) -> Arrived {
        let mut core = [0; NUMBERS];
        core[0] = times.len() as u64;
        (core[6], core[7]) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        let mut buckets = [0; BUCKETS];
        for time in times {
            buckets[(0..BUCKETS).rposition(|bucket| lowest(bucket) <= *time).unwrap()] += 1;
        }
        Arrived::sum(&[core], &[buckets])
    }

    #[test]
    fn buckets_hold_what_they_say() {
        let mut last = None;
        for bucket in 0..BUCKETS {
            let value = middle(bucket);
            assert!(last.is_none_or(|last| value > last), "bucket {bucket}");
            last = Some(value);
            // The formula of ends.bpf.c.
            let shift = (value >> 6).checked_ilog2().map_or(0, u64::from);
            let index = if value < 64 { value } else { ((shift + 1) << 6) + ((value >> shift) & 63) };
            assert_eq!(index, bucket as u64);
        }
    }

    #[test]
    fn no_time_is_above_the_longest_or_below_the_shortest() {
        for time in [1, 63, 64, 1_000, 9_999, 123_457, 7_654_321, 987_654_321, 1 << 40] {
            let Times { count, least, p50, p99, p99_9, most } = arrived(&[time]).times().unwrap();
            assert_eq!([least, p50, p99, p99_9, most], [time; 5]);
            assert_eq!(count, 1);
        }
        let times = arrived(&[1_000, 2_000, 3_000, 1_000_001]).times().unwrap();
        assert_eq!((times.least, times.p99_9, times.most), (1_000, 1_000_001, 1_000_001));
        assert!(times.p50.abs_diff(2_000) <= 2_000 / 64, "{times:?}");
    }

    #[test]
    fn where_nothing_came_there_are_no_times() {
        assert_eq!(Arrived::default().times(), None);
        let all = arrived(&[5_000, 6_000]);
        assert_eq!(all.since(&all).times(), None);
    }

    #[test]
    fn a_part_has_its_own_longest_time() {
        let before = arrived(&[50_000, 900_000]);
        let part = arrived(&[50_000, 900_000, 3_000, 4_000]).since(&before).times().unwrap();
        assert_eq!(part.count, 2);
        assert!(part.least.abs_diff(3_000) <= 3_000 / 64 && part.most.abs_diff(4_000) <= 4_000 / 64, "{part:?}");
        let slow = arrived(&[3_000, 50_000, 900_000]).since(&arrived(&[3_000])).times().unwrap();
        assert_eq!(slow.most, 900_000, "the longest of all, to the nanosecond");
    }
}
