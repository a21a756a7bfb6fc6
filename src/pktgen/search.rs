//! The highest rate without loss: the throughput of RFC 2544, section 26.1, by bisection.

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The highest rate that is tried, in packets a second.
    pub highest: u32,
    /// The search ends when it knows the rate to so many packets a second.
    pub resolution: u32,
    /// Lost packets of a thousand million that are borne; 0 as in the RFC.
    pub tolerance: u64,
}

/// What a trial says to the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Packets a second that were really sent.
    pub offered: u32,
    /// Sent.
    pub sent: u64,
    /// Lost of them.
    pub lost: u64,
}

impl Search {
    /// Whether the loss is borne.
    pub fn passes(&self, verdict: Verdict) -> bool {
        verdict.sent > 0 && u128::from(verdict.lost) * 1_000_000_000 <= u128::from(verdict.sent) * u128::from(self.tolerance)
    }

    /// Runs trials, the highest rate first, until the rate is known; the rates that were offered by the best that passed, if one did.
    ///
    /// # Errors
    /// Those of `trial`; `None` of it ends the search with what is known.
    pub fn run<E>(&self, mut trial: impl FnMut(u32) -> Result<Option<Verdict>, E>) -> Result<Option<u32>, E> {
        let (mut best, mut below, mut above) = (None, 0, self.highest);
        let mut rate = self.highest;
        while let Some(verdict) = trial(rate)? {
            if self.passes(verdict) {
                best = best.max(Some(verdict.offered));
                // A sender that cannot reach the rate says nothing about what lies above what it sent.
                below = rate;
            } else {
                above = rate.min(verdict.offered.max(1));
            }
            if above.saturating_sub(below) <= self.resolution.max(1) {
                break;
            }
            rate = below + (above - below) / 2;
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// A device that forwards so much, and a sender that sends no more than that.
    fn found(search: Search, capacity: u32, sender: u32) -> (Option<u32>, usize) {
        let mut trials = 0;
        let result = search.run(|rate| {
            trials += 1;
            let offered = rate.min(sender);
            let lost = u64::from(offered.saturating_sub(capacity));
            Ok::<_, Infallible>(Some(Verdict { offered, sent: offered.into(), lost }))
        });
        (result.unwrap(), trials)
    }

    const EXACT: Search = Search { highest: 2_000_000, resolution: 1000, tolerance: 0 };

    #[test]
    fn the_capacity_is_found_to_the_resolution() {
        for capacity in [1_500, 77_777, 999_999, 1_234_567, 1_999_999] {
            let (rate, trials) = found(EXACT, capacity, u32::MAX);
            let rate = rate.unwrap();
            assert!(rate <= capacity && capacity - rate <= 1000, "{rate} of {capacity}");
            assert!(trials <= 13, "{trials} trials");
        }
    }

    #[test]
    fn the_highest_rate_is_enough_where_nothing_is_lost() {
        assert_eq!(found(EXACT, u32::MAX, u32::MAX), (Some(2_000_000), 1));
    }

    #[test]
    fn a_slow_sender_bounds_what_is_found() {
        assert_eq!(found(EXACT, u32::MAX, 700_000), (Some(700_000), 1));
        let (rate, _) = found(EXACT, 500_000, 700_000);
        assert!((499_000..=500_000).contains(&rate.unwrap()));
    }

    #[test]
    fn a_device_that_forwards_nothing_has_no_rate() {
        assert_eq!(found(EXACT, 0, u32::MAX).0, None);
    }

    #[test]
    fn loss_is_borne_as_told() {
        let tolerant = Search { tolerance: 10_000_000, ..EXACT }; // 1 %
        let rate = found(tolerant, 990_000, u32::MAX).0.unwrap();
        assert!((998_000..=1_000_000).contains(&rate), "{rate}");
        assert!(!EXACT.passes(Verdict { offered: 1, sent: 0, lost: 0 }), "nothing was shown by nothing");
    }

    #[test]
    fn an_interrupted_search_says_what_it_knows() {
        let mut left = 4;
        let result = EXACT.run(|rate| {
            left -= 1;
            Ok::<_, Infallible>((left > 0).then(|| Verdict { offered: rate, sent: 100, lost: u64::from(rate > 1_000_000) }))
        });
        assert_eq!(result, Ok(Some(1_000_000)));
    }
}
