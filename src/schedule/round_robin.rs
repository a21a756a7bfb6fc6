//! Each member in turn, whatever its weight.

use super::{Kind, Member, Request, Scheduler, next_with_weight};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Members with weight take turns; the size of a weight does not matter, only that it is not 0.
#[derive(Debug)]
pub struct RoundRobin {
    /// Those with weight: leaving one out must not give its successor two turns.
    circle: ArcSwap<Vec<u16>>,
    // Relaxed: a ticket counter, it publishes nothing.
    turn: AtomicUsize,
}

fn circle(members: &[Arc<Member>]) -> Vec<u16> {
    let with_weight = members.iter().enumerate().filter(|(_, member)| member.weight() > 0);
    with_weight.map(|(index, _)| index as u16).collect()
}

impl RoundRobin {
    /// Ready to pick among these members.
    pub fn new(members: &[Arc<Member>]) -> Self {
        Self { circle: ArcSwap::from_pointee(circle(members)), turn: AtomicUsize::new(0) }
    }

    fn take_turn(&self, turn: usize, members: &[Arc<Member>]) -> Option<usize> {
        let circle = self.circle.load();
        let place = turn.checked_rem(circle.len())?;
        next_with_weight(members, usize::from(circle[place]))
    }
}

impl Scheduler for RoundRobin {
    fn kind(&self) -> Kind {
        Kind::RoundRobin
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.fetch_add(1, Relaxed), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.load(Relaxed), members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.circle.store(Arc::new(circle(members)));
    }
}
