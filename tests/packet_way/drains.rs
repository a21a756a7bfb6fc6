//! Connections that are ended at the deadline of a drain: the RSTs to both ends, byte by byte, and what is answered afterwards.

use super::ftp::{BACKEND, CLIENT, Session, bars};
use super::packet::{ACK, BACKEND_ISN, CLIENT_ISN, FIN_ACK, PSH_ACK, Packet, RST, RST_ACK, SYN, SYN_ACK, Transport, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Setup, World, peer_mac, weir_mac};
use std::net::SocketAddr;
use weir::conntrack::{Culled, Cursor, DestroyReason, EventKind, Glimpse, Heard, Parting, Sentence};
use weir::datapath::{DropReason, Fate, PortId};
use weir::nat::tcp_reset::TcpReset;
use weir::service::Protocol;

const DRAINED: DestroyReason = DestroyReason::Drained;
/// Milliseconds for which a connection that was reset is remembered.
const LINGER: u32 = 5000;

/// Ends what `judge` says. What was ended.
pub(super) fn cull(world: &World, judge: impl Fn(&Glimpse) -> Sentence) -> Vec<Culled> {
    let (mut culled, mut cursor, mut judge) = (Vec::new(), Cursor::default(), judge);
    let mut end = |one| culled.push(one);
    while !world.datapath.conntrack.cull(&mut cursor, 64, world.now, &world.policy(), (&mut judge, &mut end)) {}
    culled
}

fn reset_all(world: &World) -> Vec<TcpReset> {
    let partings = cull(world, |_| Sentence::Reset(DRAINED)).into_iter().flat_map(|culled| culled.partings.into_iter().flatten());
    let reset =
        |Parting { source, destination, sequence, acknowledgment }| TcpReset { source, destination, sequence, acknowledgment };
    partings.map(reset).collect()
}

/// A RST as weir sends it.
fn rst(port: PortId, (from, to): (SocketAddr, SocketAddr), numbers: (u32, Option<u32>)) -> Packet {
    let flags = if numbers.1.is_some() { RST_ACK } else { RST };
    let mut packet = Packet { ttl: 64, to_mac: peer_mac(port), from_mac: weir_mac(port), ..tcp(from, to, flags) };
    let Transport::Tcp { sequence, acknowledgment, .. } = &mut packet.transport else { panic!("not TCP") };
    (*sequence, *acknowledgment) = (numbers.0, numbers.1.unwrap_or(0));
    packet
}

/// What the builder of packets puts into the identification (IPv4) and into the window is 0 in a RST of weir's.
fn is_rst(frame: &[u8], expected: &Packet) {
    let (mut wanted, l4) = (expected.frame(), expected.l4());
    if expected.from.is_ipv4() {
        let l3 = l4 - 20;
        clear(&mut wanted, l3 + 4, l3 + 10);
    } else {
        // And the flow label.
        wanted[l4 - 40..l4 - 36].copy_from_slice(&[0x60, 0, 0, 0]);
    }
    clear(&mut wanted, l4 + 14, l4 + 16);
    assert_eq!(frame, wanted, "not {expected:?}");
}

