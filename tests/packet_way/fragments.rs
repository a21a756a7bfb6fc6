//! Fragments: each goes the way of the first one of its datagram, whatever order they come in and whoever gets them.

use super::packet::{ACK, Checksum, PSH_ACK, Packet, SYN, Transport, icmp, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World, peer_mac, weir_mac};
use std::net::SocketAddr;
use std::sync::Arc;
use weir::conntrack::{FragmentLimits, Millis};
use weir::datapath::{Datapath, DropReason, Fate, NextHop, PortId};
use weir::io::memory::{MemoryPorts, MemorySizes};
use weir::packet::checksum;
use weir::worker::{Balancer, Monotonic, Resolver, Rounds, Shared};

/// Payload bytes in each fragment but the last.
const PIECE: usize = 496;

/// Where the IP packet begins and where what a fragment carries begins, in a frame without tag, options and extension headers.
fn offsets(frame: &[u8]) -> (usize, usize) {
    let l3 = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    (l3, l3 + if frame[l3] >> 4 == 4 { 20 } else { 40 })
}

/// Bytes `range` of the payload of the IP packet in `frame` as a fragment of it; `more` as in its header.
fn piece(frame: &[u8], range: std::ops::Range<usize>, more: bool, id: u16) -> Vec<u8> {
    let (l3, payload) = offsets(frame);
    assert!(range.start.is_multiple_of(8));
    let carried = &frame[payload + range.start..payload + range.end];
    let mut out = frame[..payload].to_vec();
    if out[l3] >> 4 == 4 {
        out[l3 + 2..l3 + 4].copy_from_slice(&(20 + carried.len() as u16).to_be_bytes());
        out[l3 + 4..l3 + 6].copy_from_slice(&id.to_be_bytes());
        let field = (range.start / 8) as u16 | if more { 0x2000 } else { 0 };
        out[l3 + 6..l3 + 8].copy_from_slice(&field.to_be_bytes());
        out[l3 + 10..l3 + 12].fill(0);
        let sum = !checksum::fold(checksum::sum(&out[l3..l3 + 20]));
        out[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let next = std::mem::replace(&mut out[l3 + 6], 44);
        out[l3 + 4..l3 + 6].copy_from_slice(&(8 + carried.len() as u16).to_be_bytes());
        let field = range.start as u16 | u16::from(more);
        out.extend([next, 0, (field >> 8) as u8, field as u8, 0, 0, (id >> 8) as u8, id as u8]);
    }
    out.extend(carried);
    out
}

/// The packet in pieces.
pub(super) fn split(frame: &[u8], id: u16) -> Vec<Vec<u8>> {
    let (_, payload) = offsets(frame);
    let length = frame.len() - payload;
    let starts = (0..length).step_by(PIECE);
    starts.map(|start| piece(frame, start..(start + PIECE).min(length), start + PIECE < length, id)).collect()
}

/// A datagram that takes four fragments.
pub(super) fn large(packet: Packet) -> Packet {
    let payload: Vec<u8> = (0..3 * PIECE + 100).map(|n| (n * 7) as u8).collect();
    Packet { dont_fragment: false, ..packet.carrying(&payload) }
}

fn data(from: SocketAddr, to: SocketAddr) -> Packet {
    tcp(from, to, PSH_ACK)
}

/// What `packet` is when it has left from `from` to `to` by `port`.
fn translated(packet: &Packet, (from, to): (SocketAddr, SocketAddr), port: PortId, vlan: Option<u16>) -> Packet {
    Packet { from, to, ttl: packet.ttl - 1, to_mac: peer_mac(port), from_mac: weir_mac(port), vlan, ..packet.clone() }
}

/// A connection, one direction of it, and a large packet of that direction: as it comes in and as it leaves.
struct Flow {
    world: World,
    came_in: PortId,
    leaves_by: PortId,
    packet: Packet,
    expected: Packet,
}

fn flow(setup: Setup, family: Family, from_backend: bool, make: fn(SocketAddr, SocketAddr) -> Packet) -> Flow {
    let mut world = World::new(setup);
    let (client, vip, backend) = (family.client(), family.vip(), family.backend());
    let snat = match super::world::is_tcp(&make(client, vip)) {
        true => world.established(client, vip, backend),
        false => world.opens(&world.tagged_front(udp(client, vip)), backend),
    };
    let (from, to, as_from, as_to) = if from_backend { (backend, snat, vip, client) } else { (client, vip, snat, backend) };
    let (came_in, leaves_by) = if from_backend { (world.back(), world.front()) } else { (world.front(), world.back()) };
    let packet = large(make(from, to));
    let (front, back) = (world.tagged_front(packet.clone()), world.tagged_back(packet));
    let (packet, vlan) = if from_backend { (back, front.vlan) } else { (front, back.vlan) };
    let expected = translated(&packet, (as_from, as_to), leaves_by, vlan);
    let packet = world.arriving(came_in, &packet);
    Flow { world, came_in, leaves_by, packet, expected }
}

fn default_flow(family: Family) -> Flow {
    flow(Setup::default(), family, false, udp)
}

impl Flow {
    fn pieces(&self, id: u16) -> Vec<Vec<u8>> {
        split(&self.packet.frame(), id)
    }

    fn sends(&mut self, fragment: &[u8], expected: &[u8]) {
        let outcome = self.world.send(self.came_in, fragment);
        assert_eq!(outcome.fate, Fate::Transmit(self.leaves_by));
        assert_eq!(outcome.sent, Some((self.leaves_by, expected.to_vec())));
        assert_eq!(outcome.moved.get("established"), Some(&1), "{:?}", outcome.moved);
    }

    fn drops(&mut self, fragment: &[u8], reason: DropReason) {
        let outcome = self.world.send(self.came_in, fragment);
        assert_eq!((outcome.fate, outcome.sent), (Fate::Drop(reason), None));
        assert_eq!(outcome.moved.get(&format!("drop {}", reason.label())), Some(&1));
    }

    fn waits(&mut self, fragment: &[u8]) {
        let outcome = self.world.send(self.came_in, fragment);
        assert_eq!((outcome.fate, outcome.sent), (Fate::Gather, None));
        assert_eq!(outcome.moved.get("waiting"), Some(&1));
    }
}

#[test]
fn all_follow_the_first() {
    for family in FAMILIES {
        for setup in [
            Setup::default(),
            Setup { one_arm: true, ..Setup::default() },
            Setup { vlans: (100, 0), ..Setup::default() },
            Setup { vlans: (0, 200), ..Setup::default() },
            // What came in pieces has a whole checksum, on whatever interface.
            Setup { recompute: true, ..Setup::default() },
        ] {
            for from_backend in [false, true] {
                for make in [udp, data] {
                    let mut flow = flow(setup.clone(), family, from_backend, make);
                    let (pieces, expected) = (flow.pieces(7), split(&flow.expected.frame(), 7));
                    assert_eq!(pieces.len(), 4);
                    // The others in any order.
                    for at in [0, 3, 1, 2] {
                        flow.sends(&pieces[at], &expected[at]);
                    }
                    assert_eq!(flow.world.datapath.conntrack.count(), 1);
                }
            }
        }
    }
}

#[test]
fn a_first_fragment_opens_a_connection() {
    for family in FAMILIES {
        for make in [udp, |from, to| tcp(from, to, SYN)] as [fn(_, _) -> _; 2] {
            let mut world = World::default();
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let packet = world.arriving(FRONT, &large(make(client, vip)));
            let pieces = split(&packet.frame(), 9);
            let outcome = world.send(FRONT, &pieces[0]);
            assert_eq!(outcome.moved.get("new_connections"), Some(&1));
            let (_, sent) = outcome.sent.unwrap();
            let at = sent.len() - PIECE;
            let snat = SocketAddr::new(family.snat(), u16::from_be_bytes([sent[at], sent[at + 1]]));
            let expected = split(&translated(&packet, (snat, backend), BACK, None).frame(), 9);
            assert_eq!(sent, expected[0]);
            for at in 1..4 {
                assert_eq!(world.send(FRONT, &pieces[at]).sent, Some((BACK, expected[at].clone())));
            }
        }
    }
}

#[test]
fn an_absent_checksum_stays_absent() {
    let mut flow = default_flow(Family::V4);
    flow.packet.checksum = Checksum::Zero;
    flow.expected.checksum = Checksum::Zero;
    let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
    flow.sends(&pieces[0], &expected[0]);
    flow.sends(&pieces[1], &expected[1]);
}

#[test]
fn what_comes_before_the_first_waits() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        for at in [3, 1, 2] {
            flow.waits(&pieces[at]);
        }
        flow.sends(&pieces[0], &expected[0]);
        flow.sends(&pieces[3], &expected[3]);
        // Of another datagram, address or protocol.
        let other = flow.pieces(2);
        flow.waits(&other[1]);
    }
}

