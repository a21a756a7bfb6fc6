//! The snapshot: everything of the config that workers read, swapped whole.

use super::{Backend, BackendId, Services};
use crate::conntrack::ConnectionView;
use foldhash::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Source addresses and ports toward the backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnatPool {
    /// Used toward IPv4 backends.
    pub v4: Vec<Ipv4Addr>,
    /// Used toward IPv6 backends.
    pub v6: Vec<Ipv6Addr>,
    /// Ports of each address, both ends included, never 0.
    pub ports: RangeInclusive<u16>,
}

impl SnatPool {
    /// All addresses, of both families.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().copied().map(IpAddr::V4).chain(self.v6.iter().copied().map(IpAddr::V6))
    }
}

/// What workers know of the config. Never changed once published; see [`arc_swap`].
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the reloads that changed something, from 1.
    pub generation: u64,
    /// Where first packets go.
    pub services: Services,
    /// Every backend that a live connection may refer to, by [`BackendId`]; also those that no pool has any more.
    pub backends: Vec<Option<Arc<Backend>>>,
    /// Source addresses toward the backends.
    pub snat: SnatPool,
    /// VIPs and SNAT addresses: no frame from outside may have one of them as its source.
    pub own_addresses: HashSet<IpAddr>,
    /// How long a connection may be silent, by service, protocol and state.
    pub timeouts: crate::conntrack::TimeoutPolicy,
    /// Who does not give way when the connection table is full.
    pub spared: crate::conntrack::Spared,
    /// How strict tracking is.
    pub tracking: crate::conntrack::l4proto::Settings,
}

impl Snapshot {
    /// The backend that a connection refers to.
    pub fn backend(&self, id: BackendId) -> Option<&Arc<Backend>> {
        self.backends.get(usize::from(id.0))?.as_ref()
    }

    /// A connection has left the table: its backend has one less.
    pub fn connection_closed(&self, connection: &ConnectionView) {
        if let Some(backend) = self.backend(BackendId(connection.backend)) {
            backend.member.connection_closed();
        }
    }
}
