//! Each member in turn, whatever its weight.

use super::{Member, Request, Scheduler};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Members with weight take turns; the size of a weight does not matter, only that it is not 0.
#[derive(Debug, Default)]
pub struct RoundRobin {
    // Relaxed: a ticket counter, it publishes nothing.
    turn: AtomicUsize,
}

/// The `turn`-th among the members with weight: leaving one out must not give its successor two turns.
fn take_turn(turn: usize, members: &[Arc<Member>]) -> Option<usize> {
    let with_weight = || members.iter().enumerate().filter(|(_, member)| member.weight() > 0).map(|(index, _)| index);
    let choices = with_weight().count();
    let nth = turn.checked_rem(choices)?;
    // Somebody may have left between the two passes; whoever is left then is as good.
    with_weight().nth(nth).or_else(|| with_weight().next())
}

impl Scheduler for RoundRobin {
    fn name(&self) -> &'static str {
        super::Kind::RoundRobin.name()
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        take_turn(self.turn.fetch_add(1, Relaxed), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        take_turn(self.turn.load(Relaxed), members)
    }

    fn refresh(&self, _members: &[Arc<Member>]) {}
}
