//! The first tier that has anybody.

use super::weighted_round_robin::smooth_sequence;
use super::{Kind, Member, Request, Scheduler};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Members of the lowest priority number among those that may be chosen share all connections by weighted round robin; the others
/// wait until none of these is left. Connections stay where they are when a better tier comes back.
#[derive(Debug)]
pub struct Failover {
    /// Turns of the tier that serves.
    sequence: ArcSwap<Vec<u16>>,
    // Relaxed: a ticket counter, it publishes nothing.
    turn: AtomicUsize,
}

fn tier_sequence(members: &[Arc<Member>]) -> Vec<u16> {
    let first = members.iter().filter(|member| member.weight() > 0).map(|member| member.priority()).min();
    let weight = |member: &Arc<Member>| if Some(member.priority()) == first { member.weight() } else { 0 };
    smooth_sequence(members.iter().map(weight))
}

impl Failover {
    /// Ready to pick among these members.
    pub fn new(members: &[Arc<Member>]) -> Self {
        Self { sequence: ArcSwap::from_pointee(tier_sequence(members)), turn: AtomicUsize::new(0) }
    }

    fn take_turn(&self, turn: usize, members: &[Arc<Member>]) -> Option<usize> {
        let sequence = self.sequence.load();
        let planned = usize::from(sequence[turn.checked_rem(sequence.len())?]);
        match members.get(planned) {
            Some(member) if member.weight() > 0 => Some(planned),
            _ => stand_in(members, planned),
        }
    }
}

/// Between a change of eligibility and the refresh that follows it: the next one of the first tier that has anybody.
#[cold]
fn stand_in(members: &[Arc<Member>], from: usize) -> Option<usize> {
    let (before, after) = members.split_at_checked(from)?;
    let around = after.iter().zip(from..).chain(before.iter().zip(0..));
    around.filter(|(member, _)| member.weight() > 0).min_by_key(|(member, _)| member.priority()).map(|(_, index)| index)
}

impl Scheduler for Failover {
    fn kind(&self) -> Kind {
        Kind::Failover
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.fetch_add(1, Relaxed), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.load(Relaxed), members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.sequence.store(Arc::new(tier_sequence(members)));
    }
}
