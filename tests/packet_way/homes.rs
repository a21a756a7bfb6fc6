//! Homes: a dispatcher that spreads frames over workers as a network card does, by a Toeplitz hash of its own; each reply comes in at the
//! worker that has opened its connection.

use super::packet::{Packet, SYN, SYN_ACK, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use weir::conntrack::Millis;
use weir::datapath::{BURST, Counters, Datapath, Fate, Lane, PortId};
use weir::io::Ports;
use weir::io::memory::{MemoryPorts, MemorySizes};
use weir::nat::{Homes, Served, Spread};
use weir::packet::rss::Rss;
use weir::packet::toeplitz::{Hashed, Toeplitz};
use weir::packet::{Payload, parse};
use weir::service::BackendId;

/// Of Microsoft's verification suite.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae,
    0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// A network card with some queues, the same toward both sides, and a worker for each queue that is served.
struct Card {
    table: Vec<u32>,
    workers: Vec<Worker>,
}

struct Worker {
    lane: Lane,
    ports: MemoryPorts,
    counters: Arc<Counters>,
}

/// A frame that a worker has sent.
struct Sent {
    worker: usize,
    frame: Vec<u8>,
}

impl Card {
    fn new(datapath: &Datapath, table: Vec<u32>, workers: usize) -> Self {
        let worker = |number: usize| {
            let counters = Arc::new(Counters::default());
            let lane = datapath.lane(Arc::clone(&counters)).unwrap().of_worker(number as u8);
            Worker { lane, ports: MemoryPorts::new(MemorySizes::default(), Arc::clone(&counters)), counters }
        };
        Self { table, workers: (0..workers).map(worker).collect() }
    }

    /// What the driver would tell.
    fn rss(&self) -> Rss {
        let both = Some(Hashed::AddressesAndPorts);
        let table = self.table.clone().into();
        Rss { toeplitz: Toeplitz::new(&KEY).unwrap(), table, tcp_v4: both, udp_v4: both, tcp_v6: both, udp_v6: both }
    }

    /// The worker whose queue a frame falls on; `None`: nobody serves that.
    fn dispatch(&self, frame: &[u8]) -> Option<usize> {
        let queue = self.table[toeplitz(&input(frame)) as usize % self.table.len()] as usize;
        (queue < self.workers.len()).then_some(queue)
    }

    /// The frame comes in at `port`; what leaves.
    fn arrive(&mut self, datapath: &Datapath, port: PortId, frame: &[u8], now: Millis) -> Option<Sent> {
        let worker = self.dispatch(frame)?;
        let Worker { lane, ports, .. } = &mut self.workers[worker];
        assert!(ports.push(port, frame));
        let mut fate = Fate::Undecided;
        ports.receive(port, &mut |burst| {
            datapath.process(lane, burst, now);
            fate = burst[0].fate;
        });
        ports.flush().unwrap();
        let Fate::Transmit(out) = fate else { return None };
        Some(Sent { worker, frame: ports.take_sent(out).remove(0) })
    }

    /// A first packet comes in at this worker, wherever the card would bring it; the source that it leaves with.
    fn open_at(&mut self, world: &World, worker: usize, first: &Packet) -> Option<SocketAddr> {
        let frame = world.arriving(FRONT, first).frame();
        let Worker { lane, ports, .. } = &mut self.workers[worker];
        assert!(ports.push(FRONT, &frame));
        ports.receive(FRONT, &mut |burst| world.datapath.process(lane, burst, world.now));
        ports.flush().unwrap();
        ports.take_sent(BACK).first().map(|sent| ends(sent).0)
    }

    fn sum(&self, count: fn(&Counters) -> u64) -> u64 {
        self.workers.iter().map(|worker| count(&worker.counters)).sum()
    }
}

/// What a card hashes: addresses and ports as they are on the wire.
fn input(frame: &[u8]) -> Vec<u8> {
    let headers = parse(frame).unwrap();
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ports = &frame[headers.l4()..headers.l4() + 4];
    [octets(headers.source(frame)), octets(headers.destination(frame)), ports.to_vec()].concat()
}

/// As Microsoft writes it: for each bit of the input, the left-most 32 bits of the key; then the key moves on by one bit.
fn toeplitz(input: &[u8]) -> u32 {
    let mut key: Vec<bool> = KEY.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    let mut hash = 0;
    for bit in input.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)) {
        if bit {
            hash ^= key[..32].iter().fold(0u32, |word, bit| word << 1 | u32::from(*bit));
        }
        key.rotate_left(1);
    }
    hash
}

