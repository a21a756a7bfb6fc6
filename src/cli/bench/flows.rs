//! The load balancer that is measured, and the connections through it.

use super::shape::{Family, Shape, Transport};
use crate::conntrack::{Conntrack, HashKey};
use crate::datapath::{Datapath, Hooks, NextHop, NextHops, PortId, Route, Routes};
use crate::schedule::{Kind, Member, Settings, build};
use crate::service::{Access, Backend, BackendId, Pool, Protocol, Service, ServiceId, Services, Snapshot, SnatPool};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Backends of the one pool.
pub(super) const BACKENDS: u16 = 32;
/// Their first address.
pub(super) const FIRST_BACKEND: u32 = 0x0a01_0001;
/// The first SNAT address.
pub(super) const FIRST_SNAT: u32 = 0x0a02_0101;
/// The address that clients connect to; of this and all others below the lower word ([`Shape::address`]).
pub(super) const VIP: u32 = 0x0a09_0909;
/// Its port.
pub(super) const PORT: u16 = 443;
/// Toward the clients.
pub(super) const OUTSIDE: PortId = PortId(0);
/// Toward the backends.
pub(super) const INSIDE: PortId = PortId(1);

/// Client address and port of connection number `flow`: 256 connections a client.
pub(super) fn client(flow: usize) -> (u32, u16) {
    (0x0b00_0000 + (flow >> 8) as u32, 1024 + (flow & 0xff) as u16)
}

/// A datapath with room for `flows` connections, counted if `accounting`, to a pool behind one VIP, every next hop resolved. The memory is
/// taken: pages that the kernel must clear first are a matter of the first minutes of a daemon, not of a new connection.
pub(super) fn datapath(shape: Shape, flows: usize, accounting: bool) -> anyhow::Result<Datapath> {
    hashed_by(HashKey::random(), shape, flows, accounting)
}

/// The same, with tuples hashed under this key.
pub(super) fn hashed_by(key: HashKey, shape: Shape, flows: usize, accounting: bool) -> anyhow::Result<Datapath> {
    let conntrack = Conntrack::with_key(flows, key)?;
    Ok(Datapath {
        conntrack: if accounting { conntrack.with_accounts()? } else { conntrack }.populated()?,
        next_hops: next_hops(shape)?,
        snapshot: arc_swap::ArcSwap::from_pointee(snapshot(shape, flows)),
        hooks: Hooks::default(),
        homes: Default::default(),
    })
}

/// The config for so many connections.
pub(super) fn snapshot(shape: Shape, flows: usize) -> Snapshot {
    let backends: Vec<_> = (0..BACKENDS).map(|number| backend(shape, number)).collect();
    let pool = Arc::new(Pool::new("bench", backends.clone()));
    let service = Service {
        id: ServiceId(0),
        name: "bench".to_owned(),
        vip: shape.address(VIP),
        port: Some(PORT),
        protocol: match shape.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        },
        access: Access::default(),
        helper: None,
        scheduler: build(Kind::Maglev, Settings::default(), &pool.members),
        pool,
        backup: None,
        limits: Default::default(),
        persistence: None,
        ledger: Default::default(),
    };
    // Two thirds of all ports are taken at most.
    let addresses = (flows / (usize::from(BACKENDS) * 40_000) + 1) as u32;
    let mut snat = SnatPool { v4: vec![], v6: vec![], ports: 1024..=65535 };
    for address in (0..addresses).map(|at| shape.address(FIRST_SNAT + at)) {
        match address {
            IpAddr::V4(address) => snat.v4.push(address),
            IpAddr::V6(address) => snat.v6.push(address),
        }
    }
    let own_addresses = snat.addresses().chain([service.vip]).collect();
    Snapshot {
        generation: 1,
        services: Services::new(vec![Arc::new(service)]),
        backends: backends.into_iter().map(Some).collect(),
        snat,
        own_addresses,
        timeouts: Default::default(),
        spared: Default::default(),
        tracking: Default::default(),
    }
}

fn backend(shape: Shape, number: u16) -> Arc<Backend> {
    let address = SocketAddr::new(shape.address(FIRST_BACKEND + u32::from(number)), 8443);
    Arc::new(Backend::new(BackendId(number), "bench", Arc::new(Member::new(address, 1, true))))
}

/// Clients behind a router on one port, backends on the link of the other.
fn next_hops(shape: Shape) -> anyhow::Result<NextHops> {
    let next_hops = NextHops::default();
    let router = shape.address(0xc000_0201);
    let (everywhere, backends) = match shape.family {
        Family::Ipv4 => ("0.0.0.0/0", "10.1.0.0/16"),
        Family::Ipv6 => ("::/0", "fd00::10.1.0.0/112"),
    };
    let outside = Route { prefix: everywhere.parse()?, gateway: Some(router), port: Some(OUTSIDE), vlan: 0, metric: 0 };
    let inside = Route { prefix: backends.parse()?, gateway: None, port: Some(INSIDE), vlan: 0, metric: 0 };
    next_hops.set_routes(Routes::new(vec![outside, inside]));
    for port in [OUTSIDE, INSIDE] {
        next_hops.port(port).set([2, 0, 0, 0, 0, port.0], 1500);
    }
    next_hops.set_neighbour(router, NextHop { mac: [2, 0, 0, 0, 1, 1], port: OUTSIDE, vlan: 0 });
    for number in 0..BACKENDS {
        let hop = NextHop { mac: [2, 0, 0, 0, 2, number as u8], port: INSIDE, vlan: 0 };
        next_hops.set_neighbour(shape.address(FIRST_BACKEND + u32::from(number)), hop);
    }
    Ok(next_hops)
}
