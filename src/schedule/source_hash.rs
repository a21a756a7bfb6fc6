//! One client address, one member.

use super::affinity::{Affinity, Preferred};
use super::{Kind, Member, Request, Scheduler};
use std::sync::Arc;

/// Every connection of a client address goes to the same member, whatever its port and whichever service or node is asked, in proportion to
/// weights. When a member goes down, its clients move and no others (with half of all down, one in 65,536 of the others).
#[derive(Debug)]
pub struct SourceHash {
    affinity: Affinity,
}

/// Full members in the client's order that are passed over, before it shares those with room with everybody.
const PATIENCE: u32 = 2;

impl SourceHash {
    /// Ready to pick among these members. `size` has passed [`super::Maglev::check_table_size`].
    pub fn new(size: u32, members: &[Arc<Member>]) -> Self {
        Self { affinity: Affinity::new(size, members) }
    }

    fn choose(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        match self.affinity.first(request.client, members, PATIENCE, |_| true) {
            // Who is full is passed over by whoever asks: see `Capped`.
            Preferred::Suits(index) | Preferred::NoneSuits(index) => Some(index),
            Preferred::Nobody => self.affinity.stand_in(request.client, members),
        }
    }
}

impl Scheduler for SourceHash {
    fn kind(&self) -> Kind {
        Kind::SourceHash
    }

    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(request, members)
    }

    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(request, members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.affinity.refresh(members);
    }
}
