//! ICMP errors instead of packets that cannot go on.

use super::packet::{ACK, PSH_ACK, Packet, SYN, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, MTU, Setup, World, peer_mac, weir_mac};
use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv6};
use std::net::IpAddr;
use weir::conntrack::TcpState;
use weir::datapath::{DropReason, PortId};
use weir::service::Protocol;

/// What the error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    TimeExceeded,
    TooBig(u16),
}

/// The error about `packet` that came in at `port`: from its destination to its source, quoting it as it came.
fn check(world: &World, port: PortId, packet: &Packet, answer: &[u8], says: Says) {
    let arrived = world.arriving(port, packet).frame();
    assert_eq!((&answer[..6], &answer[6..12]), (&peer_mac(port)[..], &weir_mac(port)[..]));
    let sliced = SlicedPacket::from_ethernet(answer).unwrap();
    let quoted = &arrived[if packet.vlan.is_some() { 18 } else { 14 }..];
    match (sliced.net.unwrap(), sliced.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(message)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (packet.to.ip(), packet.from.ip()));
            assert_eq!(message.payload(), &quoted[..quoted.len().min(548)]);
            assert_eq!(message.checksum(), Icmpv4Header::with_checksum(message.icmp_type(), message.payload()).checksum);
            let expected = match says {
                Says::TimeExceeded => Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
                Says::TooBig(next_hop_mtu) => {
                    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu })
                }
            };
            assert_eq!(message.icmp_type(), expected);
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(message)) => {
            let header = ip.header().to_header();
            assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (packet.to.ip(), packet.from.ip()));
            assert_eq!(message.payload(), &quoted[..quoted.len().min(1232)]);
            assert!(message.is_checksum_valid(header.source, header.destination));
            let expected = match says {
                Says::TimeExceeded => Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
                Says::TooBig(mtu) => Icmpv6Type::PacketTooBig { mtu: u32::from(mtu) },
            };
            assert_eq!(message.icmp_type(), expected);
        }
        other => panic!("not an ICMP error: {other:?}"),
    }
}

#[test]
fn a_packet_whose_ttl_runs_out_is_answered() {
    for family in FAMILIES {
        for ttl in [0, 1] {
            let (client, vip, backend) = (family.client(), family.vip(), family.backend());
            let mut world = World::default();
            for packet in [tcp(client, vip, SYN).with_ttl(ttl), udp(client, vip).with_ttl(ttl)] {
                let answer = world.answers(FRONT, &packet);
                check(&world, FRONT, &packet, &answer, Says::TimeExceeded);
            }
            assert_eq!(world.datapath.conntrack.count(), 0, "nothing was opened");
            let snat = world.established(client, vip, backend);
            let packet = tcp(client, vip, ACK).with_ttl(ttl);
            let answer = world.answers(FRONT, &packet);
            check(&world, FRONT, &packet, &answer, Says::TimeExceeded);
            let packet = tcp(backend, snat, ACK).with_ttl(ttl);
            let answer = world.answers(BACK, &packet);
            check(&world, BACK, &packet, &answer, Says::TimeExceeded);
            world.goes_on(&tcp(client, vip, ACK).with_ttl(2), snat, backend);
        }
    }
}

#[test]
fn a_packet_too_big_for_where_it_goes_is_answered() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let mut world = World::default();
        let snat = world.established(client, vip, backend);
        world.datapath.next_hops.port(BACK).set(weir_mac(BACK), 1400);
        world.goes_on(&tcp(client, vip, PSH_ACK).sized(1400), snat, backend);
        for size in [1401, MTU] {
            let packet = tcp(client, vip, PSH_ACK).sized(size);
            let answer = world.answers(FRONT, &packet);
            check(&world, FRONT, &packet, &answer, Says::TooBig(1400));
        }
        // The other way, the larger interface takes it.
        world.comes_back(&tcp(backend, snat, PSH_ACK).sized(MTU), vip, client);
        world.datapath.next_hops.port(FRONT).set(weir_mac(FRONT), 1300);
        let packet = tcp(backend, snat, PSH_ACK).sized(1301);
        let answer = world.answers(BACK, &packet);
        check(&world, BACK, &packet, &answer, Says::TooBig(1300));
        // A first packet opens nothing.
        let packet = udp(client, vip).sized(1450);
        let answer = world.answers(FRONT, &packet);
        check(&world, FRONT, &packet, &answer, Says::TooBig(1400));
        assert_eq!(world.datapath.conntrack.count(), 1);
    }
}

