//! What would become of a first packet, and why (`weir explain`): the same decisions as on the packet's way, nothing changed.

use super::admission::{Nobody, nobody, would_strike};
use super::prerouting::{check_source, target};
use super::verdict::{Verdict, Way};
use super::{Datapath, DropReason, NextHop, Unreachable};
use crate::conntrack::{ConnectionView, Direction, Expectation, Family, Millis, V4, V6};
use crate::packet::{Malformed, ipv4, ipv6};
use crate::schedule::Request;
use crate::service::{Backend, Limit, OverLimit, Protocol, Service, Snapshot};
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
        /// Why it.
        why: Why,
        /// Address and port toward the backend.
        target: SocketAddr,
        /// The way there.
        next: Next,
    },
    /// It would open the connection that was announced, by this way.
    Expected(Box<Expectation>, Next),
    /// It would be dropped.
    Dropped(DropReason),
    /// Its sender would be told that it is refused.
    Rejected(DropReason),
}

/// Who decides on a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The scheduler.
    Scheduled,
    /// The client's last connection went there; it is remembered for so many milliseconds still.
    Persists(u32),
    /// Nobody of the pool can be chosen: the backup pool's scheduler.
    Backup,
    /// This limit is struck: the backup pool's scheduler.
    Over(Limit),
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
    pub fn preview(&self, protocol: Protocol, source: SocketAddr, destination: SocketAddr, now: Millis) -> Preview {
        if let Err(malformed) = check_ends(source.ip(), destination.ip()) {
            return Preview::Dropped(malformed.into());
        }
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
        if let Err(reason) = check_source(&self.next_hops, &snapshot, source.ip()) {
            return Preview::Dropped(reason);
        }
        let request = Request { client: source.ip(), client_port: source.port() };
        let (backend, why) = match self.preview_choice(service, &request, now) {
            Ok(chosen) => chosen,
            Err(Verdict::Reject(reason)) => return Preview::Rejected(reason),
            Err(Verdict::Drop(reason)) => return Preview::Dropped(reason),
            Err(_) => return Preview::Dropped(DropReason::NoBackend),
        };
        let target = target(service, backend, destination.port());
        if !self.has_source(&snapshot, protocol, target) {
            return Preview::Dropped(DropReason::NoSnatPort);
        }
        let (service, backend) = (Arc::clone(service), Arc::clone(backend));
        Preview::Opens { service, backend, why, target, next: self.next(target.ip()) }
    }

    /// As [`super::admission::choose`], with nothing taken.
    fn preview_choice<'a>(&self, service: &'a Service, request: &Request, now: Millis) -> Way<(&'a Arc<Backend>, Why)> {
        let struck = would_strike(self.conntrack.conncount(), service, request.client, now);
        if let Some(limit) = struck {
            return preview_over(service, limit, request);
        }
        if let Some(persisting) = self.preview_persistence(service, request.client, now) {
            return Ok(persisting);
        }
        match service.scheduler.preview(request, &service.pool.members) {
            Some(chosen) => Ok((&service.pool.backends[chosen], Why::Scheduled)),
            None if nobody(&service.pool) == Nobody::HasRoom => preview_over(service, Limit::Backends, request),
            None => {
                preview_backup(service, request).map_or(Err(DropReason::NoBackend.into()), |backend| Ok((backend, Why::Backup)))
            }
        }
    }

    fn preview_persistence<'a>(&self, service: &'a Service, client: IpAddr, now: Millis) -> Option<(&'a Arc<Backend>, Why)> {
        let client = service.persistence.as_ref()?.of(client);
        let (address, left) = self.conntrack.templates().look(&client, now)?;
        let backend = &service.pool.backends[service.pool.find(address)?];
        (backend.member.weight() > 0 && backend.member.has_room()).then_some((backend, Why::Persists(left)))
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

/// What the parser asks of addresses; a port of 0 is one that was not told. Ends of two families are no packet: no service will be found.
fn check_ends(source: IpAddr, destination: IpAddr) -> Result<(), Malformed> {
    if let Some(addresses) = V4::from_addresses(source, destination) {
        ipv4::check_source(addresses)?;
    }
    V6::from_addresses(source, destination).map_or(Ok(()), ipv6::check_source)
}

fn preview_over<'a>(service: &'a Service, limit: Limit, request: &Request) -> Way<(&'a Arc<Backend>, Why)> {
    match service.limits.over {
        OverLimit::Drop => Err(Verdict::Drop(limit.into())),
        OverLimit::Reject => Err(Verdict::Reject(limit.into())),
        OverLimit::Backup => match preview_backup(service, request) {
            Some(backend) => Ok((backend, Why::Over(limit))),
            None => Err(Verdict::Drop(limit.into())),
        },
    }
}

fn preview_backup<'a>(service: &'a Service, request: &Request) -> Option<&'a Arc<Backend>> {
    let backup = service.backup.as_ref()?;
    let chosen = backup.scheduler.preview(request, &backup.pool.members)?;
    backup.pool.backends.get(chosen)
}
