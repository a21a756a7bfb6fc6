//! What is known of one backend, from its probes and from its packets.

use std::collections::VecDeque;
use std::time::Duration;

/// Ejects backends whose handshakes fail: `passive` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passive {
    /// Failed handshakes within the window, at least.
    pub failures: u32,
    /// Percent of all handshakes within the window that failed, at least.
    pub percent: u32,
    /// How far back is looked.
    pub window: Duration,
    /// How long the first ejection lasts; each one that follows soon lasts twice as long as the one before.
    pub eject: Duration,
    /// The longest ejection; a backend that was back for so long begins anew with the shortest.
    pub max_eject: Duration,
}

impl Default for Passive {
    fn default() -> Self {
        let [window, eject, max_eject] = [10, 30, 300].map(Duration::from_secs);
        Self { failures: 5, percent: 50, window, eject, max_eject }
    }
}

/// Handshakes since the start, as [`crate::service::Backend`] counts them; they begin anew at 2³².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handshakes {
    /// SYN/ACK came.
    pub answered: u32,
    /// RST came, or nothing.
    pub failed: u32,
}

impl Handshakes {
    fn since(self, before: Self) -> Self {
        Self { answered: self.answered.wrapping_sub(before.answered), failed: self.failed.wrapping_sub(before.failed) }
    }
}

/// One backend.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// What its probes say; fine without any.
    probed: bool,
    why: String,
    ejected_until: Option<Duration>,
    ejections: u32,
    back_since: Duration,
    /// Since when it is not fine; `None`: it is.
    sick_since: Option<Duration>,
    /// Whether it ever was fine.
    was_fine: bool,
    /// Since when its weight grows; `None`: it has all of it.
    ramp_from: Option<Duration>,
    samples: VecDeque<(Duration, Handshakes)>,
}

/// Samples within one window.
const SAMPLES: u32 = 16;

impl Standing {
    /// One that is fine until somebody says otherwise; its weight grows from `ramp_from` on.
    pub(super) fn new(ramp_from: Option<Duration>) -> Self {
        Self {
            probed: true,
            why: String::new(),
            ejected_until: None,
            ejections: 0,
            back_since: Duration::ZERO,
            sick_since: None,
            was_fine: false,
            ramp_from,
            samples: VecDeque::new(),
        }
    }

    /// Its probes pass, and packets do not speak against it.
    pub(super) fn is_fine(&self) -> bool {
        self.probed && self.ejected_until.is_none()
    }

    pub(super) fn ejected_until(&self) -> Option<Duration> {
        self.ejected_until
    }

    /// The last thing that changed it.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// Since when it is not fine, of one that was.
    pub(super) fn fell(&self) -> Option<Duration> {
        self.sick_since.filter(|_| self.was_fine)
    }

    /// What its probes say from now on.
    pub(super) fn set_probed(&mut self, up: bool, why: &str, now: Duration) {
        self.probed = up;
        self.why = why.to_owned();
        self.follow(now);
    }

    /// Nobody probes it any more.
    pub(super) fn forget_probes(&mut self, now: Duration) {
        if !self.probed {
            self.set_probed(true, "probes no more", now);
        }
    }

