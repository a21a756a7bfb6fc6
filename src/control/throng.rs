//! What the log says when the same happens to many backends at once: the first lines, and then how many more there were.

use crate::worker::Monotonic;
use tracing::Level;

/// Lines of one throng that are logged where a single one would be.
const MOST: usize = 16;
/// Nanoseconds from the first line of a throng to its sum; what comes later begins another one.
const LASTS: u64 = 1_000_000_000;
const NEVER: Monotonic = Monotonic(u64::MAX);

/// Lines of one kind.
#[derive(Debug, Default)]
pub(super) struct Throng {
    ends: Option<Monotonic>,
    told: usize,
    left_out: usize,
}

impl Throng {
    /// At which level the next line is logged, which alone would have this one.
    pub(super) fn level(&mut self, alone: Level, now: Monotonic) -> Level {
        if self.ends.is_none_or(|ends| ends <= now) {
            (self.ends, self.told) = (Some(Monotonic(now.0 + LASTS)), 0);
        }
        if self.told < MOST {
            self.told += 1;
            return alone;
        }
        self.left_out += 1;
        Level::DEBUG
    }

    /// When [`Throng::sum`] has something to say.
    pub(super) fn next(&self) -> Monotonic {
        self.ends.filter(|_| self.left_out > 0).unwrap_or(NEVER)
    }

    /// How many lines were logged for debugging alone, once it is over.
    pub(super) fn sum(&mut self, now: Monotonic) -> Option<usize> {
        (self.next() <= now).then(|| std::mem::take(&mut self.left_out))
    }
}

/// As the macro of that name, with a level that is known when it runs.
macro_rules! log {
    ($level:expr, $($what:tt)+) => {
        match $level {
            tracing::Level::WARN => tracing::warn!($($what)+),
            tracing::Level::INFO => tracing::info!($($what)+),
            _ => tracing::debug!($($what)+),
        }
    };
}
pub(super) use log;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_logged_and_the_others_are_counted() {
        let mut throng = Throng::default();
        let at = |millis: u64| Monotonic(millis * 1_000_000);
        let levels: Vec<Level> = (0..1000).map(|millis| throng.level(Level::WARN, at(millis))).collect();
        assert_eq!((&levels[..16], &levels[16..]), (&[Level::WARN; 16][..], &[Level::DEBUG; 984][..]));
        assert_eq!((throng.next(), throng.sum(at(999)), throng.sum(at(1000))), (at(1000), None, Some(984)));
        assert_eq!((throng.next(), throng.sum(at(5000))), (NEVER, None));
        assert_eq!(throng.level(Level::INFO, at(5000)), Level::INFO, "another one begins");
        assert_eq!(throng.next(), NEVER, "of one line nothing is left out");
    }
}
