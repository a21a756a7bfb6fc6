//! The datapath between ports over memory, with a clock that tests move.

use super::packet::{Packet, Transport};
use super::transports::Other;
use arc_swap::ArcSwap;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use weir::conntrack::{ConnectionView, Conntrack, Direction, HashKey, Millis, SourceSettings, Spared, TimeoutPolicy, Timeouts};
use weir::datapath::{Counters, Datapath, DropReason, Fate, Frame, Hooks, Lane, NextHop, NextHops, PortId, Route, Routes};
use weir::io::Ports;
use weir::io::memory::{MemoryPorts, MemorySizes};
use weir::nat::tcp_reset::TcpReset;
use weir::schedule::{Kind, Member, Settings, build};
use weir::service::{
    Access, Backend, BackendId, Backup, Helper, Ledger, Limits, Persistence, Pool, Protocol, Service, ServiceId, Services,
    Snapshot, SnatPool,
};

/// Where clients are.
pub(crate) const FRONT: PortId = PortId(0);
/// Where backends are.
pub(crate) const BACK: PortId = PortId(1);
pub(crate) const MTU: usize = 1500;

/// weir's own address on a port, and whoever is on the other side of it.
pub(crate) const fn weir_mac(port: PortId) -> [u8; 6] {
    [2, 0, 0, 0, 0xee, port.0]
}
pub(crate) const fn peer_mac(port: PortId) -> [u8; 6] {
    [2, 0, 0, 0, 0x11, port.0]
}
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 7];

/// One address family's actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    fn pick(self, v4: &str, v6: &str) -> SocketAddr {
        if self == Family::V4 { v4 } else { v6 }.parse().unwrap()
    }

    pub(crate) fn client(self) -> SocketAddr {
        self.pick("10.1.0.5:40000", "[fd01::5]:40000")
    }

    /// A client that is reached through a gateway.
    pub(crate) fn far_client(self) -> SocketAddr {
        self.pick("203.0.113.9:50000", "[2001:db8::9]:50000")
    }

    pub(crate) fn gateway(self) -> IpAddr {
        self.pick("10.1.0.254:0", "[fd01::254]:0").ip()
    }

    /// The service on one port, of either protocol.
    pub(crate) fn vip(self) -> SocketAddr {
        self.pick("10.9.0.1:80", "[fd09::1]:80")
    }

    /// The service on every port.
    pub(crate) fn any_port_vip(self, port: u16) -> SocketAddr {
        let mut vip = self.pick("10.9.0.2:0", "[fd09::2]:0");
        vip.set_port(port);
        vip
    }

    pub(crate) fn backend(self) -> SocketAddr {
        self.pick("10.2.0.11:8080", "[fd02::11]:8080")
    }

    pub(crate) fn second_backend(self) -> SocketAddr {
        self.pick("10.2.0.12:8080", "[fd02::12]:8080")
    }

    /// Of the pool that stands by.
    pub(crate) fn backup(self) -> SocketAddr {
        self.pick("10.2.0.13:8080", "[fd02::13]:8080")
    }

    pub(crate) fn snat(self) -> IpAddr {
        self.pick("10.2.0.200:0", "[fd02::200]:0").ip()
    }
}

