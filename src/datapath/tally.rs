//! What one worker counts while it works on a burst.

use super::Counters;

/// Counted during a burst, added to the shared counters at its end.
#[derive(Default)]
pub(super) struct Tally {
    pub established: u64,
    pub opened: u64,
    /// Of them, those that found no free SNAT port at home though homes are known.
    pub homeless: u64,
    /// First replies, and those that came in at the worker that has opened the connection.
    pub first_replies: u64,
    pub first_replies_at_home: u64,
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
        if self.homeless + self.first_replies > 0 {
            counters.homeless.add(self.homeless);
            counters.first_replies.add(self.first_replies);
            counters.first_replies_at_home.add(self.first_replies_at_home);
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
