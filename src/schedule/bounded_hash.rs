//! One client address, one member, as long as that member is not overloaded: consistent hashing with bounded loads (Mirrokni, Thorup,
//! Zadimoghaddam, SODA 2018).

use super::affinity::{Affinity, Preferred};
use super::load::Load;
use super::tournament::Tournament;
use super::{Kind, Member, Request, Scheduler};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// As [`super::SourceHash`], but no member gets more than `factor` percent of its share of all connections, rounded up. A client whose member is
/// has it goes to the next one in its own order, and back home when there is room. When the first three all have theirs, or home is at a limit
/// of its own, the one with the least load for its weight takes the connection: it always has room.
#[derive(Debug)]
pub struct BoundedHash {
    affinity: Affinity,
    load: Arc<Load>,
    least: Arc<Tournament>,
    /// Percent, from 100.
    factor: u32,
    /// Behind the member that was taken last when all preferred ones were full. Relaxed: it publishes nothing.
    next: AtomicUsize,
}

/// Members at a limit of their own that are passed over before the least loaded one is asked for.
const PATIENCE: u32 = 1;

impl BoundedHash {
    /// Percent of its share that a member may have, unless set.
    pub const DEFAULT_FACTOR: u32 = 125;
    /// The smallest factor: exactly the share.
    pub const LEAST_FACTOR: u32 = 100;
    /// The largest factor.
    pub const MOST_FACTOR: u32 = 1000;

    /// `least` ranks by (connections + 1) / weight, `load` counts the same members.
    pub(super) fn new(affinity: Affinity, load: Arc<Load>, least: Arc<Tournament>, factor: u32) -> Self {
        Self { affinity, load, least, factor, next: AtomicUsize::new(0) }
    }

    /// The member, and whether it is the least loaded one because no preferred one had room.
    fn choose(&self, request: &Request, members: &[Arc<Member>]) -> Option<(usize, bool)> {
        let (connections, weight) = self.load.read();
        // connections of a member < ⌈factor / 100 × (all + 1) × its weight / all weights⌉, without dividing; a whole number is below the
        // rounded-up one exactly if it is below the one that is not rounded.
        let share = u128::from(self.factor) * u128::from(connections + 1);
        let has_share =
            |member: &Member| u128::from(member.connections()) * u128::from(100 * weight) < share * u128::from(member.weight());
        match self.affinity.first(request.client, members, PATIENCE, has_share) {
            Preferred::Suits(index) => Some((index, false)),
            Preferred::NoneSuits(_) | Preferred::Nobody => Some((self.least.least(self.next.load(Relaxed))?, true)),
        }
    }
}

impl Scheduler for BoundedHash {
    fn kind(&self) -> Kind {
        Kind::BoundedHash
    }

    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        let (taken, least) = self.choose(request, members)?;
        if least {
            self.next.store(taken + 1, Relaxed);
        }
        Some(taken)
    }

    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(request, members).map(|(index, _)| index)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.affinity.refresh(members);
    }
}
