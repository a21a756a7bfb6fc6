//! The load balancer that is measured, and the connections through it.

use crate::conntrack::Conntrack;
use crate::datapath::{Datapath, Hooks, NextHop, NextHops, PortId, Route, Routes};
use crate::schedule::{Kind, Member, Settings, build};
use crate::service::{Access, Backend, BackendId, Pool, Protocol, Service, ServiceId, Services, Snapshot, SnatPool};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Backends of the one pool.
const BACKENDS: u16 = 32;
/// The address that clients connect to.
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
pub(super) fn datapath(flows: usize, accounting: bool) -> anyhow::Result<Datapath> {
    let conntrack = Conntrack::new(flows)?;
    Ok(Datapath {
        conntrack: if accounting { conntrack.with_accounts()? } else { conntrack }.populated()?,
        next_hops: next_hops()?,
        snapshot: arc_swap::ArcSwap::from_pointee(snapshot(flows)),
        hooks: Hooks::default(),
    })
}

/// The config for so many connections.
pub(super) fn snapshot(flows: usize) -> Snapshot {
    let backends: Vec<_> = (0..BACKENDS).map(backend).collect();
    let pool = Arc::new(Pool::new("bench", backends.clone()));
    let service = Service {
        id: ServiceId(0),
        name: "bench".to_owned(),
        vip: Ipv4Addr::from_bits(VIP).into(),
        port: Some(PORT),
        protocol: Protocol::Tcp,
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
    Snapshot {
        generation: 1,
        services: Services::new(vec![Arc::new(service)]),
        backends: backends.into_iter().map(Some).collect(),
        snat: SnatPool {
            v4: (0..addresses).map(|at| Ipv4Addr::from_bits(0x0a02_0101 + at)).collect(),
            v6: vec![],
            ports: 1024..=65535,
        },
        own_addresses: HashSet::new(),
        timeouts: Default::default(),
        spared: Default::default(),
        tracking: Default::default(),
    }
}

fn backend(number: u16) -> Arc<Backend> {
    let address = SocketAddr::new(Ipv4Addr::new(10, 1, 0, number as u8 + 1).into(), 8443);
    Arc::new(Backend::new(BackendId(number), "bench", Arc::new(Member::new(address, 1, true))))
}

/// Clients behind a router on one port, backends on the link of the other.
fn next_hops() -> anyhow::Result<NextHops> {
    let next_hops = NextHops::default();
    let router: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
    let outside = Route { prefix: "0.0.0.0/0".parse()?, gateway: Some(router), port: Some(OUTSIDE), vlan: 0, metric: 0 };
    let inside = Route { prefix: "10.1.0.0/16".parse()?, gateway: None, port: Some(INSIDE), vlan: 0, metric: 0 };
    next_hops.set_routes(Routes::new(vec![outside, inside]));
    for port in [OUTSIDE, INSIDE] {
        next_hops.port(port).set([2, 0, 0, 0, 0, port.0], 1500);
    }
    next_hops.set_neighbour(router, NextHop { mac: [2, 0, 0, 0, 1, 1], port: OUTSIDE, vlan: 0 });
    for number in 1..=BACKENDS as u8 {
        next_hops.set_neighbour(
            Ipv4Addr::new(10, 1, 0, number).into(),
            NextHop { mac: [2, 0, 0, 0, 2, number], port: INSIDE, vlan: 0 },
        );
    }
    Ok(next_hops)
}