/// weir does not fragment. A sender that allowed it is told the same as one that did not, rather than nothing.
#[test]
fn a_packet_too_big_that_may_be_fragmented_is_answered_too() {
    let mut world = World::default();
    world.datapath.next_hops.port(BACK).set(weir_mac(BACK), 1400);
    let packet = Packet { dont_fragment: false, ..udp(Family::V4.client(), Family::V4.vip()).sized(1401) };
    let answer = world.answers(FRONT, &packet);
    check(&world, FRONT, &packet, &answer, Says::TooBig(1400));
}

/// A frame that fills its room has none for a tag that it shall get. It is answered as it came, not as what it would have become.
#[test]
fn a_packet_too_big_for_the_tag_of_its_next_hop_is_answered() {
    for family in FAMILIES {
        let (client, vip) = (family.client(), family.vip());
        let packet = udp(client, vip).sized(1400);
        let mut world = World::new(Setup { vlans: (0, 200), room: packet.frame().len(), ..Default::default() });
        let answer = world.answers(FRONT, &packet);
        check(&world, FRONT, &packet, &answer, Says::TooBig(1396));
        assert_eq!(world.datapath.conntrack.count(), 0, "no connection for a packet that does not leave");
        world.opens(&udp(client, vip).sized(1396), family.backend());
        // Nor is there room for an answer about a small one.
        let packet = udp(client, vip).sized(60);
        let mut world = World::new(Setup { vlans: (0, 200), room: packet.frame().len(), ..Default::default() });
        world.drops(FRONT, &packet, DropReason::TooBig);
    }
}

#[test]
fn answers_keep_the_tag_of_the_packet() {
    for family in FAMILIES {
        let mut world = World::new(Setup { vlans: (100, 0), ..Default::default() });
        let packet = udp(family.client(), family.vip()).on_vlan(100).with_ttl(1);
        let answer = world.answers(FRONT, &packet);
        assert_eq!(answer[12..16], [0x81, 0, 0, 100]);
        check(&world, FRONT, &packet, &answer, Says::TimeExceeded);
    }
}

#[test]
fn no_answer_about_a_broadcast_frame() {
    for family in FAMILIES {
        let mut world = World::default();
        let mut frame = world.arriving(FRONT, &udp(family.client(), family.vip()).with_ttl(1)).frame();
        frame[..6].fill(0xff);
        let outcome = world.send(FRONT, &frame);
        assert_eq!(outcome.fate, weir::datapath::Fate::Drop(DropReason::TtlExpired));
        assert!(!outcome.moved.contains_key("answered"));
    }
}

#[test]
fn answers_are_limited() {
    let mut world = World::default();
    let packet = udp(Family::V4.client(), Family::V4.vip()).with_ttl(1);
    for _ in 0..weir::nat::icmp_limit::BURST {
        world.answers(FRONT, &packet);
    }
    world.drops(FRONT, &packet, DropReason::TtlExpired);
    world.pass(10);
    for _ in 0..weir::nat::icmp_limit::RATE / 100 {
        world.answers(FRONT, &packet);
    }
    world.drops(FRONT, &packet, DropReason::TtlExpired);
}

/// As in the kernel, tracking comes before the TTL: a segment moves the state though it did not reach the other side.
#[test]
fn an_answered_segment_was_seen_by_tracking() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    world.established(client, vip, backend);
    world.answers(FRONT, &tcp(client, vip, super::packet::FIN_ACK).with_ttl(1));
    assert_eq!(world.find(Protocol::Tcp, client, vip).unwrap().0.tcp_state, Some(TcpState::FinWait));
}
