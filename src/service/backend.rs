//! A backend: the address that connections are sent to, and what is counted about it.

use super::{Exhausted, Weight};
use crate::conntrack::Millis;
use crate::schedule::Member;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// What its weight is made of. The control thread's alone; [`super::Pool::weigh`] tells the schedulers.
    weight: Mutex<Weight>,
    /// Connections confirmed since the daemon started.
    pub total_connections: AtomicU64,
    /// TCP handshakes that it answered.
    pub answered: AtomicU32,
    /// TCP handshakes that it refused or did not answer.
    pub failed: AtomicU32,
    /// The next hop toward it as a first packet last looked it up: 1, epoch (16), number (16); 0 not yet.
    hop: AtomicU64,
    /// Where the search for the next free SNAT port goes on.
    port_cursor: AtomicU32,
    /// Targets for which the search found none.
    exhausted: [Exhausted; EXHAUSTED],
}

/// Targets of one backend that are remembered as without a free SNAT port: one for each protocol, more for services on every port.
const EXHAUSTED: usize = 16;

impl Backend {
    /// A backend without connections.
    pub fn new(id: BackendId, pool: &str, member: Arc<Member>) -> Self {
        Self {
            id,
            pool: pool.to_owned(),
            weight: Mutex::new(Weight::new(member.configured_weight())),
            member,
            total_connections: AtomicU64::new(0),
            answered: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            hop: AtomicU64::new(0),
            port_cursor: AtomicU32::new(0),
            exhausted: Default::default(),
        }
    }

    /// Where connections are sent.
    pub fn address(&self) -> SocketAddr {
        self.member.address
    }

    /// What its weight is made of.
    pub fn weight(&self) -> Weight {
        *self.weight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what its weight is made of; the owner calls [`super::Pool::weigh`] afterwards.
    pub fn change_weight(&self, change: impl FnOnce(&mut Weight)) {
        change(&mut self.weight.lock().unwrap_or_else(PoisonError::into_inner));
    }

    // Relaxed, all of them: numbers that publish nothing.

    /// The next search for a free SNAT port begins with this candidate.
    pub fn begin_ports_at(&self, candidate: u32) {
        self.port_cursor.store(candidate, Relaxed);
    }

    /// The next hop toward this backend, if it was looked up at this epoch.
    pub fn hop(&self, epoch: u16) -> Option<u16> {
        let hop = self.hop.load(Relaxed);
        (hop >> 16 == 1 << 16 | u64::from(epoch)).then_some(hop as u16)
    }

    /// Notes a next hop that was looked up at `epoch`.
    pub fn set_hop(&self, epoch: u16, hop: u16) {
        self.hop.store(1 << 32 | u64::from(epoch) << 16 | u64::from(hop), Relaxed);
    }

    /// Where the search for a free SNAT port begins: one further for every caller.
    pub fn next_port_candidate(&self) -> u32 {
        self.port_cursor.fetch_add(1, Relaxed)
    }

    /// That many candidates behind the first one were tried too: the next search begins behind them.
    pub fn skip_port_candidates(&self, tried: u32) {
        if tried > 0 {
            self.port_cursor.fetch_add(tried, Relaxed);
        }
    }

    /// Whether every SNAT port toward this port of the backend was found taken less than `pause` milliseconds before `now`.
    pub fn ports_exhausted(&self, (protocol, port): (u8, u16), now: Millis, pause: u32) -> bool {
        self.exhausted[exhausted_slot(protocol, port)].was(target_number(protocol, port), now, pause)
    }

    /// Every SNAT port toward this port of the backend was found taken.
    pub fn set_ports_exhausted(&self, (protocol, port): (u8, u16), now: Millis) {
        self.exhausted[exhausted_slot(protocol, port)].note(target_number(protocol, port), now);
    }
}

fn exhausted_slot(protocol: u8, port: u16) -> usize {
    usize::from(port ^ u16::from(protocol)) % EXHAUSTED
}

fn target_number(protocol: u8, port: u16) -> u32 {
    u32::from(protocol) << 16 | u32::from(port)
}
