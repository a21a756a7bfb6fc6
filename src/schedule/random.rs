//! By chance, in proportion to the weights.

use super::alias::Alias;
use super::hash::mix;
use super::{Kind, Member, Request, Scheduler, next_with_weight};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Draws a member for each connection. Nodes and workers that do so need to know nothing of each other.
#[derive(Debug)]
pub struct Random {
    table: ArcSwap<Alias>,
    draws: Draws,
}

/// Random bits that are known before they are taken: SplitMix64, whose n-th output follows from n alone.
#[derive(Debug)]
pub(super) struct Draws {
    seed: u64,
    // Relaxed: a ticket counter, it publishes nothing.
    ticket: AtomicU64,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ticket: AtomicU64::new(0) }
    }

    /// The next bits.
    pub(super) fn take(&self) -> u64 {
        self.bits(self.ticket.fetch_add(1, Relaxed))
    }

    /// What [`Draws::take`] would answer now.
    pub(super) fn peek(&self) -> u64 {
        self.bits(self.ticket.load(Relaxed))
    }

    fn bits(&self, ticket: u64) -> u64 {
        mix(self.seed.wrapping_add(ticket.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

/// The table of these members' weights in force.
pub(super) fn table(members: &[Arc<Member>]) -> Alias {
    Alias::new(members.iter().enumerate().map(|(index, member)| (index as u16, member.weight())))
}

impl Random {
    /// Ready to pick among these members. The same seed gives the same draws.
    pub fn new(seed: u64, members: &[Arc<Member>]) -> Self {
        Self { table: ArcSwap::from_pointee(table(members)), draws: Draws::new(seed) }
    }

    fn choose(&self, bits: u64, members: &[Arc<Member>]) -> Option<usize> {
        next_with_weight(members, self.table.load().draw(bits)?)
    }
}

impl Scheduler for Random {
    fn kind(&self) -> Kind {
        Kind::Random
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(self.draws.take(), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(self.draws.peek(), members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.table.store(Arc::new(table(members)));
    }
}
