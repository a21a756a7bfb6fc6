//! How often the log says the same: what a client can cause at will must not fill it.

use crate::worker::Monotonic;

/// Nanoseconds between two complaints.
const PAUSE: u64 = 1_000_000_000;

/// When the last complaint was logged, and how many were left out since.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    quiet_until: Option<Monotonic>,
    left_out: u64,
}

impl Complaints {
    /// How many were left out since the last one that was logged; `None`: this one shall be left out, too.
    pub(super) fn due(&mut self, now: Monotonic) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.left_out += 1;
            return None;
        }
        self.quiet_until = Some(Monotonic(now.0 + PAUSE));
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_is_logged_and_the_others_are_counted() {
        let mut complaints = Complaints::default();
        let due = |complaints: &mut Complaints, millis: u64| complaints.due(Monotonic(millis * 1_000_000));
        assert_eq!(due(&mut complaints, 5), Some(0));
        assert_eq!(due(&mut complaints, 5), None);
        assert_eq!(due(&mut complaints, 1004), None);
        assert_eq!(due(&mut complaints, 1005), Some(2));
        assert_eq!(due(&mut complaints, 9000), Some(0));
    }
}
