//! The load balancer that is measured, and the connections through it.

use super::memory;
use super::shape::{Family, Shape, Transport};
use super::subject::Random;
use crate::conntrack::{Conntrack, HashKey};
use crate::datapath::{Datapath, Handler, Hook, Hooks, NextHop, NextHops, Packet, PortId, Route, Routes, Verdict, priority};
use crate::nat::{Homes, Served, Spread};
use crate::packet::rss::Rss;
use crate::packet::toeplitz::{Hashed, Toeplitz};
use crate::schedule::{Kind, Member, Settings, build};
use crate::service::{Access, Backend, BackendId, Pool, Protocol, Service, ServiceId, Services, Snapshot, SnatPool};
use anyhow::Context;
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

/// Entries of the indirection table, as many cards have them.
const ENTRIES: u32 = 128;

/// Client address and port of connection number `flow`: 256 connections a client.
pub(super) fn client(flow: usize) -> (u32, u16) {
    (0x0b00_0000 + (flow >> 8) as u32, 1024 + (flow & 0xff) as u16)
}

/// What a datapath may do beside what it always does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extras {
    /// Counts each connection.
    pub accounting: bool,
    /// Calls a handler at each hook, which lets everything through.
    pub hooks: bool,
    /// Takes SNAT ports whose replies come to the worker's own one of so many queues.
    pub queues: Option<u32>,
}

/// A datapath with room for `flows` connections to a pool behind one VIP, every next hop resolved. The memory is
/// taken: pages that the kernel must clear first are a matter of the first minutes of a daemon, not of a new connection.
pub(super) fn datapath(shape: Shape, flows: usize) -> anyhow::Result<Datapath> {
    with_extras(HashKey::random(), shape, flows, Extras::default())
}

/// The same, with tuples hashed under this key, and what else it does.
pub(super) fn with_extras(key: HashKey, shape: Shape, flows: usize, extras: Extras) -> anyhow::Result<Datapath> {
    let conntrack = conntrack(key, flows, extras.accounting)
        .with_context(|| format!("no room in this process's address space for {flows} connections"))?;
    memory::check(conntrack.bytes(), &format!("{flows} connections"))?;
    // Where each queue has its own ports, one queue's must do for all connections.
    let snapshot = snapshot(shape, flows * extras.queues.unwrap_or(1) as usize);
    let homes = extras.queues.map(|queues| Arc::new(homes(queues, &snapshot)));
    Ok(Datapath {
        conntrack: conntrack.populated()?,
        next_hops: next_hops(shape)?,
        snapshot: arc_swap::ArcSwap::from_pointee(snapshot),
        hooks: if extras.hooks { everywhere() } else { Hooks::default() },
        homes: homes.into(),
    })
}

fn conntrack(key: HashKey, flows: usize, accounting: bool) -> std::io::Result<Conntrack> {
    let conntrack = Conntrack::with_key(flows, key)?;
    if accounting { conntrack.with_accounts() } else { Ok(conntrack) }
}

/// A handler at each hook, between the built-in ones.
fn everywhere() -> Hooks {
    let mut hooks = Hooks::default();
    for hook in [Hook::Prerouting, Hook::LocalIn, Hook::Forward, Hook::LocalOut, Hook::Postrouting] {
        hooks.register(hook, priority::FILTER, Box::new(Onlooker));
    }
    hooks
}

/// A handler that lets everything through.
#[derive(Debug)]
struct Onlooker;

impl Handler for Onlooker {
    fn handle(&self, _: &mut Packet<'_>) -> Verdict {
        Verdict::Accept
    }
}

/// Of cards with so many queues, one for each worker, and a random key.
pub(super) fn homes(queues: u32, snapshot: &Snapshot) -> Homes {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let key: [u8; 40] = std::array::from_fn(|_| random.next() as u8);
    let both = Some(Hashed::AddressesAndPorts);
    let toeplitz = Toeplitz::new(&key).unwrap_or_else(|| unreachable!("a key of 40 bytes is long enough"));
    let table = (0..ENTRIES).map(|entry| entry % queues).collect();
    let rss = Rss { toeplitz, table, tcp_v4: both, udp_v4: both, tcp_v6: both, udp_v6: both };
    let spread = Some(Arc::new(Spread::new(&rss, queues as usize, |queue| Some(queue as usize))));
    let served = snapshot.backends.iter().flatten();
    let served: Vec<_> =
        served.map(|backend| Served { backend: backend.id, target: backend.address(), protocols: [true, true] }).collect();
    Homes::new(queues as usize, vec![spread.clone(), spread], &snapshot.snat, &served, None)
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
