//! The member with the fewest connections for its weight.

use super::{Member, Request, Scheduler};
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Picks where (connections + 1) / weight is least: the load that the member would have with this connection. Equal ones take turns,
/// also because connections are counted only once they are confirmed: a burst must not pile up on one member.
#[derive(Debug, Default)]
pub struct LeastConn {
    // Relaxed: a ticket counter, it publishes nothing.
    turn: AtomicUsize,
}

/// (connections + 1) / weight, compared without dividing.
#[derive(Clone, Copy)]
struct Load {
    connections: u64,
    weight: u64,
}

impl Load {
    /// `None`: the member takes no connections.
    fn of(member: &Member) -> Option<Self> {
        let weight = u64::from(member.weight());
        (weight > 0).then(|| Self { connections: u64::from(member.connections()) + 1, weight })
    }

    fn cmp(self, other: Self) -> Ordering {
        // Below 2^33 times 2^32: no overflow.
        (self.connections * other.weight).cmp(&(other.connections * self.weight))
    }
}

fn take_least(turn: usize, members: &[Arc<Member>]) -> Option<usize> {
    let loads = || members.iter().enumerate().filter_map(|(index, member)| Some((index, Load::of(member)?)));
    let (first, least) = loads().min_by(|a, b| a.1.cmp(b.1))?;
    let tied = || loads().filter(|(_, load)| load.cmp(least) == Ordering::Equal).map(|(index, _)| index);
    // Counts move between the passes; then the first pass's answer stands.
    let nth = turn.checked_rem(tied().count());
    Some(nth.and_then(|nth| tied().nth(nth)).unwrap_or(first))
}

impl Scheduler for LeastConn {
    fn name(&self) -> &'static str {
        super::Kind::LeastConn.name()
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        take_least(self.turn.fetch_add(1, Relaxed), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        take_least(self.turn.load(Relaxed), members)
    }

    fn refresh(&self, _members: &[Arc<Member>]) {}
}
