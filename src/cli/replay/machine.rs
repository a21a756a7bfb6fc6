//! A weir without a kernel: one worker over memory, next hops that always answer, and a clock that the capture moves.

use crate::config::{Checksum, Config};
use crate::conntrack::{Conntrack, HashKey};
use crate::control::Registry;
use crate::datapath::{BURST, Datapath, DropReason, Hooks, NextHop, NextHops, PortId, Route, Routes};
use crate::io::memory::{MemoryPorts, MemorySizes};
use crate::worker::{Balancer, Monotonic, Resolver, Rounds, Shared};
use anyhow::Context;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// weir's own link address.
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Of whoever is next.
const NEXT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MTU: u32 = 1500;
const PORT: PortId = PortId(0);
/// Larger than any packet of a capture, also of one that was made before a card cut what was sent (64 KiB and headers).
const ROOM: usize = 65_536 + 64;
/// The gateways through which everything goes, of addresses that are nobody's (RFC 2544) and of a link.
const GATEWAYS: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))),
];

/// What was counted.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) packets: u64,
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) established: u64,
    pub(super) new_connections: u64,
    pub(super) connections: u64,
    pub(super) too_large: u64,
    /// Packets that wait still: fragments whose first one did not come.
    #[serde(skip_serializing_if = "is_none")]
    pub(super) waiting: u64,
    pub(super) drops: BTreeMap<String, u64>,
    /// Connections opened, by pool and address.
    pub(super) backends: BTreeMap<String, u64>,
}

pub(super) struct Machine {
    datapath: Arc<Datapath>,
    rounds: Rounds<MemoryPorts, Balancer>,
    shared: Arc<Shared>,
    began: Option<Duration>,
    now: Duration,
    swept: u64,
    too_large: u64,
}

impl Machine {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let key = HashKey::new([0, 1]);
        let conntrack = Conntrack::with_key(config.max_connections, key)
            .context("no memory for the connection table")?
            .with_fragments(config.fragments)
            .with_sources(config.sources);
        let conntrack = if config.accounting { conntrack.with_accounts().context("no memory for accounts")? } else { conntrack };
        let snapshot = ArcSwap::from_pointee(Registry::default().snapshot(config)?);
        let datapath = Arc::new(Datapath {
            conntrack,
            next_hops: next_hops(config)?,
            snapshot,
            hooks: Hooks::default(),
            homes: Default::default(),
        });
        let shared = Arc::new(Shared::default());
        let sizes = MemorySizes { ports: 1, frames: 2 * BURST, room: ROOM, tx_ring: BURST };
        let ports = MemoryPorts::new(sizes, Arc::clone(&shared.counters));
        let lane = datapath.lane(Arc::clone(&shared.counters)).context("no place in the connection table")?;
        let pipeline = Balancer::new(Arc::clone(&datapath), lane);
        let rounds = Rounds::new(ports, pipeline, Arc::new(Resolver::new(|| {})), Arc::clone(&shared));
        Ok(Self { datapath, rounds, shared, began: None, now: Duration::ZERO, swept: 0, too_large: 0 })
    }

    /// A packet comes in; what leaves because of it. Time never goes back: a packet that is earlier than the one before is taken as
    /// being as late.
    pub(super) fn receive(&mut self, at: Duration, bytes: &[u8]) -> Vec<Vec<u8>> {
        let began = *self.began.get_or_insert(at);
        self.now = self.now.max(at.saturating_sub(began));
        self.sweep();
        if !self.rounds.ports().push(PORT, bytes) {
            self.too_large += 1;
            return Vec::new();
        }
        let now = Monotonic(u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX));
        self.rounds.round(&|| now);
        self.rounds.ports().take_sent(PORT)
    }

    /// A pass over the whole table in every second in which a packet comes.
    fn sweep(&mut self) {
        let second = self.now.as_secs();
        if second == self.swept {
            return;
        }
        self.swept = second;
        let snapshot = self.datapath.snapshot.load_full();
        let now = Monotonic(u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX)).millis();
        loop {
            let swept = self
                .datapath
                .conntrack
                .sweep(now, &snapshot.timeouts, usize::MAX, &mut |connection| snapshot.connection_closed(connection));
            if swept.wrapped {
                return;
            }
        }
    }

    pub(super) fn report(&self) -> Report {
        let counters = &self.shared.counters;
        let drops = DropReason::ALL.iter().map(|reason| (reason.label().to_owned(), counters.drops(*reason).get()));
        let snapshot = self.datapath.snapshot.load_full();
        let backends = snapshot.backends.iter().flatten();
        let opened =
            backends.map(|backend| (format!("{} {}", backend.pool, backend.address()), backend.total_connections.load(Relaxed)));
        Report {
            packets: counters.rx.get(),
            sent: counters.tx.get(),
            answered: counters.answered.get(),
            established: counters.established.get(),
            new_connections: counters.new_connections.get(),
            connections: self.datapath.conntrack.count() as u64,
            too_large: self.too_large,
            waiting: counters.waiting.get(),
            drops: drops.filter(|(_, count)| *count > 0).collect(),
            backends: opened.collect(),
        }
    }
}

/// Whether a count need not be told.
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Everything goes through one gateway a family, which is resolved.
fn next_hops(config: &Config) -> anyhow::Result<NextHops> {
    let hops = NextHops::default();
    hops.port(PORT).set(OWN_MAC, MTU);
    hops.port(PORT).set_recompute(config.interfaces.first().is_some_and(|interface| interface.checksum == Checksum::Recompute));
    let mut routes = Vec::new();
    for (any, gateway) in GATEWAYS {
        let prefix = IpNet::new(any, 0).context("the prefix of everything")?;
        routes.push(Route { prefix, gateway: Some(gateway), port: Some(PORT), vlan: 0, metric: 0 });
        hops.set_neighbour(gateway, NextHop { mac: NEXT_MAC, port: PORT, vlan: 0 });
    }
    hops.set_routes(Routes::new(routes));
    Ok(hops)
}
