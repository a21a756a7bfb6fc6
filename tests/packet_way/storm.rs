//! Bursts that nobody would send: right packets, packets with changed bytes and random bytes mixed, while backends, neighbours and
//! time change. Whatever leaves is translated on both sides and as right as it came.

use super::packet::{ACK, Checksum, FIN_ACK, PSH_ACK, Packet, RST, SYN, SYN_ACK, icmp, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use etherparse::checksum::Sum16BitWords;
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use weir::conntrack::ConnectionView;
use weir::datapath::{Fate, Handler, Hook, NextHop, PortId, Verdict, priority};
use weir::packet::{Headers, Ip, Payload, be16, parse};

const SNAT_PORTS: std::ops::RangeInclusive<u16> = 20000..=20005;

/// What happens between two bursts.
#[derive(Debug, Clone)]
enum Event {
    Burst(PortId, Vec<Item>),
    Pass(u32),
    Weight(u32),
    Neighbour(bool),
    Mtu(u32),
}

/// One frame of a burst.
#[derive(Debug, Clone)]
enum Item {
    Bytes(Vec<u8>),
    Packet {
        kind: u8,
        v6: bool,
        client: u16,
        snat: u16,
        ttl: u8,
        size: usize,
        checksum: Checksum,
        changes: Vec<(usize, u8)>,
        cut: Option<usize>,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let port = prop_oneof![Just(FRONT), Just(BACK)];
    let event = prop_oneof![
        12 => (port, prop::collection::vec(items(), 1..70)).prop_map(|(port, items)| Event::Burst(port, items)),
        3 => prop_oneof![0u32..1000, 0u32..200_000].prop_map(Event::Pass),
        1 => (0u32..3).prop_map(Event::Weight),
        1 => any::<bool>().prop_map(Event::Neighbour),
        1 => prop_oneof![Just(0u32), 60u32..1600].prop_map(Event::Mtu),
    ];
    prop::collection::vec(event, 1..25)
}

fn items() -> impl Strategy<Value = Item> {
    let checksum =
        prop_oneof![8 => Just(Checksum::Right), 1 => (1u16..0xffff).prop_map(Checksum::Wrong), 1 => Just(Checksum::Zero)];
    let changes = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec((0usize..90, any::<u8>()), 1..4)];
    let cut = prop_oneof![9 => Just(None), 1 => (0usize..120).prop_map(Some)];
    let ttl = prop_oneof![8 => 2u8.., 1 => 0u8..2];
    let packet = (
        0u8..16,
        any::<bool>(),
        1u16..12,
        SNAT_PORTS,
        ttl,
        prop_oneof![3 => 0usize..60, 1 => 0usize..1500],
        checksum,
        changes,
        cut,
    );
    let packet = packet.prop_map(|(kind, v6, client, snat, ttl, size, checksum, changes, cut)| Item::Packet {
        kind,
        v6,
        client,
        snat,
        ttl,
        size,
        checksum,
        changes,
        cut,
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..150).prop_map(Item::Bytes), 9 => packet]
}

impl Item {
    fn frame(&self, world: &World, port: PortId) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Packet { kind, v6, client, snat, ttl, size, checksum, changes, cut } => {
                let family = FAMILIES[usize::from(*v6)];
                let client = SocketAddr::new(family.client().ip(), *client);
                let snat = SocketAddr::new(family.snat(), *snat);
                let packet = choose(*kind, family, client, snat);
                let tagged = if matches!(kind, 8..) { world.tagged_back(packet) } else { world.tagged_front(packet) };
                let packet = tagged.with_ttl(*ttl).with_checksum(*checksum).carrying(&vec![0x5a; *size]);
                let mut frame = world.arriving(port, &packet).frame();
                for (at, byte) in changes {
                    let at = at % frame.len();
                    frame[at] = *byte;
                }
                frame.truncate(cut.unwrap_or(frame.len()));
                frame
            }
        }
    }
}

fn choose(kind: u8, family: Family, client: SocketAddr, snat: SocketAddr) -> Packet {
    let (vip, backend) = (family.vip(), family.backend());
    match kind {
        0 | 1 => tcp(client, vip, SYN),
        2 => tcp(client, vip, ACK),
        3 => tcp(client, vip, PSH_ACK),
        4 => tcp(client, vip, FIN_ACK),
        5 => tcp(client, vip, RST),
        6 => udp(client, vip),
        7 => udp(client, family.any_port_vip(client.port())),
        8 | 9 => tcp(backend, snat, SYN_ACK),
        10 => tcp(backend, snat, ACK),
        11 => tcp(backend, snat, FIN_ACK),
        12 => tcp(family.second_backend(), snat, SYN_ACK),
        13 => udp(backend, snat),
        14 => udp(family.second_backend(), snat),
        _ => icmp(client, vip, 8),
    }
}