/// Clears a word, and takes it off the checksum that covers it (RFC 1624, equation 3).
fn clear(frame: &mut [u8], at: usize, checksum: usize) {
    let word = |frame: &[u8], at: usize| u32::from(!u16::from_be_bytes([frame[at], frame[at + 1]]));
    let sum = word(frame, checksum) + word(frame, at);
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[at..at + 2].fill(0);
    frame[checksum..checksum + 2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

fn numbered(mut packet: Packet, sequence: u32, acknowledgment: u32) -> Packet {
    let Transport::Tcp { sequence: own, acknowledgment: other, .. } = &mut packet.transport else { panic!("not TCP") };
    (*own, *other) = (sequence, acknowledgment);
    packet
}

const CLIENT_SENT: u32 = CLIENT_ISN.wrapping_add(1 + 7);
const BACKEND_SENT: u32 = BACKEND_ISN.wrapping_add(1 + 6);

#[test]
fn both_ends_get_the_number_that_they_expect() {
    for vlans in [(0, 0), (5, 7)] {
        for family in FAMILIES {
            let mut world = World::new(Setup { vlans, ..Setup::default() });
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let snat = world.established(client, vip, backend);
            world.goes_on(&world.tagged_front(tcp(client, vip, PSH_ACK).carrying(b"request")), snat, backend);
            world.comes_back(&world.tagged_back(tcp(backend, snat, PSH_ACK).carrying(b"answer")), vip, client);

            let mut listener = world.datapath.conntrack.listen().unwrap();
            let resets = reset_all(&world);
            let mut heard = Vec::new();
            listener.take(&mut heard);
            assert!(matches!(&heard[..], [Heard::Event(event)] if event.kind == EventKind::Destroy(DRAINED)), "{heard:?}");
            assert_eq!(world.find(Protocol::Tcp, client, vip), None, "no packet finds it any more");
            assert_eq!(world.datapath.conntrack.count(), 0);
            let sent = world.originate(&resets);
            let ports: Vec<PortId> = sent.iter().map(|(port, _)| *port).collect();
            let [to_backend, to_client] = [0, 1].map(|at| ports.iter().position(|port| *port == [BACK, FRONT][at]).unwrap());
            let expected = rst(FRONT, (vip, client), (BACKEND_SENT, Some(CLIENT_SENT)));
            is_rst(&sent[to_client].1, &world.tagged_front(expected));
            let expected = rst(BACK, (snat, backend), (CLIENT_SENT, Some(BACKEND_SENT)));
            is_rst(&sent[to_backend].1, &world.tagged_back(expected));
        }
    }
}

/// Whoever has not heard of it asks by what it sends, and is told by the number that it asks for.
#[test]
fn whoever_goes_on_sending_is_told_again() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        reset_all(&world);
        for flags in [ACK, PSH_ACK, FIN_ACK] {
            let answer = world.answers(FRONT, &numbered(tcp(client, vip, flags), 77, 4711));
            is_rst(&answer, &rst(FRONT, (vip, client), (4711, None)));
            let answer = world.answers(BACK, &numbered(tcp(backend, snat, flags), 78, 815).carrying(b"more"));
            is_rst(&answer, &rst(BACK, (snat, backend), (815, None)));
        }
        world.drops(FRONT, &tcp(client, vip, RST), DropReason::TcpNotSyn);
        world.drops(BACK, &tcp(backend, snat, RST), DropReason::NoService);
        // Nobody else is.
        world.drops(FRONT, &tcp(family.far_client(), vip, ACK), DropReason::TcpNotSyn);

        world.pass(LINGER - 1);
        assert!(world.sweep().is_empty(), "who ended it has counted it");
        world.answers(FRONT, &tcp(client, vip, ACK));
        world.pass(1);
        assert!(world.sweep().is_empty());
        world.drops(FRONT, &tcp(client, vip, ACK), DropReason::TcpNotSyn);
        world.drops(BACK, &tcp(backend, snat, ACK), DropReason::NoService);
    }
}

#[test]
fn a_client_may_come_back_at_once_from_the_same_port() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let first = world.established(client, vip, backend);
        reset_all(&world);
        let second = world.established(client, vip, backend);
        assert_ne!(first, second, "the backend may not have heard of the end of the first one");
        world.goes_on(&tcp(client, vip, PSH_ACK).carrying(b"request"), second, backend);
        // Of the first one's ends the backend alone is left to be told.
        let answer = world.answers(BACK, &numbered(tcp(backend, first, ACK), 1, 4711));
        is_rst(&answer, &rst(BACK, (first, backend), (4711, None)));
        world.pass(LINGER);
        world.sweep();
        world.goes_on(&tcp(client, vip, PSH_ACK).carrying(b"request"), second, backend);
        world.comes_back(&tcp(backend, second, PSH_ACK).carrying(b"answer"), vip, client);
        world.drops(BACK, &tcp(backend, first, ACK), DropReason::NoService);
    }
}