/// The control thread's part.
fn settle(world: &World, card: &Card) {
    let (rss, workers) = (card.rss(), card.workers.len());
    let spread = Arc::new(Spread::new(&rss, workers, |queue| ((queue as usize) < workers).then_some(queue as usize)));
    let snapshot = world.datapath.snapshot.load();
    let served: Vec<Served> = world
        .backends
        .iter()
        .map(|backend| Served { backend: BackendId(backend.id.0), target: backend.address(), protocols: [true; 2] })
        .collect();
    let before = world.datapath.homes.load_full();
    let homes = Homes::new(workers, vec![Some(Arc::clone(&spread)), Some(spread)], &snapshot.snat, &served, before.as_deref());
    world.datapath.homes.store(Some(Arc::new(homes)));
}

fn ends(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let headers = parse(frame).unwrap();
    let ports = headers.ports(frame);
    (SocketAddr::new(headers.source(frame), (ports >> 16) as u16), SocketAddr::new(headers.destination(frame), ports as u16))
}

/// A first packet, and the reply to it. Which worker had the one, and which, if any, the other; `None`: no worker had the first one, or it was dropped.
fn open(world: &World, card: &mut Card, first: &Packet) -> Option<(usize, Option<usize>)> {
    let frame = world.arriving(FRONT, first).frame();
    let sent = card.arrive(&world.datapath, FRONT, &frame, world.now)?;
    let (snat, backend) = ends(&sent.frame);
    let answer = match parse(&sent.frame).unwrap().payload {
        Payload::Tcp(_) => tcp(backend, snat, SYN_ACK),
        _ => udp(backend, snat),
    };
    let reply = world.arriving(BACK, &answer).frame();
    let answered = card.dispatch(&reply);
    card.arrive(&world.datapath, BACK, &reply, world.now);
    Some((sent.worker, answered))
}

fn table(entries: usize, queues: usize) -> Vec<u32> {
    (0..entries).map(|entry| (entry % queues) as u32).collect()
}

fn client(family: Family, number: usize) -> SocketAddr {
    SocketAddr::new(family.far_client().ip(), (1024 + number) as u16)
}

type Make = fn(SocketAddr, SocketAddr) -> Packet;
const MAKERS: [Make; 2] = [|from, to| tcp(from, to, SYN), udp];

#[test]
fn every_reply_comes_home() {
    for queues in [2, 4, 8, 16] {
        let world = World::new(Setup { connections: 10_000, snat_ports: 1024..=65535, backends: 2, ..Setup::default() });
        let mut card = Card::new(&world.datapath, table(128, queues), queues);
        settle(&world, &card);
        let (mut opened, mut workers) = (0, vec![0; queues]);
        for family in FAMILIES {
            // To the backend's own port, and by the service on every port to one that nothing is noted of.
            for vip in [family.vip(), family.any_port_vip(7777)] {
                for make in MAKERS {
                    for number in 0..1000 {
                        let (worker, answered) = open(&world, &mut card, &make(client(family, number), vip)).unwrap();
                        assert_eq!(answered, Some(worker), "{queues} queues, {vip}, client {number}");
                        opened += 1;
                        workers[worker] += 1;
                    }
                }
            }
        }
        assert!(workers.iter().all(|count| *count > 200), "{workers:?}");
        assert_eq!(card.sum(|counters| counters.first_replies.get()), opened);
        assert_eq!(card.sum(|counters| counters.first_replies_at_home.get()), opened);
        assert_eq!(card.sum(|counters| counters.homeless.get()), 0);
    }
}

#[test]
fn without_homes_replies_come_in_anywhere_and_that_is_counted() {
    let world = World::new(Setup { connections: 5000, snat_ports: 1024..=65535, ..Setup::default() });
    let mut card = Card::new(&world.datapath, table(128, 4), 4);
    let replies: Vec<_> =
        (0..2000).map(|number| open(&world, &mut card, &udp(client(Family::V4, number), Family::V4.vip())).unwrap()).collect();
    let home = replies.iter().filter(|(worker, answered)| Some(*worker) == *answered).count() as u64;
    assert!((300..700).contains(&home), "{home} of 2000 by chance");
    assert_eq!(card.sum(|counters| counters.first_replies.get()), 2000);
    assert_eq!(card.sum(|counters| counters.first_replies_at_home.get()), home);
    assert_eq!(card.sum(|counters| counters.homeless.get()), 0);
}

