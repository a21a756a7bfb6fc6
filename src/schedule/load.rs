//! All connections and all weights of the members that may be chosen.

use super::member::{Member, Standing, Watch};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Sums over members, exact whenever none of them is changing.
#[derive(Debug)]
pub(super) struct Load {
    /// What each member has in the sums: connections (32), weight (32).
    counted: Box<[AtomicU64]>,
    sums: CachePadded<Sums>,
}

/// Signed, for a member's change may be taken off before another thread's has been added. Relaxed: whoever reads them takes them as
/// hints, and additions do not need an order.
#[derive(Debug, Default)]
struct Sums {
    connections: AtomicI64,
    weight: AtomicI64,
}

impl Load {
    /// Sums that follow these members for as long as somebody holds them.
    pub(super) fn new(members: &[Arc<Member>]) -> Arc<Self> {
        let counted = members.iter().map(|_| AtomicU64::new(0)).collect();
        let load = Arc::new(Self { counted, sums: CachePadded::default() });
        for (index, member) in members.iter().enumerate() {
            let weak = Arc::downgrade(&load);
            member.watch(weak, index);
        }
        load
    }

    /// All connections and all weights.
    pub(super) fn read(&self) -> (u64, u64) {
        let read = |sum: &AtomicI64| u64::try_from(sum.load(Relaxed)).unwrap_or(0);
        (read(&self.sums.connections), read(&self.sums.weight))
    }
}

impl Watch for Load {
    fn changed(&self, index: usize, member: &Member) {
        let counted = &self.counted[index];
        loop {
            let now = match member.standing() {
                Standing { weight: 0, .. } => 0,
                Standing { connections, weight, .. } => u64::from(connections) << 32 | u64::from(weight),
            };
            // SeqCst: as in `tournament::settle`, the look above comes after the last store of this thread in the order of all threads.
            let before = counted.swap(now, SeqCst);
            if before == now {
                return;
            }
            // Each change of `counted` is added by whoever made it: at rest the sums are those of all members.
            let difference = |of: fn(u64) -> i64| of(now) - of(before);
            self.sums.connections.fetch_add(difference(|word| (word >> 32) as i64), Relaxed);
            self.sums.weight.fetch_add(difference(|word| word as u32 as i64), Relaxed);
        }
    }
}