#[test]
fn copies_are_dropped_and_the_datagram_goes_on() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let frame = flow.packet.frame();
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        flow.sends(&pieces[0], &expected[0]);
        flow.drops(&pieces[0], DropReason::FragmentDuplicate);
        flow.sends(&pieces[3], &expected[3]);
        flow.sends(&pieces[1], &expected[1]);
        for copy in [&pieces[0], &pieces[1], &pieces[3], &piece(&frame, 8..16, true, 1), &piece(&frame, 0..PIECE - 8, true, 1)] {
            flow.drops(copy, DropReason::FragmentDuplicate);
        }
        flow.sends(&pieces[2], &expected[2]);
        flow.drops(&pieces[2], DropReason::FragmentDuplicate);
    }
}

/// RFC 5722: the whole datagram. What went on before cannot be completed.
#[test]
fn overlapping_fragments_end_their_datagram() {
    for family in FAMILIES {
        let last = 3 * PIECE + 108;
        for overlapping in [
            (PIECE - 8..2 * PIECE, true),
            (8..PIECE + 8, true),
            // A longer first one.
            (0..PIECE + 8, true),
            // They do not agree on the end.
            (2 * PIECE..3 * PIECE, false),
            (3 * PIECE..last + 4, true),
            (3 * PIECE..last - 60, false),
        ] {
            let mut flow = default_flow(family);
            let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
            let mut frame = flow.packet.frame();
            frame.extend([0; 100]);
            flow.sends(&pieces[0], &expected[0]);
            flow.sends(&pieces[3], &expected[3]);
            flow.drops(&piece(&frame, overlapping.0.clone(), overlapping.1, 1), DropReason::FragmentOverlap);
            for at in [0, 1, 2, 3] {
                flow.drops(&pieces[at], DropReason::FragmentOverlap);
            }
            // Other datagrams go on.
            let (pieces, expected) = (flow.pieces(2), split(&flow.expected.frame(), 2));
            flow.sends(&pieces[0], &expected[0]);
            flow.sends(&pieces[1], &expected[1]);
        }
        // The end is told by a fragment behind which others went on.
        let mut flow = default_flow(family);
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        flow.sends(&pieces[0], &expected[0]);
        flow.sends(&pieces[2], &expected[2]);
        flow.drops(&piece(&flow.packet.frame(), PIECE..PIECE + 16, false, 1), DropReason::FragmentOverlap);
        flow.drops(&pieces[3], DropReason::FragmentOverlap);
    }
}

