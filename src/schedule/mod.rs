//! Schedulers: which member of a pool gets the next connection.
//!
//! A scheduler sees of a backend only its [`Member`]. It is asked once a connection, never once a packet. What it chooses by is made ready
//! when weights or eligibility change ([`Scheduler::refresh`]) or follows the counts of connections ([`tournament`], [`load`]), so that a choice
//! costs the same among three members and among a thousand.

mod affinity;
mod alias;
mod bounded_hash;
mod capped;
mod failover;
mod first_available;
mod hash;
mod kind;
mod least_conn;
mod least_loaded;
mod load;
mod maglev;
mod member;
mod never_queue;
mod places;
mod power_of_two_choices;
mod random;
mod room;
mod round_robin;
mod shortest_expected_delay;
mod source_hash;
mod tournament;
mod weighted_least_conn;
mod weighted_round_robin;

pub use bounded_hash::BoundedHash;
pub use failover::Failover;
pub use kind::{Builder, Kind, Settings, UnknownScheduler, build};
pub use least_loaded::LeastLoaded;
pub use maglev::{BadTableSize, Maglev};
pub use member::Member;
pub use power_of_two_choices::PowerOfTwoChoices;
pub use random::Random;
pub use round_robin::RoundRobin;
pub use source_hash::SourceHash;
pub use weighted_round_robin::WeightedRoundRobin;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

/// Who asks for a backend.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Source address of the first packet.
    pub client: IpAddr,
    /// Source port of the first packet.
    pub client_port: u16,
}

/// Picks a member for a new connection. Called by all workers at once: state inside is atomic, nothing locks or allocates.
pub trait Scheduler: Send + Sync + Debug {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// The name in the config, such as `maglev`.
    fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The index in `members`, which are those that it was made for, of the one to take; `None` when no member with weight has room.
    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize>;

    /// What [`Scheduler::pick`] would answer now, without counting the question (`weir explain`).
    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize>;

    /// Weights or eligibility changed: rebuild what was precomputed. Control thread only; workers go on picking.
    fn refresh(&self, members: &[Arc<Member>]);
}

/// The first member with weight at or after `from`, going round. What precomputed schedulers fall back to between a change of
/// eligibility and the [`Scheduler::refresh`] that follows it.
fn next_with_weight(members: &[Arc<Member>], from: usize) -> Option<usize> {
    if members.get(from)?.weight() > 0 {
        return Some(from);
    }
    search_with_weight(members, from)
}

#[cold]
fn search_with_weight(members: &[Arc<Member>], from: usize) -> Option<usize> {
    let (before, after) = members.split_at_checked(from)?;
    let found = after.iter().position(|member| member.weight() > 0).map(|index| from + index);
    found.or_else(|| before.iter().position(|member| member.weight() > 0))
}

#[cfg(test)]
mod tests;
