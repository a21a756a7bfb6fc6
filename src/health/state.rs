//! When to probe, and when answers make a backend up or down. Pure: time is an argument, counted from any fixed moment.

use super::{Settings, Start};
use std::time::Duration;

/// What is known of one backend.
///
/// ```text
///        fall failures in a row
///    up ───────────────────────▶ down
///       ◀───────────────────────
///        rise successes in a row
/// ```
///
/// One probe is under way at most; the next one starts `interval` after the start of the last, however long that took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    up: bool,
    /// Results in a row that speak against `up`.
    against: u32,
    next_start: Duration,
    /// By how much the next start is put off.
    late: Duration,
    /// When the probe under way is given up.
    gives_up: Option<Duration>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing before [`State::deadline`].
    Nothing,
    /// Start a probe and call [`State::begin`].
    Probe,
    /// The probe under way has failed: it took too long. Call [`State::finish`].
    GiveUp,
}

impl State {
    /// Believed to be as `start` says; the first probe starts at `first`.
    pub fn new(start: Start, first: Duration) -> Self {
        Self { up: start.is_up(), against: 0, next_start: first, late: Duration::ZERO, gives_up: None }
    }

    /// Whether it takes connections.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it takes connections and the last probe, if there was one, passed.
    pub fn is_steady(&self) -> bool {
        self.up && self.against == 0
    }

    /// When there is something to do next.
    pub fn deadline(&self) -> Duration {
        self.gives_up.unwrap_or(self.next_start + self.late)
    }

    /// What is to be done at `now`.
    pub fn due(&self, now: Duration) -> Due {
        match self.gives_up {
            _ if now < self.deadline() => Due::Nothing,
            Some(_) => Due::GiveUp,
            None => Due::Probe,
        }
    }

    /// A probe starts. `random`: any number, of which follows by how much the next one is put off.
    pub fn begin(&mut self, now: Duration, settings: &Settings, random: u64) {
        self.gives_up = Some(now + settings.timeout);
        let planned = self.next_start + settings.interval;
        // Whoever comes late by more than an interval does not catch up: that would be a burst of probes.
        self.next_start = if planned > now { planned } else { now + settings.interval };
        self.late = settings.jitter.mul_f64(random as f64 / u64::MAX as f64);
    }

    /// The probe under way ended. `Some(up)` if that changes what is believed.
    pub fn finish(&mut self, passed: bool, settings: &Settings) -> Option<bool> {
        self.gives_up = None;
        if passed == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.up { settings.fall } else { settings.rise };
        if self.against < needed {
            return None;
        }
        self.up = passed;
        self.against = 0;
        Some(passed)
    }

    /// The probe under way says nothing about the backend, such as one that could not be sent.
    pub fn abandon(&mut self) {
        self.gives_up = None;
    }

    /// Other settings from now on: what is believed stays, counting begins anew, and the next probe is not later than they say.
    pub fn adopt(&mut self, now: Duration, settings: &Settings) {
        self.abandon();
        self.against = 0;
        self.next_start = self.next_start.min(now + settings.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Probe;

    fn settings(rise: u32, fall: u32) -> Settings {
        let (interval, timeout) = (Duration::from_millis(1000), Duration::from_millis(300));
        Settings { probe: Probe::Tcp, interval, jitter: Duration::ZERO, timeout, rise, fall, start: Start::Up, port: None }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// `+` is a passed probe, `-` a failed one; the answer is what is believed after each.
    fn beliefs(start: Start, settings: &Settings, results: &str) -> String {
        let mut state = State::new(start, ms(0));
        let mut now = ms(0);
        let believe = |result| {
            now = state.deadline().max(now);
            state.begin(now, settings, 0);
            let before = state.is_up();
            let change = state.finish(result == '+', settings);
            assert_eq!(change, (state.is_up() != before).then_some(state.is_up()), "a change is told, and only a change");
            if state.is_up() { 'U' } else { 'd' }
        };
        results.chars().map(believe).collect()
    }

    #[test]
    fn rises_and_falls_after_so_many_in_a_row() {
        let two_three = settings(2, 3);
        assert_eq!(beliefs(Start::Up, &two_three, "--+---+-++--+---"), "UUUUUddddUUUUUUd");
        assert_eq!(beliefs(Start::Down, &two_three, "+-++-"), "dddUU");
        assert_eq!(beliefs(Start::Up, &settings(1, 1), "-+-+"), "dUdU");
    }

    #[test]
    fn probes_start_an_interval_apart_and_are_given_up_at_their_timeout() {
        let settings = settings(2, 3);
        let mut state = State::new(Start::Up, ms(50));
        assert_eq!((state.due(ms(49)), state.due(ms(50))), (Due::Nothing, Due::Probe));
        state.begin(ms(60), &settings, 0);
        assert_eq!((state.deadline(), state.due(ms(359)), state.due(ms(360))), (ms(360), Due::Nothing, Due::GiveUp));
        state.finish(false, &settings);
        assert_eq!(state.deadline(), ms(1050), "from start to start, without drift");
    }

    #[test]
    fn starts_are_put_off_by_chance_and_do_not_drift() {
        let settings = Settings { jitter: ms(200), ..settings(2, 3) };
        let mut state = State::new(Start::Up, ms(0));
        let mut starts = Vec::new();
        for random in [0, u64::MAX / 2, u64::MAX, 0] {
            starts.push(state.deadline());
            state.begin(state.deadline(), &settings, random);
            state.finish(true, &settings);
        }
        assert_eq!(starts, [ms(0), ms(1000), ms(2100), ms(3200)]);
        assert_eq!(state.deadline(), ms(4000));
    }

    #[test]
    fn who_was_stopped_for_long_does_not_catch_up() {
        let settings = settings(2, 3);
        let mut state = State::new(Start::Up, ms(0));
        state.begin(ms(10_500), &settings, 0);
        state.finish(true, &settings);
        assert_eq!(state.deadline(), ms(11_500));
    }

    #[test]
    fn a_probe_that_says_nothing_counts_for_nothing() {
        let settings = settings(2, 2);
        let mut state = State::new(Start::Up, ms(0));
        state.begin(ms(0), &settings, 0);
        assert_eq!(state.finish(false, &settings), None);
        state.begin(ms(1000), &settings, 0);
        state.abandon();
        assert_eq!(state.due(ms(1999)), Due::Nothing);
        state.begin(ms(2000), &settings, 0);
        assert_eq!(state.finish(false, &settings), Some(false), "two failures in a row, none between them");
    }

    #[test]
    fn new_settings_are_followed_at_once() {
        let slow = Settings { interval: ms(3_600_000), ..settings(2, 3) };
        let mut state = State::new(Start::Up, ms(0));
        state.begin(ms(0), &slow, 0);
        state.adopt(ms(500), &settings(2, 3));
        assert_eq!(state.deadline(), ms(1500));
        assert!(state.is_up());
    }
}