/// RFC 1858 and 3128: what a filter must see cannot be hidden in the next fragment, nor overwritten by it.
#[test]
fn tiny_fragments() {
    for family in FAMILIES {
        let mut flow = flow(Setup::default(), family, false, data);
        let frame = flow.packet.frame();
        for length in [8, 16] {
            flow.drops(&piece(&frame, 0..length, true, 1), DropReason::FragmentTiny);
            flow.drops(&piece(&frame, 8..80, true, 1), DropReason::FragmentRefused);
            flow.world.pass(60_000);
        }
        let expected = flow.expected.frame();
        flow.sends(&piece(&frame, 0..24, true, 2), &piece(&expected, 0..24, true, 2));
        flow.drops(&piece(&frame, 8..80, true, 2), DropReason::FragmentOverlap);
        // A header of 60 bytes, of which 56 are there.
        let mut long = frame.clone();
        let (_, l4) = offsets(&long);
        long[l4 + 12] = 0xf0;
        flow.drops(&piece(&long, 0..56, true, 3), DropReason::FragmentTiny);
    }
    // IPv6: options that go on into the next fragment.
    let mut flow = default_flow(Family::V6);
    let mut frame = flow.packet.frame();
    let (l3, payload) = offsets(&frame);
    frame[l3 + 6] = 60;
    frame[payload..payload + 2].copy_from_slice(&[17, 20]);
    flow.drops(&piece(&frame, 0..80, true, 1), DropReason::FragmentTiny);
}