/// Addresses by what they are for.
struct Actors {
    vips: HashSet<IpAddr>,
    snats: HashSet<IpAddr>,
    backends: HashSet<IpAddr>,
}

impl Actors {
    fn of(world: &World) -> Self {
        Self {
            vips: FAMILIES.iter().flat_map(|family| [family.vip().ip(), family.any_port_vip(0).ip()]).collect(),
            snats: FAMILIES.iter().map(|family| family.snat()).collect(),
            backends: world.backends.iter().map(|backend| backend.address().ip()).collect(),
        }
    }

    fn check(&self, world: &World, before: &[u8], after: &[u8]) {
        let (was, is) = (parse(before).expect("only what was read goes on"), parse(after).expect("what leaves can be read"));
        if let Payload::Icmp(_) = is.payload {
            assert_eq!((is.source(after), is.destination(after)), (was.destination(before), was.source(before)));
            return;
        }
        let (from, to) = (was.source(before), was.destination(before));
        let (source, destination) = (is.source(after), is.destination(after));
        if self.vips.contains(&to) {
            assert!(
                self.snats.contains(&source) && self.backends.contains(&destination),
                "{from} > {to} left as {source} > {destination}"
            );
            assert!(SNAT_PORTS.contains(&((is.ports(after) >> 16) as u16)));
        } else {
            assert!(self.backends.contains(&from) && self.snats.contains(&to), "{from} > {to} is no reply");
            assert!(self.vips.contains(&source), "{from} > {to} left as {source} > {destination}");
            assert!(!self.snats.contains(&destination) && !self.backends.contains(&destination));
        }
        compare(world, (before, &was), (after, &is));
    }
}

/// Everything that no translation changes, and the checksums.
fn compare(world: &World, (before, was): (&[u8], &Headers), (after, is): (&[u8], &Headers)) {
    assert_eq!((was.ip, was.protocol, was.payload, was.ip_length()), (is.ip, is.protocol, is.payload, is.ip_length()));
    assert_eq!(was.ttl(before) - 1, is.ttl(after));
    let checksum = if was.protocol == 6 { 16 } else { 6 };
    let old = &before[was.l4()..usize::from(was.end)];
    let new = &after[is.l4()..usize::from(is.end)];
    assert_eq!((&old[4..checksum], &old[checksum + 2..]), (&new[4..checksum], &new[checksum + 2..]));
    let absent = was.protocol == 17 && was.ip == Ip::V4 && be16(old, checksum) == 0;
    if absent {
        assert_eq!(be16(new, checksum), 0);
    } else if world.setup.recompute {
        assert!(is_right(after, is));
    } else {
        assert_eq!(is_right(before, was), is_right(after, is), "a checksum changed sides");
    }
}

/// Whether the transport checksum is right, by etherparse's sum over pseudo header and segment.
fn is_right(bytes: &[u8], headers: &Headers) -> bool {
    let segment = &bytes[headers.l4()..usize::from(headers.end)];
    let covered = if headers.protocol == 17 { usize::from(be16(segment, 4)) } else { segment.len() };
    let addresses = match headers.ip {
        Ip::V4 => headers.l3() + 12..headers.l3() + 20,
        Ip::V6 => headers.l3() + 8..headers.l3() + 40,
    };
    let sum = Sum16BitWords::new()
        .add_slice(&bytes[addresses])
        .add_2bytes([0, headers.protocol])
        .add_2bytes((covered as u16).to_be_bytes());
    sum.add_slice(&segment[..covered]).ones_complement() == 0
}

/// What went into a burst, what became of each frame, and what left by either port.
type Storm = (Vec<Vec<u8>>, Vec<(Fate, usize)>, [VecDeque<Vec<u8>>; 2]);

