//! Schedulers: which member of a pool gets the next connection.
//!
//! A scheduler sees of a backend only its [`Member`]. It is asked once a connection, never once a packet.

mod hash;
mod kind;
mod least_conn;
mod maglev;
mod round_robin;
mod source_hash;
mod weighted_round_robin;

pub use kind::{Kind, Settings, UnknownScheduler, build};
pub use least_conn::LeastConn;
pub use maglev::{BadTableSize, Maglev};
pub use round_robin::RoundRobin;
pub use source_hash::SourceHash;
pub use weighted_round_robin::WeightedRoundRobin;

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// What a scheduler may know of one backend. Shared between the snapshot that workers read and the control thread.
///
/// All fields are independent numbers, none of them publishes memory: every access is `Relaxed`.
#[derive(Debug)]
pub struct Member {
    /// Address and port of the backend; hashing schedulers know it by this.
    pub address: SocketAddr,
    weight: AtomicU32,
    eligible: AtomicBool,
    connections: AtomicU32,
}

impl Member {
    /// A member without connections. `weight` is 0 to 65535; 0 takes no new connections.
    pub fn new(address: SocketAddr, weight: u32, eligible: bool) -> Self {
        Self { address, weight: AtomicU32::new(weight), eligible: AtomicBool::new(eligible), connections: AtomicU32::new(0) }
    }

    /// The weight in force, 0 for a member that may not be chosen (down, draining or weight 0).
    pub fn weight(&self) -> u32 {
        if self.eligible.load(Relaxed) { self.weight.load(Relaxed) } else { 0 }
    }

    /// The weight as configured, whatever the health.
    pub fn configured_weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Sets the configured weight; the owner calls [`Scheduler::refresh`] afterwards.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether health and draining allow new connections.
    pub fn is_eligible(&self) -> bool {
        self.eligible.load(Relaxed)
    }

    /// Allows or forbids new connections; the owner calls [`Scheduler::refresh`] afterwards.
    pub fn set_eligible(&self, eligible: bool) {
        self.eligible.store(eligible, Relaxed);
    }

    /// Connections that are tracked now.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// A connection was confirmed.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A confirmed connection left the table.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}

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
    /// The name in the config, such as `maglev`.
    fn name(&self) -> &'static str;

    /// The index in `members` of the one to take, `None` when no member has weight.
    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize>;

    /// What [`Scheduler::pick`] would answer now, without counting the question (`weir explain`).
    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize>;

    /// Weights or eligibility changed: rebuild what was precomputed. Control thread only; workers go on picking.
    fn refresh(&self, members: &[Arc<Member>]);
}

/// The first member with weight at or after `from`, going round. What precomputed schedulers fall back to between a change of
/// eligibility and the [`Scheduler::refresh`] that follows it.
fn next_with_weight(members: &[Arc<Member>], from: usize) -> Option<usize> {
    let (before, after) = members.split_at_checked(from)?;
    let found = after.iter().position(|member| member.weight() > 0).map(|index| from + index);
    found.or_else(|| before.iter().position(|member| member.weight() > 0))
}

#[cfg(test)]
mod tests;