/// What differs between cases.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) connections: usize,
    pub(crate) snat_ports: RangeInclusive<u16>,
    pub(crate) backends: usize,
    /// VLAN ids of the clients' and the backends' side; 0 without tag.
    pub(crate) vlans: (u16, u16),
    /// Clients and backends are behind the same port.
    pub(crate) one_arm: bool,
    pub(crate) recompute: bool,
    pub(crate) tracking: weir::conntrack::l4proto::Settings,
    /// Room of a frame, in bytes.
    pub(crate) room: usize,
    /// Who does not give way when the table is full.
    pub(crate) spared: Spared,
    /// The VIPs serve all protocols, not only TCP and UDP.
    pub(crate) all_protocols: bool,
    /// There is a service on port 21, perhaps with a helper.
    pub(crate) ftp: Option<Option<Helper>>,
    /// Who may and who may not open connections to the services.
    pub(crate) allow: Vec<IpNet>,
    pub(crate) deny: Vec<IpNet>,
    /// How long connections may be silent.
    pub(crate) policy: TimeoutPolicy,
    /// Of every service.
    pub(crate) limits: Limits,
    /// Of every backend.
    pub(crate) backend_limit: Option<u32>,
    /// Of every service: all of them are one group.
    pub(crate) persistence: Option<Persistence>,
    /// Every service has the backends of a pool that stands by.
    pub(crate) has_backup: bool,
    /// What is one source, and how many are known.
    pub(crate) sources: SourceSettings,
    /// Of all services.
    pub(crate) ledger: Arc<Ledger>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            connections: 1000,
            snat_ports: 20000..=29999,
            backends: 1,
            vlans: (0, 0),
            one_arm: false,
            recompute: false,
            tracking: Default::default(),
            room: 2048,
            spared: Spared::Established,
            all_protocols: false,
            ftp: None,
            allow: Vec::new(),
            deny: Vec::new(),
            policy: TimeoutPolicy::default(),
            limits: Limits::default(),
            backend_limit: None,
            persistence: None,
            has_backup: false,
            sources: SourceSettings::default(),
            ledger: Arc::default(),
        }
    }
}

pub(crate) struct World {
    pub(crate) datapath: Datapath,
    pub(crate) setup: Setup,
    pub(crate) backends: Vec<Arc<Backend>>,
    pub(crate) now: Millis,
    lane: Lane,
    ports: MemoryPorts,
    counters: Arc<Counters>,
}