/// Queues of a number that is no power of two, unequal shares, and one that nobody serves: no reply is sent there.
#[test]
fn no_reply_falls_on_a_queue_that_nobody_serves() {
    let world = World::new(Setup { connections: 5000, snat_ports: 1024..=65535, ..Setup::default() });
    let uneven = (0..64).map(|entry| [0, 1, 2, 3, 0, 0, 3][entry % 7]).collect();
    let mut card = Card::new(&world.datapath, uneven, 3);
    settle(&world, &card);
    let opened: Vec<_> =
        (0..2000).filter_map(|number| open(&world, &mut card, &udp(client(Family::V6, number), Family::V6.vip()))).collect();
    assert!((1000..1800).contains(&opened.len()), "{} came in at queues that are served", opened.len());
    assert!(opened.iter().all(|(worker, answered)| Some(*worker) == *answered));
}

/// Up to the last port at home that is free; then another worker's; and home again when connections have ended.
#[test]
fn ports_at_home_are_used_up_and_come_back() {
    const PORTS: std::ops::RangeInclusive<u16> = 30_000..=30_999;
    let mut world = World::new(Setup { connections: 5000, snat_ports: PORTS, ..Setup::default() });
    let mut card = Card::new(&world.datapath, table(128, 4), 4);
    settle(&world, &card);
    let vip = Family::V4.vip();
    let (mut at_home, mut away, mut number) = ([0usize; 4], 0, 0);
    while at_home.iter().sum::<usize>() + away < PORTS.len() {
        let (worker, answered) = open(&world, &mut card, &udp(client(Family::V4, number), vip)).unwrap();
        number += 1;
        match answered == Some(worker) {
            true => at_home[worker] += 1,
            false => away += 1,
        }
        if away == 0 {
            assert_eq!(card.sum(|counters| counters.homeless.get()), 0, "at {at_home:?}");
        }
    }
    assert_eq!(card.sum(|counters| counters.homeless.get()), away as u64);
    // A worker is given another's ports only after its own quarter; the last ones go to whoever asks.
    assert!(at_home.iter().all(|count| (100..=350).contains(count)), "{at_home:?}, {away} away");
    assert!(at_home.iter().sum::<usize>() > 800, "{at_home:?}, {away} away");
    assert!(open(&world, &mut card, &udp(client(Family::V4, number), vip)).is_none(), "all are taken");

    world.pass(world.timeouts().udp_stream + 1);
    assert_eq!(world.sweep().len(), PORTS.len());
    for number in 0..700 {
        let (worker, answered) = open(&world, &mut card, &udp(client(Family::V4, number), vip)).unwrap();
        assert_eq!(answered, Some(worker), "client {number}");
    }
}

/// A table that changes under way: what is open goes on, what comes next goes by the new one, and taken ports stay taken.
#[test]
fn another_table_is_followed() {
    let world = World::new(Setup { connections: 5000, snat_ports: 40_000..=41_999, ..Setup::default() });
    let mut card = Card::new(&world.datapath, table(128, 4), 4);
    settle(&world, &card);
    let vip = Family::V4.vip();
    let opened = |card: &mut Card, range: std::ops::Range<usize>| {
        range
            .filter(|number| {
                let (worker, answered) = open(&world, card, &tcp(client(Family::V4, *number), vip, SYN)).unwrap();
                Some(worker) == answered
            })
            .count()
    };
    assert_eq!(opened(&mut card, 0..500), 500);
    card.table.reverse();
    // Not looked at yet.
    assert!(opened(&mut card, 500..600) < 100);
    settle(&world, &card);
    assert_eq!(opened(&mut card, 600..1400), 800);
    assert_eq!(world.datapath.conntrack.count(), 1400);
}