#[test]
fn malformed_fragments() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let frame = flow.packet.frame();
        for (range, more) in [(0..PIECE + 4, true), (PIECE..PIECE + 7, true), (8..8, false), (8..8, true)] {
            flow.drops(&piece(&frame, range, more, 1), DropReason::FragmentMalformed);
        }
        // Past 65535 bytes.
        let mut far = piece(&frame, 8..24, false, 1);
        let (l3, payload) = offsets(&far);
        match family {
            Family::V4 => {
                far[l3 + 6..l3 + 8].copy_from_slice(&0x1fffu16.to_be_bytes());
                far[l3 + 10..l3 + 12].fill(0);
                let sum = !checksum::fold(checksum::sum(&far[l3..l3 + 20]));
                far[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => far[payload + 2..payload + 4].copy_from_slice(&0xfff8u16.to_be_bytes()),
        }
        flow.drops(&far, DropReason::FragmentMalformed);
        // Nothing of that is remembered.
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        flow.sends(&pieces[0], &expected[0]);
        flow.sends(&pieces[1], &expected[1]);
        // A first fragment that is wrong otherwise.
        let mut port_zero = flow.pieces(2);
        let (_, payload) = offsets(&port_zero[0]);
        let at = payload + if family == Family::V6 { 8 } else { 0 };
        port_zero[0][at..at + 2].fill(0);
        flow.drops(&port_zero[0], DropReason::PortZero);
        flow.drops(&port_zero[1], DropReason::FragmentRefused);
    }
}

#[test]
fn fragments_of_other_protocols() {
    for family in FAMILIES {
        // The CRC of SCTP covers what the others carry.
        let mut flow = default_flow(family);
        for mut fragment in flow.pieces(1) {
            let (l3, payload) = offsets(&fragment);
            match family {
                Family::V4 => {
                    fragment[l3 + 9] = 132;
                    fragment[l3 + 10..l3 + 12].fill(0);
                    let sum = !checksum::fold(checksum::sum(&fragment[l3..l3 + 20]));
                    fragment[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
                }
                Family::V6 => fragment[payload] = 132,
            }
            flow.drops(&fragment, DropReason::Fragment);
        }
        // Errors do not come in pieces; echoes do, where there is a service for them.
        let kinds = if family == Family::V4 { [3, 8] } else { [1, 128] };
        for (id, kind, reason) in [(2, kinds[0], DropReason::Fragment), (3, kinds[1], DropReason::NoService)] {
            let message = large(icmp(family.client(), family.vip(), kind));
            let pieces = split(&flow.world.arriving(FRONT, &message).frame(), id);
            flow.drops(&pieces[0], reason);
            flow.drops(&pieces[1], DropReason::FragmentRefused);
        }
    }
}

/// A large ping: the identifier stands in the first one, and so does the checksum.
#[test]
fn an_echo_in_pieces() {
    for family in FAMILIES {
        let mut world = World::new(Setup { all_protocols: true, ..Setup::default() });
        let kind = if family == Family::V4 { 8 } else { 128 };
        let echo = |rest| Packet {
            transport: Transport::Icmp { kind, code: 0, rest },
            ..large(icmp(family.client(), family.any_port_vip(0), kind))
        };
        let packet = world.arriving(FRONT, &echo([0x12, 0x34, 0, 9]));
        let pieces = split(&packet.frame(), 3);
        let (_, sent) = world.send(FRONT, &pieces[0]).sent.expect("it was sent");
        let at = sent.len() - PIECE + 4;
        let given = echo([sent[at], sent[at + 1], 0, 9]);
        let to = (SocketAddr::new(family.snat(), 0), family.backend());
        let expected = split(&translated(&given, to, BACK, None).frame(), 3);
        assert_eq!(sent, expected[0]);
        for at in 1..4 {
            assert_eq!(world.send(FRONT, &pieces[at]).sent, Some((BACK, expected[at].clone())));
        }
    }
}

#[test]
fn what_follows_a_dropped_first_fragment_is_dropped() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let mut nowhere = family.vip();
        nowhere.set_port(81);
        let to_nowhere = split(&flow.world.arriving(FRONT, &large(udp(family.client(), nowhere))).frame(), 1);
        flow.drops(&to_nowhere[0], DropReason::NoService);
        flow.drops(&to_nowhere[1], DropReason::FragmentRefused);
        flow.drops(&to_nowhere[0], DropReason::FragmentRefused);

        // Too big for where it goes: its sender is told, and nothing of it goes on.
        flow.world.datapath.next_hops.port(BACK).set(weir_mac(BACK), 500);
        let pieces = flow.pieces(2);
        let outcome = flow.world.send(FRONT, &pieces[0]);
        assert_eq!((outcome.fate, outcome.moved.get("answered")), (Fate::Transmit(FRONT), Some(&1)));
        flow.drops(&pieces[1], DropReason::FragmentRefused);
        flow.drops(&pieces[3], DropReason::FragmentRefused);
        flow.world.datapath.next_hops.port(BACK).set(weir_mac(BACK), 1500);

        // The connection ends between two fragments.
        let (pieces, expected) = (flow.pieces(3), split(&flow.expected.frame(), 3));
        flow.sends(&pieces[0], &expected[0]);
        assert!(flow.world.datapath.conntrack.delete((17, family.client(), family.vip()), flow.world.now, &flow.world.policy()));
        flow.drops(&pieces[1], DropReason::FragmentRefused);
    }
}