/// What became of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) fate: Fate,
    pub(crate) sent: Option<(PortId, Vec<u8>)>,
    /// Counters that moved, and by how much.
    pub(crate) moved: BTreeMap<String, u64>,
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let backends: Vec<_> = FAMILIES
            .iter()
            .flat_map(|family| [family.backend(), family.second_backend()].into_iter().take(setup.backends))
            .chain(FAMILIES.iter().map(|family| family.backup()).filter(|_| setup.has_backup))
            .enumerate()
            .map(|(id, address)| Arc::new(Backend::new(BackendId(id as u16), "pool", Arc::new(Member::new(address, 1, true)))))
            .collect();
        let datapath = Datapath {
            conntrack: Conntrack::with_key(setup.connections, HashKey::new([1, 2]))
                .unwrap()
                .with_accounts()
                .unwrap()
                .with_sources(setup.sources),
            next_hops: next_hops(&setup),
            snapshot: ArcSwap::from_pointee(snapshot(&setup, &backends)),
            hooks: Hooks::default(),
            homes: Default::default(),
        };
        let counters = Arc::new(Counters::default());
        let lane = datapath.lane(Arc::clone(&counters)).unwrap();
        let ports = MemoryPorts::new(MemorySizes { room: setup.room, ..Default::default() }, Arc::clone(&counters));
        Self { datapath, setup, backends, now: Millis(u32::MAX - 1000), lane, ports, counters }
    }

    /// Another config.
    pub(crate) fn change(&mut self, setup: Setup) {
        self.datapath.snapshot.store(Arc::new(snapshot(&setup, &self.backends)));
        self.setup = setup;
    }

    /// Clients' side.
    pub(crate) fn front(&self) -> PortId {
        FRONT
    }

    /// Backends' side.
    pub(crate) fn back(&self) -> PortId {
        if self.setup.one_arm { FRONT } else { BACK }
    }

    /// Frames in, each with the port it comes in at; what became of each, in order.
    pub(crate) fn burst(&mut self, port: PortId, frames: &[Vec<u8>]) -> Vec<(Fate, usize)> {
        for frame in frames {
            assert!(self.ports.push(port, frame), "no room for {} bytes", frame.len());
        }
        let (datapath, lane, now, counters) = (&self.datapath, &mut self.lane, self.now, &self.counters);
        let mut fates = Vec::new();
        while fates.len() < frames.len() {
            self.ports.receive(port, &mut |burst| {
                datapath.process(lane, burst, now);
                fates.extend(burst.iter().map(|frame| (frame.fate, frame.length)));
                // As a worker does for the copies that it keeps.
                counters
                    .waiting
                    .add(burst.iter().filter(|frame| matches!(frame.fate, Fate::Wait(..) | Fate::Gather)).count() as u64);
            });
        }
        self.ports.flush().unwrap();
        self.check_conservation();
        fates
    }

    /// Frames straight through the datapath: what became of each, and how often memory was allocated meanwhile.
    pub(crate) fn allocations(&mut self, port: PortId, frames: &[Vec<u8>]) -> (Vec<Fate>, u64) {
        let mut rooms = vec![vec![0; self.setup.room]; frames.len()];
        for (room, frame) in rooms.iter_mut().zip(frames) {
            room[..frame.len()].copy_from_slice(frame);
        }
        let mut burst: Vec<_> = rooms.iter_mut().zip(frames).map(|(room, frame)| Frame::new(room, frame.len(), port)).collect();
        let (datapath, lane, now) = (&self.datapath, &mut self.lane, self.now);
        let counted = allocation_counter::measure(|| datapath.process(lane, &mut burst, now));
        (burst.iter().map(|frame| frame.fate).collect(), counted.count_total)
    }

    /// What `port` has sent since the last call.
    pub(crate) fn take_sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        self.ports.take_sent(port)
    }

    /// RSTs out of nothing; what left, and by which port.
    pub(crate) fn originate(&mut self, resets: &[TcpReset]) -> Vec<(PortId, Vec<u8>)> {
        let (datapath, counters) = (&self.datapath, &self.counters);
        let mut left = resets.iter();
        self.ports.originate(resets.len(), &mut |frames| {
            for (frame, reset) in frames.iter_mut().zip(left.by_ref()) {
                frame.fate = datapath.originate(frame, reset);
                counters.originated.add(1);
            }
        });
        self.ports.flush().unwrap();
        self.check_conservation();
        let ports = [FRONT, BACK].into_iter();
        ports.flat_map(|port| self.ports.take_sent(port).into_iter().map(move |frame| (port, frame))).collect()
    }

    fn check_conservation(&self) {
        let counters = &self.counters;
        assert_eq!(
            counters.rx.get() + counters.originated.get(),
            counters.tx.get() + counters.waiting.get() + counters.dropped(),
            "conservation"
        );
    }

    /// One frame in.
    pub(crate) fn send(&mut self, port: PortId, frame: &[u8]) -> Outcome {
        let before = self.counted();
        let fates = self.burst(port, &[frame.to_vec()]);
        let after = self.counted();
        let moved = after.into_iter().map(|(name, n)| (name.clone(), n - before[&name])).filter(|(_, n)| *n != 0).collect();
        let mut sent: Vec<_> = [FRONT, BACK]
            .into_iter()
            .flat_map(|port| self.ports.take_sent(port).into_iter().map(move |frame| (port, frame)))
            .collect();
        assert!(sent.len() <= 1, "one frame in, {} out", sent.len());
        Outcome { fate: fates[0].0, sent: sent.pop(), moved }
    }

    /// Every counter there is, by name.
    pub(crate) fn counted(&self) -> BTreeMap<String, u64> {
        let counters = &self.counters;
        let mut counted: BTreeMap<String, u64> = [
            ("rx", &counters.rx),
            ("rx_bytes", &counters.rx_bytes),
            ("tx", &counters.tx),
            ("tx_bytes", &counters.tx_bytes),
            ("answered", &counters.answered),
            ("related", &counters.related),
            ("originated", &counters.originated),
            ("waiting", &counters.waiting),
            ("new_connections", &counters.new_connections),
            ("established", &counters.established),
            ("early_drops", &counters.early_drops),
            ("expectations", &counters.expectations),
            ("expected", &counters.expected),
            ("refused_expectations", &counters.refused_expectations),
            ("bursts", &counters.bursts),
        ]
        .map(|(name, counter)| (name.to_owned(), counter.get()))
        .into();
        counted.extend(DropReason::ALL.iter().map(|reason| (format!("drop {}", reason.label()), counters.drops(*reason).get())));
        counted
    }

    /// Addresses a packet from the station on this port to weir.
    pub(crate) fn arriving(&self, port: PortId, packet: &Packet) -> Packet {
        Packet { to_mac: weir_mac(port), from_mac: peer_mac(port), ..packet.clone() }
    }

    pub(crate) fn expect(
        &mut self,
        port: PortId,
        packet: &Packet,
        fate: impl FnOnce(&Outcome) -> bool,
        moved: &[(&str, u64)],
    ) -> Outcome {
        let arriving = self.arriving(port, packet);
        let frame = arriving.frame();
        let outcome = self.send(port, &frame);
        assert!(fate(&outcome), "fate of {packet:?}: {outcome:?}");
        let mut expected: BTreeMap<String, u64> = moved.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        expected.extend([("rx".to_owned(), 1), ("rx_bytes".to_owned(), frame.len() as u64), ("bursts".to_owned(), 1)]);
        if let Some((_, sent)) = &outcome.sent {
            expected.extend([("tx".to_owned(), 1), ("tx_bytes".to_owned(), sent.len() as u64)]);
        }
        assert_eq!(outcome.moved, expected, "counters after {packet:?}");
        outcome
    }

    /// The first packet of a connection goes on to a backend. Returns the SNAT address and port that it was given.
    pub(crate) fn opens(&mut self, packet: &Packet, backend: SocketAddr) -> SocketAddr {
        let (front, back) = (self.front(), self.back());
        let outcome = self.expect(front, packet, |outcome| outcome.fate == Fate::Transmit(back), &[("new_connections", 1)]);
        let (_, sent) = outcome.sent.expect("it was sent");
        let l4 = packet.l4() - link_length(packet.vlan) + link_length(vlan(self.setup.vlans.1));
        // An echo has its identifier elsewhere, and any will do; a tunnel has nothing of the kind.
        let port = match &packet.transport {
            Transport::Other(Other::Echo { .. }) => u16::from_be_bytes([sent[l4 + 4], sent[l4 + 5]]),
            Transport::Other(Other::Gre) => 0,
            _ => u16::from_be_bytes([sent[l4], sent[l4 + 1]]),
        };
        let is_port = !matches!(packet.transport, Transport::Other(Other::Echo { .. } | Other::Gre));
        assert!(!is_port || self.setup.snat_ports.contains(&port), "port {port}");
        let family = if packet.from.is_ipv4() { Family::V4 } else { Family::V6 };
        let snat = SocketAddr::new(family.snat(), port);
        self.compare(packet, &sent, (snat, backend), back, peer_mac(back));
        snat
    }

    /// A packet of a known connection, client to backend.
    pub(crate) fn goes_on(&mut self, packet: &Packet, snat: SocketAddr, backend: SocketAddr) {
        let (front, back) = (self.front(), self.back());
        self.translates(packet, front, (snat, backend), back, peer_mac(back));
    }

    /// A packet of a known connection, backend to client.
    pub(crate) fn comes_back(&mut self, packet: &Packet, vip: SocketAddr, client: SocketAddr) {
        let (front, back) = (self.front(), self.back());
        self.translates(packet, back, (vip, client), front, peer_mac(front));
    }

    pub(crate) fn translates(&mut self, packet: &Packet, port: PortId, to: (SocketAddr, SocketAddr), out: PortId, mac: [u8; 6]) {
        let outcome = self.expect(port, packet, |outcome| outcome.fate == Fate::Transmit(out), &[("established", 1)]);
        let (sent_by, sent) = outcome.sent.expect("it was sent");
        assert_eq!(sent_by, out);
        self.compare(packet, &sent, to, out, mac);
    }

    /// The frame that left is the one that came in, with other addresses and ports, one less TTL and the right checksums.
    fn compare(&self, packet: &Packet, sent: &[u8], (from, to): (SocketAddr, SocketAddr), out: PortId, mac: [u8; 6]) {
        let toward_backends = self.backends.iter().any(|backend| backend.address().ip() == to.ip());
        let (front, back) = self.setup.vlans;
        let mut expected = Packet { from, to, ttl: packet.ttl - 1, to_mac: mac, from_mac: weir_mac(out), ..packet.clone() };
        expected.vlan = vlan(if toward_backends { back } else { front });
        if self.setup.recompute {
            expected.checksum = super::packet::Checksum::Right;
        }
        assert_eq!(sent, expected.frame(), "what left is not {expected:?}");
    }

    /// The packet ends here for this reason.
    pub(crate) fn drops(&mut self, port: PortId, packet: &Packet, reason: DropReason) {
        let name = format!("drop {}", reason.label());
        self.expect(port, packet, |outcome| outcome.fate == Fate::Drop(reason), &[(&name, 1)]);
    }

    /// The packet waits for a neighbour.
    pub(crate) fn waits(&mut self, port: PortId, packet: &Packet, neighbour: (PortId, IpAddr)) {
        self.expect(port, packet, |outcome| outcome.fate == Fate::Wait(neighbour.0, neighbour.1), &[("waiting", 1)]);
    }

    /// The packet is answered with an ICMP error by the port it came in by. Returns the error's frame.
    pub(crate) fn answers(&mut self, port: PortId, packet: &Packet) -> Vec<u8> {
        let outcome = self.expect(port, packet, |outcome| outcome.fate == Fate::Transmit(port), &[("answered", 1)]);
        let (sent_by, sent) = outcome.sent.expect("it was sent");
        assert_eq!(sent_by, port);
        sent
    }

    /// Ends the TCP connection of this tuple.
    pub(crate) fn delete(&self, client: SocketAddr, vip: SocketAddr) -> bool {
        self.datapath.conntrack.delete((Protocol::Tcp.number(), client, vip), self.now, &self.policy())
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, milliseconds: u32) {
        self.now = self.now.after(milliseconds);
    }

    /// A whole round of expiry. Returns the connections that left.
    pub(crate) fn sweep(&mut self) -> Vec<ConnectionView> {
        let timeouts = self.policy();
        let (snapshot, homes, mut closed) = (self.datapath.snapshot.load(), self.datapath.homes.load(), Vec::new());
        let mut close = |view: &ConnectionView| {
            // As the control thread does.
            snapshot.backend(BackendId(view.backend)).unwrap().member.connection_closed();
            if let Some(homes) = &*homes {
                homes.release(view);
            }
            closed.push(view.clone());
        };
        while !self.datapath.conntrack.sweep(self.now, &timeouts, 1 << 20, &mut close).wrapped {}
        closed
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.policy().common
    }

    pub(crate) fn policy(&self) -> TimeoutPolicy {
        self.datapath.snapshot.load().timeouts.clone()
    }

    /// The connection of this tuple.
    pub(crate) fn find(&self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Option<(ConnectionView, Direction)> {
        self.datapath.conntrack.find(protocol.number(), from, to, &self.policy())
    }

    /// The backends of one family take connections or not.
    pub(crate) fn set_backends(&self, change: impl Fn(&Member)) {
        self.backends.iter().for_each(|backend| change(&backend.member));
        let snapshot = self.datapath.snapshot.load();
        for (scheduler, pool) in snapshot.services.iter().flat_map(|service| service.uses("pool").chain(service.uses("backup"))) {
            scheduler.refresh(&pool.members);
        }
    }

    /// A handshake. Returns the SNAT address and port.
    pub(crate) fn established(&mut self, client: SocketAddr, vip: SocketAddr, backend: SocketAddr) -> SocketAddr {
        use super::packet::{ACK, SYN, SYN_ACK, tcp};
        let snat = self.opens(&self.tagged_front(tcp(client, vip, SYN)), backend);
        self.comes_back(&self.tagged_back(tcp(backend, snat, SYN_ACK)), vip, client);
        self.goes_on(&self.tagged_front(tcp(client, vip, ACK)), snat, backend);
        snat
    }

    /// With the tag of the clients' side, if it has one.
    pub(crate) fn tagged_front(&self, packet: Packet) -> Packet {
        Packet { vlan: vlan(self.setup.vlans.0), ..packet }
    }

    /// With the tag of the backends' side, if it has one.
    pub(crate) fn tagged_back(&self, packet: Packet) -> Packet {
        Packet { vlan: vlan(self.setup.vlans.1), ..packet }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new(Setup::default())
    }
}

