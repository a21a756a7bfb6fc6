//! What one worker counts while it works on a burst.

use super::Counters;

/// Counted during a burst, added to the shared counters at its end.
#[derive(Default)]
pub(super) struct Tally {
    pub established: u64,
    pub opened: u64,
    /// Connections that this worker ended.
    pub ended: u64,
    pub early_drops: u64,
    pub answered: u64,
    pub related: u64,
    /// Made by helpers, opened, and refused.
    pub expectations: u64,
    pub expected: u64,
    pub refused_expectations: u64,
}

impl Tally {
    pub(super) fn add_to(&self, counters: &Counters) {
        counters.established.add(self.established);
        if self.opened + self.answered + self.related > 0 {
            counters.new_connections.add(self.opened);
            counters.answered.add(self.answered);
            counters.related.add(self.related);
        }
        if self.expectations + self.expected + self.refused_expectations > 0 {
            counters.expectations.add(self.expectations);
            counters.expected.add(self.expected);
            counters.refused_expectations.add(self.refused_expectations);
        }
        if self.early_drops > 0 {
            counters.early_drops.add(self.early_drops);
        }
    }
}