#[test]
fn later_fragments_are_packets_like_others() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        flow.sends(&pieces[0], &expected[0]);
        // No hop more, and no error about a later IPv4 fragment.
        flow.packet.ttl = 1;
        let late = flow.pieces(1);
        match family {
            Family::V4 => flow.drops(&late[1], DropReason::TtlExpired),
            Family::V6 => assert_eq!(flow.world.send(FRONT, &late[1]).moved.get("answered"), Some(&1)),
        }
        // The neighbour is gone; when it is back, so is the fragment.
        flow.world.datapath.next_hops.clear_neighbour(family.backend().ip(), BACK, 0);
        assert_eq!(flow.world.send(FRONT, &pieces[1]).fate, Fate::Wait(BACK, family.backend().ip()));
        flow.world.datapath.next_hops.set_neighbour(family.backend().ip(), NextHop { mac: peer_mac(BACK), port: BACK, vlan: 0 });
        flow.sends(&pieces[1], &expected[1]);
    }
}

#[test]
fn too_many_fragments() {
    let limits = FragmentLimits { per_datagram: 10, ..FragmentLimits::default() };
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let World { datapath, .. } = World::default();
        let own = std::mem::replace(&mut flow.world.datapath, datapath);
        let conntrack = own.conntrack.with_fragments(limits);
        flow.world.datapath = Datapath { conntrack, ..own };
        let (frame, expected) = (flow.packet.frame(), flow.expected.frame());
        for at in 0..10 {
            let range = at * 8..at * 8 + 8;
            flow.sends(&piece(&frame, range.clone(), true, 1), &piece(&expected, range, true, 1));
        }
        for at in 10..15 {
            flow.drops(&piece(&frame, at * 8..at * 8 + 8, true, 1), DropReason::FragmentExcess);
        }
    }
}

/// Identifications are used again: at once after the datagram was complete, and when it can no longer be meant.
#[test]
fn a_new_datagram_of_the_same_identification() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        for _ in 0..3 {
            for at in [0, 2, 1, 3] {
                flow.sends(&pieces[at], &expected[at]);
            }
        }
        // A piece of the next one, early: it is none of the last one, which has been complete for long.
        flow.world.pass(1000);
        flow.waits(&pieces[1]);
        // The next one loses a fragment. The one after it is not taken for its copy.
        flow.sends(&pieces[0], &expected[0]);
        flow.sends(&pieces[1], &expected[1]);
        flow.world.pass(999);
        flow.drops(&pieces[0], DropReason::FragmentDuplicate);
        flow.world.pass(1);
        for at in [0, 1, 2, 3] {
            flow.sends(&pieces[at], &expected[at]);
        }
    }
}

#[test]
fn a_datagram_is_forgotten_after_its_time() {
    for family in FAMILIES {
        let mut flow = default_flow(family);
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        flow.sends(&pieces[0], &expected[0]);
        flow.world.pass(29_999);
        flow.sends(&pieces[1], &expected[1]);
        flow.world.pass(1);
        flow.waits(&pieces[2]);
    }
}