#[test]
fn handshakes_and_closes_are_told_what_they_expect() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let mut world = World::default();
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        let one = CLIENT_ISN.wrapping_add(1);
        let reset = |source, destination, sequence, acknowledgment| TcpReset { source, destination, sequence, acknowledgment };
        let sorted = |mut resets: Vec<TcpReset>| {
            resets.sort_by_key(|reset| reset.destination != client);
            resets
        };
        world.comes_back(&tcp(backend, snat, SYN_ACK), vip, client);
        let expected = [
            // In SYN_SENT still, or beyond it: what it acknowledges is its SYN, the number is what follows the SYN/ACK.
            reset(vip, client, BACKEND_ISN.wrapping_add(1), Some(one)),
            reset(snat, backend, one, Some(BACKEND_ISN.wrapping_add(1))),
        ];
        assert_eq!(sorted(reset_all(&world)), expected);

        let mut world = World::default();
        let snat = world.established(client, vip, backend);
        world.comes_back(&tcp(backend, snat, FIN_ACK), vip, client);
        // The FIN counts one.
        let expected = [
            reset(vip, client, BACKEND_ISN.wrapping_add(2), Some(one)),
            reset(snat, backend, one, Some(BACKEND_ISN.wrapping_add(2))),
        ];
        assert_eq!(sorted(reset_all(&world)), expected);
    }
}

/// Where text was replaced by longer text, each end expects the number of what it was sent.
#[test]
fn replaced_text_moves_the_number_of_who_reads_it() {
    for family in FAMILIES {
        let mut session = Session::new(family);
        let line = format!("EPRT {}\r\n", bars(session.at_client(40)));
        let segment = session.segment(CLIENT, PSH_ACK, &line);
        let (port, frame) = session.send(CLIENT, &segment).sent.unwrap();
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::TransportSlice::Tcp(left)) = sliced.transport else { panic!("not TCP") };
        assert!(port == BACK && left.payload().len() != line.len(), "{line}");
        session.sent[CLIENT] += line.len() as u32;
        session.heard[CLIENT] += left.payload().len() as u32;
        let (sent, heard) = (session.sent, session.heard);
        let resets = reset_all(session.world());
        let of = |destination: SocketAddr| *resets.iter().find(|reset| reset.destination == destination).unwrap();
        let (to_client, to_backend) = (of(family.client()), of(family.backend()));
        let isn = |isn: u32, by: u32| isn.wrapping_add(1).wrapping_add(by);
        assert_eq!(
            (to_backend.sequence, to_backend.acknowledgment),
            (isn(CLIENT_ISN, heard[CLIENT]), Some(isn(BACKEND_ISN, sent[BACKEND])))
        );
        assert_eq!(
            (to_client.sequence, to_client.acknowledgment),
            (isn(BACKEND_ISN, heard[BACKEND]), Some(isn(CLIENT_ISN, sent[CLIENT])))
        );
    }
}

#[test]
fn datagrams_move_to_another_backend() {
    for family in FAMILIES {
        let mut world = World::new(Setup { backends: 2, ..Setup::default() });
        let (client, vip) = (family.client(), family.vip());
        let first = match world.send(FRONT, &world.arriving(FRONT, &udp(client, vip)).frame()).fate {
            Fate::Transmit(BACK) => world.find(Protocol::Udp, client, vip).unwrap().0,
            fate => panic!("{fate:?}"),
        };
        world.backends.iter().find(|backend| backend.id.0 == first.backend).unwrap().member.set_drained(true);
        world.set_backends(|_| {});
        let only_udp = |glimpse: &Glimpse| match glimpse.state.protocol() {
            17 if glimpse.owner.backend == first.backend => Sentence::End(DRAINED),
            _ => Sentence::Spare,
        };
        let culled = cull(&world, only_udp);
        assert!(matches!(&culled[..], [Culled { partings: None, .. }]), "{culled:?}");
        assert!(cull(&world, only_udp).is_empty(), "ended once");
        let other =
            [family.backend(), family.second_backend()].into_iter().find(|other| *other != first.inside().source).unwrap();
        world.opens(&udp(client, vip), other);
        assert!(world.sweep().is_empty(), "who ended it has counted it");
    }
}

#[test]
fn a_rst_without_a_way_is_counted() {
    let mut world = World::default();
    let nowhere = "192.0.2.1:7".parse().unwrap();
    let reset = TcpReset { source: FAMILIES[0].vip(), destination: nowhere, sequence: 1, acknowledgment: None };
    assert!(world.originate(&[reset]).is_empty());
    assert_eq!(world.counted()["drop no_route"], 1);
}