fn vlan(id: u16) -> Option<u16> {
    (id != 0).then_some(id)
}

fn link_length(vlan: Option<u16>) -> usize {
    if vlan.is_some() { 18 } else { 14 }
}

fn snapshot(setup: &Setup, backends: &[Arc<Backend>]) -> Snapshot {
    let (v4, v6): (Vec<_>, Vec<_>) = backends.iter().cloned().partition(|backend| backend.address().is_ipv4());
    backends.iter().for_each(|backend| backend.member.set_max_connections(setup.backend_limit));
    let mut services = Vec::new();
    for (family, backends) in [(Family::V4, v4), (Family::V6, v6)] {
        let mut destinations = vec![(family.vip(), Some(80)), (family.any_port_vip(0), None)];
        destinations.extend(setup.ftp.map(|_| (family.vip(), Some(21))));
        for (vip, port) in destinations {
            for protocol in protocols(setup, family, port) {
                let (behind, serving): (Vec<_>, Vec<_>) =
                    backends.iter().cloned().partition(|backend| backend.address() == family.backup());
                let (pool, behind) = (Arc::new(Pool::new("pool", serving)), Arc::new(Pool::new("backup", behind)));
                let schedule = |pool: &Pool| build(Kind::RoundRobin, Settings::default(), &pool.members);
                services.push(Arc::new(Service {
                    id: ServiceId(services.len() as u16),
                    name: format!("service-{}", services.len()),
                    vip: vip.ip(),
                    port,
                    protocol,
                    helper: setup.ftp.flatten().filter(|_| port == Some(21) && protocol == Protocol::Tcp),
                    access: Access::new(&setup.allow, &setup.deny),
                    scheduler: schedule(&pool),
                    pool,
                    backup: setup.has_backup.then(|| Backup { scheduler: schedule(&behind), pool: behind }),
                    limits: setup.limits,
                    persistence: setup.persistence,
                    ledger: Arc::clone(&setup.ledger),
                }));
            }
        }
    }
    let own = FAMILIES.iter().flat_map(|family| [family.vip().ip(), family.any_port_vip(0).ip(), family.snat()]);
    Snapshot {
        generation: 1,
        own_addresses: own.collect(),
        services: Services::new(services),
        backends: backends.iter().cloned().map(Some).collect(),
        snat: SnatPool {
            v4: vec!["10.2.0.200".parse().unwrap()],
            v6: vec!["fd02::200".parse().unwrap()],
            ports: setup.snat_ports.clone(),
        },
        timeouts: setup.policy.clone(),
        spared: setup.spared,
        tracking: setup.tracking,
    }
}