/// A worker as it runs, over memory, with a clock set by hand.
struct Worker {
    rounds: Rounds<MemoryPorts, Balancer>,
    shared: Arc<Shared>,
    now: u64,
}

impl Worker {
    fn new(datapath: &Arc<Datapath>, now: Millis) -> Self {
        let shared = Arc::new(Shared::default());
        let ports = MemoryPorts::new(MemorySizes::default(), Arc::clone(&shared.counters));
        let pipeline = Balancer::new(Arc::clone(datapath), datapath.lane(Arc::clone(&shared.counters)).unwrap());
        let rounds = Rounds::new(ports, pipeline, Arc::new(Resolver::new(|| {})), Arc::clone(&shared));
        Self { rounds, shared, now: u64::from(now.0) * 1_000_000 }
    }

    /// A round after so many milliseconds. What left, in order.
    fn round(&mut self, milliseconds: u64) -> Vec<(PortId, Vec<u8>)> {
        self.now += milliseconds * 1_000_000;
        let now = self.now;
        self.rounds.round(&|| Monotonic(now));
        let counters = &self.shared.counters;
        assert_eq!(counters.rx.get(), counters.tx.get() + counters.waiting.get() + counters.dropped(), "conservation");
        let mut sent = Vec::new();
        for port in [FRONT, BACK] {
            sent.extend(self.rounds.ports().take_sent(port).into_iter().map(|frame| (port, frame)));
        }
        sent
    }

    fn receives(&mut self, port: PortId, fragment: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        assert!(self.rounds.ports().push(port, fragment));
        self.round(0)
    }

    fn waiting(&self) -> u64 {
        self.shared.counters.waiting.get()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.shared.counters.drops(reason).get()
    }
}

/// Workers over one datapath, with the flow's connection open.
fn workers<const N: usize>(flow: Flow, limits: FragmentLimits) -> ([Worker; N], Flow, Arc<Datapath>) {
    let now = flow.world.now;
    let World { datapath, .. } = World::default();
    let Flow { mut world, came_in, leaves_by, packet, expected } = flow;
    let own = std::mem::replace(&mut world.datapath, datapath);
    let datapath = Arc::new(Datapath { conntrack: own.conntrack.with_fragments(limits), ..own });
    let workers = std::array::from_fn(|_| Worker::new(&datapath, now));
    (workers, Flow { world, came_in, leaves_by, packet, expected }, datapath)
}

/// All orders of four.
fn orders() -> Vec<[usize; 4]> {
    let mut orders = Vec::new();
    for n in 0..256usize {
        let order = [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6];
        if (0..4).all(|at| order.contains(&at)) {
            orders.push(order);
        }
    }
    orders
}

#[test]
fn any_order_on_any_worker() {
    for family in FAMILIES {
        for make in [udp, data] {
            let (mut workers, flow, _datapath) =
                workers::<3>(flow(Setup::default(), family, true, make), FragmentLimits::default());
            let mut id = 0;
            for order in orders() {
                for assignment in 0..81usize {
                    id += 1;
                    let (pieces, mut expected) = (flow.pieces(id), split(&flow.expected.frame(), id));
                    let mut sent = Vec::new();
                    for (turn, at) in order.into_iter().enumerate() {
                        let worker = assignment / 3usize.pow(turn as u32) % 3;
                        sent.extend(workers[worker].receives(flow.came_in, &pieces[at]));
                    }
                    for worker in &mut workers {
                        sent.extend(worker.round(1));
                        assert_eq!(worker.waiting(), 0);
                    }
                    let mut sent: Vec<Vec<u8>> = sent
                        .into_iter()
                        .map(|(port, frame)| {
                            assert_eq!(port, flow.leaves_by);
                            frame
                        })
                        .collect();
                    sent.sort();
                    expected.sort();
                    assert_eq!(sent, expected, "{order:?} on {assignment}");
                }
            }
            assert!(workers.iter().all(|worker| worker.shared.counters.dropped() == 0));
        }
    }
}