    /// Looks at its handshakes. Whether they eject it.
    pub(super) fn observe(&mut self, handshakes: Handshakes, rule: &Passive, now: Duration) -> bool {
        if self.ejected_until.is_some() {
            return false;
        }
        let oldest = now.saturating_sub(rule.window);
        // The last one before the window begins is where it begins.
        while self.samples.get(1).is_some_and(|(at, _)| *at <= oldest) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= rule.window / SAMPLES) {
            self.samples.push_back((now, handshakes));
        }
        let Some((_, before)) = self.samples.front() else { return false };
        let Handshakes { answered, failed } = handshakes.since(*before);
        let of_all = u64::from(failed) * 100 >= u64::from(rule.percent) * (u64::from(failed) + u64::from(answered));
        if failed < rule.failures || !of_all {
            return false;
        }
        self.eject(rule, now);
        self.why = format!("{failed} of {} handshakes failed", u64::from(failed) + u64::from(answered));
        true
    }

    fn eject(&mut self, rule: &Passive, now: Duration) {
        if now.saturating_sub(self.back_since) >= rule.max_eject {
            self.ejections = 0;
        }
        let length = rule.eject.saturating_mul(1 << self.ejections.min(31)).min(rule.max_eject);
        self.ejections += 1;
        self.ejected_until = Some(now + length);
        self.samples.clear();
        self.follow(now);
    }

    /// Whether its ejection is over, from now on.
    pub(super) fn return_if_due(&mut self, now: Duration, may_be_ejected: bool) -> bool {
        let is_over = self.ejected_until.is_some_and(|until| until <= now || !may_be_ejected);
        if is_over {
            self.ejected_until = None;
            self.back_since = now;
            self.why = "its ejection is over".to_owned();
            self.follow(now);
        }
        is_over
    }

    fn follow(&mut self, now: Duration) {
        match (self.is_fine(), self.sick_since) {
            (true, Some(_)) => {
                self.sick_since = None;
                self.ramp_from = Some(now);
            }
            (false, None) => self.sick_since = Some(now),
            _ => {}
        }
    }

    /// Once the first word of its probes was heard: until then it had no chance to be fine.
    pub(super) fn note_fine(&mut self) {
        self.was_fine |= self.is_fine();
    }

    /// Percent of its weight that it gets, 1 to 100.
    pub(super) fn ramp(&mut self, slow_start: Duration, now: Duration) -> u32 {
        let Some(from) = self.ramp_from else { return 100 };
        let elapsed = now.saturating_sub(from);
        if elapsed >= slow_start {
            self.ramp_from = None;
            return 100;
        }
        ((elapsed.as_nanos() * 100 / slow_start.as_nanos().max(1)) as u32).clamp(1, 100)
    }

    /// Whether its weight grows.
    pub(super) fn is_ramping(&self) -> bool {
        self.ramp_from.is_some() && self.is_fine()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn of(answered: u32, failed: u32) -> Handshakes {
        Handshakes { answered, failed }
    }

    #[test]
    fn enough_failures_that_are_enough_of_all_eject() {
        let rule = Passive::default();
        let mut standing = Standing::new(None);
        assert!(!standing.observe(of(7, u32::MAX - 1), &rule, s(0)), "what was before does not count");
        assert!(!standing.observe(of(7, 2), &rule, s(1)), "four");
        assert!(!standing.observe(of(13, 3), &rule, s(2)), "five, of eleven");
        assert!(standing.observe(of(13, 4), &rule, s(3)), "six of twelve");
        assert_eq!((standing.is_fine(), standing.ejected_until()), (false, Some(s(33))));
        assert_eq!(standing.why(), "6 of 12 handshakes failed");
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let rule = Passive::default();
        let mut standing = Standing::new(None);
        for second in 0..100 {
            assert!(!standing.observe(of(0, second / 3), &rule, s(u64::from(second))), "four in ten seconds, at {second}");
        }
        assert!(standing.samples.len() <= SAMPLES as usize + 2);
    }

    #[test]
    fn each_ejection_lasts_twice_as_long_until_one_was_back_for_long() {
        let rule = Passive { failures: 1, ..Passive::default() };
        let mut standing = Standing::new(None);
        let (mut now, mut failed) = (s(0), 0);
        let mut lengths = Vec::new();
        for pause in [0, 1, 1, 1, 1, 400, 1] {
            now += s(pause);
            standing.observe(of(0, failed), &rule, now);
            failed += 1;
            assert!(standing.observe(of(0, failed), &rule, now + s(1)));
            let until = standing.ejected_until().unwrap();
            lengths.push((until - now - s(1)).as_secs());
            assert!(!standing.return_if_due(until - s(1), true) && standing.return_if_due(until, true));
            now = until;
        }
        assert_eq!(lengths, [30, 60, 120, 240, 300, 30, 60]);
    }

    #[test]
    fn weight_grows_from_when_it_is_fine_again() {
        let mut standing = Standing::new(None);
        assert_eq!(standing.ramp(s(20), s(0)), 100);
        standing.set_probed(false, "refused", s(5));
        assert_eq!((standing.is_fine(), standing.why()), (false, "refused"));
        standing.set_probed(true, "probes pass", s(10));
        let grown: Vec<u32> = [10, 15, 20, 29, 30].map(|at| standing.ramp(s(20), s(at))).to_vec();
        assert_eq!(grown, [1, 25, 50, 95, 100]);
        assert!(!standing.is_ramping());
    }
}
