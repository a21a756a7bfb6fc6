//! Schedulers that take the member with the least of something: each says of what, a [`Tournament`] knows who has it.

use super::tournament::Tournament;
use super::{Kind, Member, Request, Scheduler};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Takes a member with the least key; those that have the same take turns.
///
/// Connections count from when they are confirmed. Two workers that ask at the same moment may get the same answer; the one that asks
/// next sees what became of it.
#[derive(Debug)]
pub struct LeastLoaded {
    kind: Kind,
    tree: Arc<Tournament>,
    /// Behind the member that was taken last. Relaxed: it publishes nothing.
    next: AtomicUsize,
}

impl LeastLoaded {
    pub(super) fn new(kind: Kind, tree: Arc<Tournament>) -> Self {
        Self { kind, tree, next: AtomicUsize::new(0) }
    }

    /// The tree, to be compared with what it follows from.
    #[cfg(test)]
    pub(super) fn tree(&self) -> &Tournament {
        &self.tree
    }
}

/// (connections + `more`) / weight in units of 2⁻³²: equal fractions give equal keys, and since weights are below 2¹⁶, two different ones
/// are further apart than one unit. At most 2⁶⁴ - 2³².
pub(super) fn share(connections: u32, more: u32, weight: u32) -> u64 {
    (u64::from(connections.saturating_add(more)) << 32) / u64::from(weight.max(1))
}

impl Scheduler for LeastLoaded {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn pick(&self, _request: &Request, _members: &[Arc<Member>]) -> Option<usize> {
        let taken = self.tree.least(self.next.load(Relaxed))?;
        self.next.store(taken + 1, Relaxed);
        Some(taken)
    }

    fn preview(&self, _request: &Request, _members: &[Arc<Member>]) -> Option<usize> {
        self.tree.least(self.next.load(Relaxed))
    }

    /// Nothing is to be done: members tell of their changes themselves.
    fn refresh(&self, _members: &[Arc<Member>]) {}
}
