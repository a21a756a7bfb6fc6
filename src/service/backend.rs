//! A backend: the address that connections are sent to, and what is counted about it.

use crate::schedule::Member;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Index of a backend for as long as a connection refers to it; the control thread gives it out and keeps it over reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u16);

/// One server of one pool.
#[derive(Debug)]
pub struct Backend {
    /// Its index in [`super::Snapshot::backends`].
    pub id: BackendId,
    /// The pool that it belongs to.
    pub pool: String,
    /// What the schedulers see.
    pub member: Arc<Member>,
    /// Connections confirmed since the daemon started.
    pub total_connections: AtomicU64,
    /// Where the search for the next free SNAT port starts.
    pub port_cursor: AtomicU32,
}

impl Backend {
    /// A backend without connections.
    pub fn new(id: BackendId, pool: &str, member: Arc<Member>) -> Self {
        Self { id, pool: pool.to_owned(), member, total_connections: AtomicU64::new(0), port_cursor: AtomicU32::new(0) }
    }

    /// Where connections are sent.
    pub fn address(&self) -> SocketAddr {
        self.member.address
    }
}