/// Lets an event happen.
fn happen(world: &mut World, event: &Event) -> Storm {
    match event {
        Event::Burst(port, items) => {
            let frames: Vec<_> = items.iter().map(|item| item.frame(world, *port)).collect();
            let fates = world.burst(*port, &frames);
            return (frames, fates, [FRONT, BACK].map(|port| VecDeque::from(world.take_sent(port))));
        }
        Event::Pass(milliseconds) => {
            world.pass(*milliseconds);
            world.sweep();
        }
        Event::Weight(weight) => world.set_backends(|member| member.set_weight(*weight)),
        Event::Neighbour(known) => set_neighbour(world, *known),
        Event::Mtu(mtu) => {
            for port in [FRONT, BACK] {
                world.datapath.next_hops.port(port).set(super::world::weir_mac(port), *mtu);
            }
        }
    }
    Storm::default()
}

fn run(world: &mut World, events: &[Event]) {
    let actors = Actors::of(world);
    for event in events {
        let (frames, fates, mut sent) = happen(world, event);
        for (frame, (fate, _)) in frames.iter().zip(fates) {
            match fate {
                Fate::Undecided => panic!("forgotten: {frame:02x?}"),
                Fate::Transmit(out) => {
                    let after = sent[usize::from(out.0)].pop_front().expect("it was sent");
                    actors.check(world, frame, &after);
                }
                Fate::Drop(_) | Fate::Wait(..) | Fate::Gather => {}
            }
        }
        assert!(sent.iter().all(VecDeque::is_empty), "more was sent than decided");
        check_table(world);
    }
    world.pass(weir::conntrack::MAX_TIMEOUT);
    world.sweep();
    assert_eq!(world.datapath.conntrack.count(), 0, "everything ends");
}

/// A handler that has nothing against any packet: with it, each goes the whole way.
#[derive(Debug)]
pub(super) struct Bystander;

impl Handler for Bystander {
    fn handle(&self, _: &mut weir::datapath::Packet<'_>) -> Verdict {
        Verdict::Accept
    }
}

/// The same storm twice: where packets may go the short way, and where none may.
fn compare_ways(setup: impl Fn() -> Setup, events: &[Event]) {
    let (mut short, mut whole) = (World::new(setup()), World::new(setup()));
    whole.datapath.hooks.register(Hook::Forward, priority::FILTER, Box::new(Bystander));
    for event in events {
        assert_eq!(happen(&mut short, event), happen(&mut whole, event), "{event:?}");
        assert_eq!(short.counted(), whole.counted());
        assert_eq!(connections(&short), connections(&whole));
    }
}

/// All that is known of every connection.
fn connections(world: &World) -> Vec<ConnectionView> {
    let mut connections = Vec::new();
    world.datapath.conntrack.for_each(&world.policy(), &mut |view| connections.push(view.clone()));
    connections
}

fn set_neighbour(world: &World, known: bool) {
    let (back, vlan) = (world.back(), world.setup.vlans.1);
    for family in FAMILIES {
        if known {
            world
                .datapath
                .next_hops
                .set_neighbour(family.backend().ip(), NextHop { mac: super::world::peer_mac(back), port: back, vlan });
        } else {
            world.datapath.next_hops.clear_neighbour(family.backend().ip(), back, vlan);
        }
    }
}

/// The list shows every connection once, no tuple twice.
fn check_table(world: &World) {
    let (mut originals, mut replies, mut views) = (HashSet::new(), HashSet::new(), 0);
    world.datapath.conntrack.for_each(&world.policy(), &mut |view| {
        views += 1;
        assert!(originals.insert((view.protocol, view.original)), "twice: {view:?}");
        assert!(replies.insert((view.protocol, view.reply)), "twice: {view:?}");
    });
    // One that was replaced by a new one over the same tuple is counted until the sweep has seen it.
    assert!(views <= world.datapath.conntrack.count());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_short_way_ends_where_the_whole_way_does(
        events in events(),
        one_arm: bool,
        recompute: bool,
        vlans in prop::sample::select(vec![(0, 0), (0, 0), (5, 6), (0, 7)]),
    ) {
        compare_ways(|| Setup { connections: 40, snat_ports: SNAT_PORTS, vlans, one_arm, recompute, ..Default::default() }, &events);
    }

    #[test]
    fn whatever_comes_nothing_leaves_half_translated(
        events in events(),
        one_arm: bool,
        recompute: bool,
        vlans in prop::sample::select(vec![(0, 0), (0, 0), (5, 6), (0, 7)]),
        connections in 5usize..40,
        backends in 1usize..3,
    ) {
        let snat_ports = SNAT_PORTS;
        run(&mut World::new(Setup { connections, snat_ports, backends, vlans, one_arm, recompute, ..Default::default() }), &events);
    }
}
