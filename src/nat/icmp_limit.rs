//! How many ICMP errors a worker may send: a token bucket (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)).

use crate::conntrack::Millis;

/// Errors a second that one worker sends when nothing else is configured. Linux sends 1000 a second and host.
pub const RATE: u32 = 1000;
/// Errors that it sends at once after it was silent: RFC 4443 advises a bucket over a timer so that a traceroute's burst is answered.
pub const BURST: u32 = 100;

/// Thousandths of a token: what one millisecond adds at a rate of one a second.
const TOKEN: u64 = 1000;

/// A token bucket that begins full. One worker's own: neither shared nor locked.
#[derive(Debug, Clone)]
pub struct IcmpLimit {
    rate: u64,
    capacity: u64,
    credit: u64,
    last: Millis,
}

impl IcmpLimit {
    /// At most `burst` errors at once and `rate` a second for long. 0 of either sends none, once the burst is used up.
    pub fn new(rate: u32, burst: u32, now: Millis) -> Self {
        let capacity = u64::from(burst) * TOKEN;
        Self { rate: u64::from(rate), capacity, credit: capacity, last: now }
    }

    /// Takes a token if there is one: whether an error may be sent at `now`, which never goes back.
    pub fn take(&mut self, now: Millis) -> bool {
        // At most 2^32 milliseconds times 2^32 a second: fits.
        let earned = u64::from(now.since(self.last)) * self.rate;
        self.credit = self.credit.saturating_add(earned).min(self.capacity);
        self.last = now;
        if self.credit < TOKEN {
            return false;
        }
        self.credit -= TOKEN;
        true
    }
}

impl Default for IcmpLimit {
    fn default() -> Self {
        Self::new(RATE, BURST, Millis(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(limit: &mut IcmpLimit, now: Millis, tries: usize) -> usize {
        (0..tries).filter(|_| limit.take(now)).count()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let mut limit = IcmpLimit::new(1000, 100, Millis(7));
        assert_eq!(sent(&mut limit, Millis(7), 500), 100);
        assert_eq!(sent(&mut limit, Millis(8), 500), 1);
        assert_eq!(sent(&mut limit, Millis(58), 500), 50);
        assert_eq!(sent(&mut limit, Millis(1_000_000), 500), 100);
    }

    #[test]
    fn less_than_one_a_millisecond_adds_up() {
        let mut limit = IcmpLimit::new(10, 1, Millis(0));
        assert!(limit.take(Millis(0)));
        assert_eq!((1..=1000).filter(|now| limit.take(Millis(*now))).collect::<Vec<_>>().len(), 10);
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut limit = IcmpLimit::new(1000, 10, Millis(u32::MAX));
        assert_eq!(sent(&mut limit, Millis(u32::MAX), 20), 10);
        assert_eq!(sent(&mut limit, Millis(3), 20), 4);
    }

    #[test]
    fn zero_sends_none() {
        let mut limit = IcmpLimit::new(0, 0, Millis(0));
        assert_eq!(sent(&mut limit, Millis(u32::MAX), 10), 0);
        let mut limit = IcmpLimit::new(0, 2, Millis(0));
        assert_eq!(sent(&mut limit, Millis(u32::MAX), 10), 2);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(rate in 0u32..5000, burst in 0u32..300, steps in prop::collection::vec((0u32..50, 0usize..40), 1..60)) {
            let mut limit = IcmpLimit::new(rate, burst, Millis(0));
            let (mut now, mut total) = (0u32, 0usize);
            for (wait, tries) in steps {
                now += wait;
                total += sent(&mut limit, Millis(now), tries);
            }
            prop_assert!(total as u64 * TOKEN <= u64::from(burst) * TOKEN + u64::from(now) * u64::from(rate));
        }
    }
}