#[test]
fn early_fragments_wait_no_longer_than_their_time() {
    for family in FAMILIES {
        let (mut workers, flow, _datapath) = workers::<1>(default_flow(family), FragmentLimits::default());
        let worker = &mut workers[0];
        let pieces = flow.pieces(1);
        assert_eq!(worker.receives(FRONT, &pieces[1]), []);
        assert_eq!(worker.round(10_000), []);
        assert_eq!(worker.receives(FRONT, &pieces[2]), []);
        assert_eq!((worker.round(19_999), worker.waiting()), (vec![], 2));
        assert!(worker.rounds.unfinished());
        assert_eq!((worker.round(1), worker.waiting(), worker.dropped(DropReason::FragmentTimeout)), (vec![], 1, 1));
        assert_eq!((worker.round(10_000), worker.waiting(), worker.dropped(DropReason::FragmentTimeout)), (vec![], 0, 2));
        assert!(!worker.rounds.unfinished());
    }
}

#[test]
fn early_fragments_of_a_refused_datagram_are_dropped() {
    for family in FAMILIES {
        let (mut workers, flow, _datapath) = workers::<2>(default_flow(family), FragmentLimits::default());
        let mut nowhere = family.vip();
        nowhere.set_port(81);
        let pieces = split(&flow.world.arriving(FRONT, &large(udp(family.client(), nowhere))).frame(), 1);
        let [one, other] = &mut workers;
        for at in [3, 2] {
            assert_eq!(one.receives(FRONT, &pieces[at]), []);
        }
        assert_eq!(other.receives(FRONT, &pieces[0]), []);
        assert_eq!(one.round(1), []);
        assert_eq!((one.waiting(), one.dropped(DropReason::FragmentRefused), other.dropped(DropReason::NoService)), (0, 2, 1));
    }
}

#[test]
fn room_for_early_fragments_is_bounded() {
    let limits = FragmentLimits { held: 8, per_datagram: 3, ..FragmentLimits::default() };
    let (mut workers, flow, datapath) = workers::<1>(default_flow(Family::V4), limits);
    let worker = &mut workers[0];
    let frame = flow.packet.frame();
    // Of one datagram.
    for at in 1..6 {
        assert_eq!(worker.receives(FRONT, &piece(&frame, at * 8..at * 8 + 8, true, 1)), []);
    }
    assert_eq!((worker.waiting(), worker.dropped(DropReason::FragmentExcess)), (3, 2));
    // Of many: the oldest give way.
    for id in 2..12 {
        assert_eq!(worker.receives(FRONT, &flow.pieces(id)[1]), []);
    }
    assert_eq!((worker.waiting(), worker.dropped(DropReason::FragmentRoom)), (8, 5));
    // Those that are still there go on.
    let expected = split(&flow.expected.frame(), 11);
    assert_eq!(worker.receives(FRONT, &flow.pieces(11)[0]), [(BACK, expected[0].clone())]);
    assert_eq!(worker.round(1), [(BACK, expected[1].clone())]);
    assert_eq!(worker.receives(FRONT, &flow.pieces(2)[0]).len(), 1);
    assert_eq!((worker.round(1), worker.waiting()), (vec![], 7));
    assert!(datapath.conntrack.fragments().bytes() >= limits.datagrams * 1024);
}

/// The first one waits for a neighbour, and those behind it wait for the first one.
#[test]
fn waiting_for_a_neighbour_and_for_the_first() {
    for family in FAMILIES {
        let (mut workers, flow, datapath) = workers::<1>(default_flow(family), FragmentLimits::default());
        let worker = &mut workers[0];
        let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
        datapath.next_hops.clear_neighbour(family.backend().ip(), BACK, 0);
        for at in [1, 0, 2, 3] {
            assert_eq!(worker.receives(FRONT, &pieces[at]), []);
        }
        assert_eq!(worker.waiting(), 4);
        datapath.next_hops.set_neighbour(family.backend().ip(), NextHop { mac: peer_mac(BACK), port: BACK, vlan: 0 });
        let mut sent: Vec<Vec<u8>> = (0..3).flat_map(|_| worker.round(1)).map(|(_, frame)| frame).collect();
        assert_eq!(sent[0], expected[0], "the first one leaves first");
        sent.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!((sent, worker.waiting()), (expected, 0));
    }
}