#[test]
fn nothing_is_allocated_for_a_port_at_home() {
    let mut world = World::new(Setup { connections: 5000, snat_ports: 1024..=65535, ..Setup::default() });
    let card = Card::new(&world.datapath, table(128, 4), 4);
    settle(&world, &card);
    let frames = |range: std::ops::Range<usize>| -> Vec<_> {
        range.map(|number| world.arriving(FRONT, &tcp(client(Family::V4, number), Family::V4.vip(), SYN)).frame()).collect()
    };
    let (warming, measured) = (frames(0..64), frames(64..192));
    world.allocations(FRONT, &warming);
    let (fates, allocations) = world.allocations(FRONT, &measured);
    assert!(fates.iter().all(|fate| *fate == Fate::Transmit(BACK)));
    assert_eq!(allocations, 0);
}

/// Nobody notes what is taken toward the ports of a service on every port. A worker that has all the work does not meet its own ports again.
#[test]
fn one_busy_worker_finds_its_ports_by_trying() {
    for queues in [2, 16] {
        let world = World::new(Setup { connections: 5000, snat_ports: 1024..=65535, ..Setup::default() });
        let mut card = Card::new(&world.datapath, table(128, queues), queues);
        settle(&world, &card);
        for number in 0..3000 {
            let first = udp(client(Family::V4, number), Family::V4.any_port_vip(7777));
            assert!(card.open_at(&world, 1, &first).is_some());
        }
        assert_eq!(card.sum(|counters| counters.homeless.get()), 0, "{queues} queues");
    }
}

#[test]
fn snat_addresses_take_turns() {
    for count in 1..=4 {
        for vip in [Family::V4.vip(), Family::V4.any_port_vip(7777)] {
            let world = World::new(Setup { connections: 5000, snat_ports: 1024..=65535, ..Setup::default() });
            let mut snapshot = Arc::into_inner(World::new(world.setup.clone()).datapath.snapshot.into_inner()).unwrap();
            snapshot.snat.v4 = (0..count).map(|at| Ipv4Addr::new(10, 2, 0, 200 + at)).collect();
            world.datapath.snapshot.store(Arc::new(snapshot));
            let mut card = Card::new(&world.datapath, table(128, 4), 4);
            settle(&world, &card);
            let mut given = BTreeMap::new();
            for number in 0..1200 {
                let source = card.open_at(&world, number % 4, &udp(client(Family::V4, number), vip)).unwrap();
                *given.entry(source.ip()).or_insert(0) += 1;
            }
            assert_eq!(given.len(), usize::from(count), "{given:?}");
            assert!(given.values().all(|one| *one >= 1200 / i32::from(count) - 4), "{vip}: {given:?}");
        }
    }
}

/// Two pools may have the same backend: what one takes the other does not try, and what one gives back is free for both.
#[test]
fn backends_with_one_address_share_what_is_taken() {
    const PORTS: std::ops::RangeInclusive<u16> = 30_000..=30_099;
    let mut world = World::new(Setup { connections: 1000, snat_ports: PORTS, ..Setup::default() });
    let mut card = Card::new(&world.datapath, vec![0; 128], 2);
    let served = |ids: &[u16]| -> Vec<Served> {
        let target = Family::V4.backend();
        ids.iter().map(|id| Served { backend: BackendId(*id), target, protocols: [true; 2] }).collect()
    };
    let publish = |world: &World, card: &Card, ids: &[u16]| {
        let spread = Arc::new(Spread::new(&card.rss(), 2, |queue| Some(queue as usize)));
        let (snapshot, before) = (world.datapath.snapshot.load(), world.datapath.homes.load_full());
        let homes = Homes::new(2, vec![Some(Arc::clone(&spread)), Some(spread)], &snapshot.snat, &served(ids), before.as_deref());
        world.datapath.homes.store(Some(Arc::new(homes)));
    };
    publish(&world, &card, &[0, 7]);
    let all = |world: &World, card: &mut Card| {
        let opened = (0..PORTS.len())
            .filter(|number| card.open_at(world, 0, &udp(client(Family::V4, *number), Family::V4.vip())).is_some());
        opened.count()
    };
    assert_eq!(all(&world, &mut card), PORTS.len());
    // The id under which they were opened is nobody's any more when they end.
    publish(&world, &card, &[7]);
    world.pass(world.timeouts().udp + 1);
    assert_eq!(world.sweep().len(), PORTS.len());
    publish(&world, &card, &[0, 7]);
    assert_eq!(all(&world, &mut card), PORTS.len());
    assert_eq!(card.sum(|counters| counters.homeless.get()), 0);
}

