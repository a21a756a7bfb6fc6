//! How fast, and when the next burst is due. Time is an argument.

/// A rate over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Packets a second at the beginning; 0, at both ends, is as fast as it goes.
    pub from: u32,
    /// Packets a second at the end.
    pub to: u32,
    /// Nanoseconds from one to the other.
    pub nanos: u64,
}

/// A burst is made up of what falls due within this many nanoseconds: frames leave together, and a rate is even on any scale above that.
const BURST_NANOS: u64 = 50_000;
const NANOS: u64 = 1_000_000_000;
const BURST: u64 = crate::datapath::BURST as u64;

impl Profile {
    /// Packets a second, `nanos` after the beginning; `None` is as fast as it goes.
    pub fn rate(&self, nanos: u64) -> Option<f64> {
        let (from, to) = (f64::from(self.from), f64::from(self.to));
        let part = nanos.min(self.nanos) as f64 / self.nanos.max(1) as f64;
        (from > 0.0 || to > 0.0).then(|| (from + (to - from) * part).max(1.0))
    }

    /// Packets that are due within so many nanoseconds of the beginning; `None` where it is as fast as it goes.
    pub fn due(&self, nanos: u64) -> Option<f64> {
        let risen = nanos.min(self.nanos);
        let mean = f64::midpoint(self.rate(0)?, self.rate(risen)?);
        Some((mean * risen as f64 + self.rate(nanos)? * (nanos - risen) as f64) / NANOS as f64)
    }

    /// Packets in all, at the rates asked for and at least one; as many as there will ever be where it is as fast as it goes.
    pub fn packets(&self) -> u64 {
        self.due(self.nanos).map_or(u64::MAX, |packets| packets.round().max(1.0) as u64)
    }

    /// Frames of a burst: 1 up to 20 thousand a second, 64 from 1.28 million on.
    pub fn burst(&self) -> u64 {
        match u64::from(self.from.max(self.to)) {
            0 => BURST,
            rate => (rate * BURST_NANOS / NANOS).clamp(1, BURST),
        }
    }

    /// Nanoseconds from one burst to the next, at `nanos` after the beginning.
    pub fn interval(&self, nanos: u64) -> u64 {
        self.rate(nanos).map_or(0, |rate| (self.burst() as f64 * NANOS as f64 / rate).round() as u64)
    }

    /// Nanoseconds that the frames of the last of the bursts were due in, when there were `frames` in all and it left at `nanos`.
    pub(super) fn share(&self, frames: u64, nanos: u64) -> u64 {
        let burst = self.burst();
        let last = if frames == 0 { 0 } else { (frames - 1) % burst + 1 };
        self.interval(nanos) * last / burst
    }

    /// Nanoseconds of lateness that are made up for: 64 frames at once, and no more, so that who was held up floods nobody.
    pub fn slack(&self, nanos: u64) -> u64 {
        self.interval(nanos) * (BURST / self.burst() - 1)
    }

    /// When it is given up, in nanoseconds after the beginning: a sender that is held up now and then may be a tenth late.
    pub fn deadline(&self) -> u64 {
        match self.from == 0 && self.to == 0 {
            true => self.nanos,
            false => self.nanos + self.nanos / 10 + NANOS / 10,
        }
    }
}

/// Says how many frames are due. The same rule as `due` of ends.bpf.c.
#[derive(Debug)]
pub struct Pace {
    profile: Profile,
    start: u64,
    next: u64,
}

impl Pace {
    /// Begins now.
    pub fn new(profile: Profile, now: u64) -> Self {
        Self { profile, start: now, next: now }
    }

    /// A burst, or 0 while none is due. At most 64 frames are made up for when this is asked late.
    pub fn due(&mut self, now: u64) -> u64 {
        if now < self.next {
            return 0;
        }
        let nanos = now - self.start;
        self.next = (self.next + self.profile.interval(nanos)).max(now.saturating_sub(self.profile.slack(nanos)));
        self.profile.burst()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(profile: Profile, step: impl Fn(u64) -> u64) -> u64 {
        let (mut pace, mut now, mut sent) = (Pace::new(profile, 7), 7, 0);
        while now < profile.nanos + 7 {
            sent += pace.due(now);
            now += step(now);
        }
        sent
    }

    #[test]
    fn a_rate_is_kept_to_a_burst() {
        for rate in [1, 999, 20_000, 123_456, 1_000_000, 3_000_000] {
            let profile = Profile { from: rate, to: rate, nanos: NANOS };
            let got = sent(profile, |_| 100);
            let most = profile.burst() + u64::from(rate) / 100;
            assert!(got.abs_diff(profile.packets()) <= most, "{got} of {rate}");
        }
    }

    #[test]
    fn it_is_even_in_every_millisecond() {
        let profile = Profile { from: 100_000, to: 100_000, nanos: NANOS };
        let mut pace = Pace::new(profile, 0);
        for millisecond in 0..100 {
            let in_it: u64 = (0..10_000).map(|tick| pace.due(millisecond * 1_000_000 + tick * 100)).sum();
            assert!((95..=105).contains(&in_it), "{in_it} in millisecond {millisecond}");
        }
    }

    #[test]
    fn who_is_late_makes_up_for_a_full_burst_and_no_more() {
        for rate in [20_000, 400_000, 2_000_000] {
            let profile = Profile { from: rate, to: rate, nanos: NANOS };
            let mut pace = Pace::new(profile, 0);
            assert_eq!(pace.due(0), profile.burst());
            assert_eq!(pace.due(profile.interval(0) - 1), 0);
            let late: u64 = (0..1000).map(|_| pace.due(500_000_000)).sum();
            assert!((BURST..=2 * BURST).contains(&late), "{late} frames at {rate}");
        }
    }

    #[test]
    fn a_ramp_sends_its_mean() {
        let ramp = Profile { from: 10_000, to: 90_000, nanos: NANOS };
        assert_eq!(ramp.packets(), 50_000);
        assert_eq!((ramp.rate(0), ramp.rate(NANOS / 2), ramp.rate(2 * NANOS)), (Some(10_000.0), Some(50_000.0), Some(90_000.0)));
        assert!(sent(ramp, |_| 500).abs_diff(50_000) < 1000);
    }

    #[test]
    fn what_is_due_is_the_sum_of_the_rates() {
        let ramp = Profile { from: 10_000, to: 90_000, nanos: NANOS };
        let due = [0, NANOS / 2, NANOS, 2 * NANOS].map(|nanos| ramp.due(nanos).unwrap().round() as u64);
        assert_eq!(due, [0, 15_000, 50_000, 140_000]);
        assert_eq!(Profile { from: 50, to: 50, nanos: NANOS }.due(NANOS / 2), Some(25.0));
        assert_eq!(Profile { from: 0, to: 0, nanos: NANOS }.due(NANOS), None);
    }

    #[test]
    fn as_fast_as_it_goes_is_always_due() {
        let profile = Profile { from: 0, to: 0, nanos: NANOS };
        let mut pace = Pace::new(profile, 0);
        assert!((0..100).all(|_| pace.due(5) == BURST));
        assert_eq!(profile.packets(), u64::MAX);
    }
}