fn protocols(setup: &Setup, family: Family, port: Option<u16>) -> Vec<Protocol> {
    let mut protocols = vec![Protocol::Tcp, Protocol::Udp];
    if setup.all_protocols {
        protocols.extend([Protocol::Sctp, Protocol::Dccp]);
        if port.is_none() {
            protocols.extend([Protocol::Gre, if family == Family::V4 { Protocol::Icmp } else { Protocol::Icmpv6 }]);
        }
    }
    protocols
}

fn next_hops(setup: &Setup) -> NextHops {
    let hops = NextHops::default();
    let back = if setup.one_arm { FRONT } else { BACK };
    let mut routes = Vec::new();
    for (prefix, gateway, port, vlan) in [
        ("10.1.0.0/24", None, FRONT, setup.vlans.0),
        ("fd01::/64", None, FRONT, setup.vlans.0),
        ("203.0.113.0/24", Some(Family::V4.gateway()), FRONT, setup.vlans.0),
        ("2001:db8::/32", Some(Family::V6.gateway()), FRONT, setup.vlans.0),
        ("10.2.0.0/24", None, back, setup.vlans.1),
        ("fd02::/64", None, back, setup.vlans.1),
    ] {
        routes.push(Route { prefix: prefix.parse().unwrap(), gateway, port: Some(port), vlan, metric: 0 });
    }
    hops.set_routes(Routes::new(routes));
    for family in FAMILIES {
        let front = NextHop { mac: peer_mac(FRONT), port: FRONT, vlan: setup.vlans.0 };
        let backends = NextHop { mac: peer_mac(back), port: back, vlan: setup.vlans.1 };
        for (address, hop) in [
            (family.client().ip(), front),
            (family.gateway(), NextHop { mac: GATEWAY_MAC, ..front }),
            (family.backend().ip(), backends),
            (family.second_backend().ip(), backends),
            (family.backup().ip(), backends),
        ] {
            assert!(hops.set_neighbour(address, hop));
        }
    }
    for port in [FRONT, BACK] {
        hops.port(port).set(weir_mac(port), MTU as u32);
        hops.port(port).set_recompute(setup.recompute);
    }
    hops
}

/// Whether a packet is TCP.
pub(crate) fn is_tcp(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { .. })
}