/// Workers open the same connections at once in a table that is too small for them, connections are deleted and evicted, and the
/// card's table changes all the time. At the end every port can be had at home.
#[test]
fn no_port_stays_taken_without_a_connection() {
    const PORTS: std::ops::RangeInclusive<u16> = 30_000..=30_299;
    const ENOUGH: u64 = 100_000;
    let mut world = World::new(Setup { connections: 450, snat_ports: PORTS, ..Setup::default() });
    let mut card = Card::new(&world.datapath, table(128, 4), 4);
    settle(&world, &card);
    let frames: Vec<Vec<u8>> = FAMILIES
        .iter()
        .flat_map(|family| (0..400).map(move |number| (*family, client(*family, number))))
        .flat_map(|(family, client)| [tcp(client, family.vip(), SYN), udp(client, family.vip())])
        .map(|packet| world.arriving(FRONT, &packet).frame())
        .collect();
    let (clock, counters) = (AtomicU32::new(world.now.0), card.workers.iter().map(|worker| Arc::clone(&worker.counters)));
    let counters: Vec<_> = counters.collect();
    let opened = || counters.iter().map(|counters| counters.new_connections.get()).sum::<u64>();
    let (datapath, rss, timeouts) = (&world.datapath, card.rss(), world.policy());
    let served: Vec<Served> = world
        .backends
        .iter()
        .map(|backend| Served { backend: backend.id, target: backend.address(), protocols: [true; 2] })
        .collect();
    std::thread::scope(|scope| {
        for Worker { lane, ports, .. } in &mut card.workers {
            let (clock, frames, opened) = (&clock, &frames, &opened);
            scope.spawn(move || {
                for round in 0.. {
                    if opened() >= ENOUGH {
                        return;
                    }
                    // All of them go through the same list: they meet.
                    (0..BURST).for_each(|at| assert!(ports.push(FRONT, &frames[(round * 31 + at * 7) % frames.len()])));
                    let now = Millis(clock.load(Ordering::Relaxed));
                    ports.receive(FRONT, &mut |burst| datapath.process(lane, burst, now));
                    ports.flush().unwrap();
                    ports.take_sent(BACK);
                }
            });
        }
        for round in 0usize.. {
            if opened() >= ENOUGH {
                return;
            }
            let now = Millis(clock.fetch_add(40, Ordering::Relaxed));
            let mut other = rss.clone();
            other.table.rotate_left(round % 7);
            let spread = Arc::new(Spread::new(&other, 4, |queue| Some(queue as usize)));
            let (snapshot, before) = (datapath.snapshot.load(), datapath.homes.load_full());
            let homes = Homes::new(4, vec![Some(Arc::clone(&spread)), Some(spread)], &snapshot.snat, &served, before.as_deref());
            datapath.homes.store(Some(Arc::new(homes)));
            let client = client(Family::V4, round % 400);
            datapath.conntrack.delete((17, client, Family::V4.vip()), now, &timeouts);
            let homes = datapath.homes.load_full().unwrap();
            datapath.conntrack.sweep(now, &timeouts, 1 << 12, &mut |view| homes.release(view));
            datapath.conntrack.free_swept();
        }
    });
    world.now = Millis(clock.load(Ordering::Relaxed));
    card.table = vec![0; 128];
    settle(&world, &card);
    for family in FAMILIES {
        for make in MAKERS {
            end_all(&mut world);
            let before = card.sum(|counters| counters.homeless.get());
            for number in 0..PORTS.len() {
                let went = card.open_at(&world, 0, &make(client(family, 3000 + number), family.vip()));
                assert!(went.is_some(), "{family:?}, connection {number}");
            }
            assert_eq!(card.sum(|counters| counters.homeless.get()), before, "{family:?}");
        }
    }
}

fn end_all(world: &mut World) {
    for _ in 0..3 {
        world.pass(600_000_000);
        let (timeouts, homes) = (world.policy(), world.datapath.homes.load_full().unwrap());
        let conntrack = &world.datapath.conntrack;
        while !conntrack.sweep(world.now, &timeouts, 1 << 20, &mut |view| homes.release(view)).wrapped {}
        conntrack.free_swept();
    }
    assert_eq!(world.datapath.conntrack.count(), 0);
}
