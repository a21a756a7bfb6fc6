//! The less loaded of two that were drawn.

use super::alias::Alias;
use super::hash::mix;
use super::random::{Draws, table};
use super::room::Room;
use super::{Kind, Member, Request, Scheduler, next_with_weight};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Draws two members in proportion to their weights and takes the one with the least (connections + 1) / weight, which is nearly as even as
/// looking at all of them (Mitzenmacher, IEEE Transactions on Parallel and Distributed Systems 12, 2001). Several nodes that each know only
/// their own connections do not all run to the same idle member, as they would with `least_conn`.
#[derive(Debug)]
pub struct PowerOfTwoChoices {
    table: ArcSwap<Alias>,
    /// Where members have limits: those with room, who are drawn instead.
    room: Option<Arc<Room>>,
    draws: Draws,
}

/// Draws of the second one until it is another than the first: with two equal members, one pick in 8 looks at one of them only.
const DRAWS: usize = 3;

impl PowerOfTwoChoices {
    /// Ready to pick among these members. The same seed gives the same draws.
    pub fn new(seed: u64, members: &[Arc<Member>]) -> Self {
        Self { table: ArcSwap::from_pointee(table(members)), room: None, draws: Draws::new(seed) }
    }

    /// Draws only from those that have room, if some have limits.
    pub(super) fn within(mut self, room: Option<Arc<Room>>) -> Self {
        self.room = room;
        self
    }

    fn choose(&self, bits: u64, members: &[Arc<Member>]) -> Option<usize> {
        match &self.room {
            Some(room) => less_loaded_of_two(|bits| room.draw(bits), bits, members),
            None => {
                let table = self.table.load();
                next_with_weight(members, less_loaded_of_two(|bits| table.draw(bits), bits, members)?)
            }
        }
    }
}

fn less_loaded_of_two(draw: impl Fn(u64) -> Option<usize>, bits: u64, members: &[Arc<Member>]) -> Option<usize> {
    let first = draw(bits)?;
    let mut more = bits;
    let mut redraw = || {
        more = mix(more);
        draw(more)
    };
    let second = (0..DRAWS).find_map(|_| redraw().filter(|second| *second != first)).unwrap_or(first);
    Some(less_loaded(first, second, members))
}

fn less_loaded(first: usize, second: usize, members: &[Arc<Member>]) -> usize {
    let (Some(a), Some(b)) = (members.get(first), members.get(second)) else { return first };
    // (connections + 1) / weight without dividing, infinite without weight. Below 2³³ times 2³².
    let load = |one: &Member, other: &Member| (u64::from(one.connections()) + 1) * u64::from(other.weight());
    let is_out = |one: &Member| one.weight() == 0 || !one.has_room();
    if is_out(a) || !is_out(b) && load(b, a) < load(a, b) { second } else { first }
}

impl Scheduler for PowerOfTwoChoices {
    fn kind(&self) -> Kind {
        Kind::PowerOfTwoChoices
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