/// Threads get the fragments of many datagrams in any order; all leave as they must, and nothing is lost.
#[test]
fn workers_at_the_same_time() {
    const DATAGRAMS: u16 = 3000;
    // One worker may be far ahead of the other: none of the datagrams may be forgotten until that one comes.
    let limits = FragmentLimits { held: 8192, datagrams: 65_536, ..FragmentLimits::default() };
    for family in FAMILIES {
        let (workers, flow, _datapath) = workers::<2>(default_flow(family), limits);
        let mut shares = [Vec::new(), Vec::new()];
        let mut random = 1u32;
        for id in (0..DATAGRAMS).collect::<Vec<_>>().chunks(16) {
            let mut mixed: Vec<Vec<u8>> = id.iter().flat_map(|id| flow.pieces(*id)).collect();
            while !mixed.is_empty() {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (random >> 8) as usize % mixed.len();
                shares[(random >> 4) as usize % 2].push(mixed.swap_remove(at));
            }
        }
        let sent: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let running: Vec<_> = workers
                .into_iter()
                .zip(shares)
                .map(|(mut worker, share)| {
                    scope.spawn(move || {
                        let mut sent = Vec::new();
                        for fragments in share.chunks(40) {
                            fragments.iter().for_each(|fragment| assert!(worker.rounds.ports().push(FRONT, fragment)));
                            sent.extend(worker.round(1));
                        }
                        (worker, sent)
                    })
                })
                .collect();
            let mut ended: Vec<_> = running.into_iter().map(|worker| worker.join().unwrap()).collect();
            // What waited for the other one to end.
            for (worker, sent) in &mut ended {
                for _ in 0..limits.held {
                    sent.extend(worker.round(1));
                }
                assert_eq!((worker.waiting(), worker.shared.counters.dropped()), (0, 0));
            }
            ended.into_iter().flat_map(|(_, sent)| sent).map(|(_, frame)| frame).collect()
        });
        let mut sent = sent;
        let mut expected: Vec<Vec<u8>> = (0..DATAGRAMS).flat_map(|id| split(&flow.expected.frame(), id)).collect();
        sent.sort();
        expected.sort();
        assert!(sent == expected, "{} fragments left, {} expected", sent.len(), expected.len());
    }
}

/// Only the first piece of a segment has a TCP header; the ACK of all of it is none of what nobody sent.
#[test]
fn the_other_side_acknowledges_all_of_a_segment() {
    for family in FAMILIES {
        for from_backend in [false, true] {
            let mut flow = flow(Setup::default(), family, from_backend, data);
            let (pieces, expected) = (flow.pieces(1), split(&flow.expected.frame(), 1));
            let Transport::Tcp { sequence, .. } = flow.packet.transport else { panic!("TCP") };
            let (to, from) = (flow.expected.to, flow.expected.from);
            let acknowledges = |bytes: usize| {
                let mut ack = tcp(to, from, ACK);
                let Transport::Tcp { acknowledgment, .. } = &mut ack.transport else { panic!("TCP") };
                *acknowledgment = sequence.wrapping_add(bytes as u32);
                ack
            };
            let all = flow.packet.payload.len();
            for at in 0..4 {
                flow.world.drops(flow.leaves_by, &acknowledges(all), DropReason::TcpWindow);
                flow.sends(&pieces[at], &expected[at]);
            }
            flow.world.drops(flow.leaves_by, &acknowledges(all + 1), DropReason::TcpWindow);
            let back = flow.world.arriving(flow.leaves_by, &acknowledges(all));
            let outcome = flow.world.send(flow.leaves_by, &back.frame());
            assert_eq!(outcome.fate, Fate::Transmit(flow.came_in));
        }
    }
}

/// An established connection is no obstacle to a first fragment that its state does not allow.
#[test]
fn the_state_machine_sees_first_fragments() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip) = (family.client(), family.vip());
        world.opens(&tcp(client, vip, SYN), family.backend());
        let pieces = split(&world.arriving(FRONT, &large(tcp(client, vip, ACK))).frame(), 1);
        assert_eq!(world.send(FRONT, &pieces[0]).fate, Fate::Drop(DropReason::TcpInvalid));
        assert_eq!(world.send(FRONT, &pieces[1]).fate, Fate::Drop(DropReason::FragmentRefused));
    }
}
