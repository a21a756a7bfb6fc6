//! What a worker counts: written by that worker alone, read by anyone.

use super::{DROP_REASONS, DropReason};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of one worker.
///
/// Conservation: at any quiet moment `rx + originated = tx + waiting + Σ drops`, exactly. A frame that is answered in place
/// (an ICMP error) counts as received and as transmitted; `originated` counts frames that weir sent without having received one.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Frames taken from RX rings.
    pub rx: Counter,
    /// Bytes of them.
    pub rx_bytes: Counter,
    /// Frames put on TX rings.
    pub tx: Counter,
    /// Bytes of them.
    pub tx_bytes: Counter,
    /// Frames that were answered instead of forwarded (also in `tx`).
    pub answered: Counter,
    /// Frames sent without a received one.
    pub originated: Counter,
    /// Frames that wait for a neighbour now.
    pub waiting: Counter,
    /// Connections confirmed.
    pub new_connections: Counter,
    /// Of them, those that got a SNAT port whose replies come in at another worker, because none at home was free or it has none; only where homes are known.
    pub homeless: Counter,
    /// Connections whose first reply came in here.
    pub first_replies: Counter,
    /// Of them, those that this worker has opened.
    pub first_replies_at_home: Counter,
    /// Connections that gave way to new ones because the table was full.
    pub early_drops: Counter,
    /// Packets of connections that were known.
    pub established: Counter,
    /// ICMP errors about packets of known connections, sent on.
    pub related: Counter,
    /// Connections that helpers have announced.
    pub expectations: Counter,
    /// Those that were opened.
    pub expected: Counter,
    /// Announcements that were not believed: of an address that is not their sender's.
    pub refused_expectations: Counter,
    /// Bursts with at least one frame.
    pub bursts: Counter,
    by_reason: Drops,
}

#[derive(Debug)]
struct Drops([Counter; DROP_REASONS]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Counters {
    /// The counter of one drop reason.
    pub fn drops(&self, reason: DropReason) -> &Counter {
        &self.by_reason.0[reason as usize]
    }

    /// All drops together.
    pub fn dropped(&self) -> u64 {
        self.by_reason.0.iter().map(Counter::get).sum()
    }
}

/// A number with one writer. `Relaxed`: readers want the number, it publishes nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call it: load and store, not an atomic addition.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` off. Only the owning worker may call it.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
