//! What would become of a first packet, and why (`weir explain`): the same decisions as on the packet's way, nothing changed.

use super::prerouting::{check_source, opening};
use super::{Datapath, DropReason, NextHop, Unreachable};
use crate::conntrack::{ConnectionView, Direction, Expectation};
use crate::schedule::Request;
use crate::service::{Backend, Protocol, Service, Snapshot};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The answer.
#[derive(Debug)]
pub enum Preview {
    /// The packet belongs to this connection.
    Known(Box<ConnectionView>, Direction),
    /// It would open one.
    Opens {
        /// What the client connects to.
        service: Arc<Service>,
        /// Who would get it, were it the next one.
        backend: Arc<Backend>,
        /// Address and port toward the backend.
        target: SocketAddr,
        /// The way there.
        next: Next,
    },
    /// It would open the connection that was announced, by this way.
    Expected(Box<Expectation>, Next),
    /// It would be dropped.
    Dropped(DropReason),
}

/// The way to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// By this neighbour.
    Hop(NextHop),
    /// It would wait until this neighbour is resolved.
    Unresolved(IpAddr),
    /// There is none.
    NoRoute,
}

impl Datapath {
    /// What would become of a packet from `source` to `destination`; a TCP packet is taken for a SYN.
    pub fn preview(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Preview {
        let snapshot = self.snapshot.load();
        if let Some((view, direction)) = self.conntrack.find(protocol.number(), source, destination, &snapshot.timeouts) {
            return Preview::Known(Box::new(view), direction);
        }
        if let Some(expectation) = self.conntrack.expects(source.ip(), destination).filter(|_| protocol == Protocol::Tcp) {
            let next = self.next(expectation.target.ip());
            return Preview::Expected(Box::new(expectation), next);
        }
        let Some(service) = snapshot.services.find(destination.ip(), destination.port(), protocol) else {
            return Preview::Dropped(DropReason::NoService);
        };
        if !service.access.allows(source.ip()) {
            return Preview::Dropped(DropReason::AccessDenied);
        }
        if source.ip() == destination.ip() {
            return Preview::Dropped(DropReason::OwnSource);
        }
        if let Err(reason) = check_source(&self.next_hops, &snapshot, source.ip()) {
            return Preview::Dropped(reason);
        }
        let request = Request { client: source.ip(), client_port: source.port() };
        let chosen = service.scheduler.preview(&request, &service.pool.members);
        match chosen.and_then(|chosen| opening(service, chosen, destination.port())) {
            None => Preview::Dropped(DropReason::NoBackend),
            Some(opening) if !self.has_source(&snapshot, protocol, opening.target) => Preview::Dropped(DropReason::NoSnatPort),
            Some(opening) => Preview::Opens {
                service: Arc::clone(opening.service),
                backend: Arc::clone(opening.backend),
                target: opening.target,
                next: self.next(opening.target.ip()),
            },
        }
    }

    /// Whether some SNAT address and port toward this backend is free.
    fn has_source(&self, snapshot: &Snapshot, protocol: Protocol, target: SocketAddr) -> bool {
        let mut addresses = snapshot.snat.addresses().filter(|address| address.is_ipv4() == target.is_ipv4());
        let is_free = |address, port| {
            self.conntrack.find(protocol.number(), target, SocketAddr::new(address, port), &snapshot.timeouts).is_none()
        };
        // Others choose by keys and identifiers, of which only their packets know.
        !protocol.has_ports() || addresses.any(|address| snapshot.snat.ports.clone().any(|port| is_free(address, port)))
    }

    /// The way to this address, as a first packet would find it.
    pub fn next(&self, destination: IpAddr) -> Next {
        match self.next_hops.find(destination) {
            Ok(id) => self.next_hops.get(id).map_or(Next::Unresolved(destination), Next::Hop),
            Err(Unreachable::Unresolved(_, neighbour)) => Next::Unresolved(neighbour),
            Err(Unreachable::NoRoute) => Next::NoRoute,
        }
    }
}
