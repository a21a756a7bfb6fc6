//! A backend: the address that connections are sent to, and what is counted about it.

use crate::conntrack::Millis;
use crate::schedule::Member;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

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
    /// Where the search for the next free SNAT port goes on.
    port_cursor: AtomicU32,
    /// When the search last found none: 1 (bit 32) and the time in milliseconds; 0 never.
    exhausted_at: AtomicU64,
}

impl Backend {
    /// A backend without connections.
    pub fn new(id: BackendId, pool: &str, member: Arc<Member>) -> Self {
        Self {
            id,
            pool: pool.to_owned(),
            member,
            total_connections: AtomicU64::new(0),
            port_cursor: AtomicU32::new(0),
            exhausted_at: AtomicU64::new(0),
        }
    }

    /// Where connections are sent.
    pub fn address(&self) -> SocketAddr {
        self.member.address
    }

    // Relaxed, all three: numbers that publish nothing.

    /// A number that every caller gets once, until it wraps.
    pub fn next_port_candidate(&self) -> u32 {
        self.port_cursor.fetch_add(1, Relaxed)
    }

    /// Whether every SNAT port was found taken less than `pause` milliseconds before `now`.
    pub fn ports_exhausted(&self, now: Millis, pause: u32) -> bool {
        let at = self.exhausted_at.load(Relaxed);
        at != 0 && now.since(Millis(at as u32)) < pause
    }

    /// Every SNAT port was found taken.
    pub fn set_ports_exhausted(&self, now: Millis) {
        self.exhausted_at.store(1 << 32 | u64::from(now.0), Relaxed);
    }
}
