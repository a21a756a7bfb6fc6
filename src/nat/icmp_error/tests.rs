//! Every answer is read by etherparse and its checksums computed anew.

use super::*;
use crate::packet::parse;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Header};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanId};
use proptest::prelude::*;

const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
const WEIR: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ROOM: usize = 2048;

/// A UDP packet with `payload` bytes from a client to a VIP; `tag` is its VLAN id.
fn udp(v6: bool, tag: Option<u16>, payload: usize) -> Vec<u8> {
    let ip = if v6 { ip_v6(IpNumber::UDP) } else { ip_v4(IpNumber::UDP) };
    let mut frame = Vec::new();
    let payload: Vec<u8> = (0..payload).map(|n| n as u8).collect();
    match tag {
        None => PacketBuilder::ethernet2(STATION, WEIR).ip(ip).udp(40000, 53).write(&mut frame, &payload).unwrap(),
        Some(id) => {
            let tagged = PacketBuilder::ethernet2(STATION, WEIR).single_vlan(VlanId::try_new(id).unwrap());
            tagged.ip(ip).udp(40000, 53).write(&mut frame, &payload).unwrap();
        }
    }
    frame
}

fn ip_v4(protocol: IpNumber) -> IpHeaders {
    IpHeaders::Ipv4(Ipv4Header::new(0, 9, protocol, [10, 1, 0, 1], [10, 9, 9, 9]).unwrap(), Default::default())
}

fn ip_v6(protocol: IpNumber) -> IpHeaders {
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    (source[0], source[15]) = (0xfd, 1);
    (destination[0], destination[15]) = (0xfd, 9);
    let header = Ipv6Header { next_header: protocol, hop_limit: 9, source, destination, ..Default::default() };
    IpHeaders::Ipv6(header, Default::default())
}

/// The answer about `frame`, in a buffer with room.
fn answered(frame: &[u8], error: IcmpError) -> Result<Vec<u8>, Refused> {
    let mut buffer = frame.to_vec();
    buffer.resize(frame.len().max(ROOM), 0xee);
    let headers = parse(frame).unwrap();
    let before = buffer.clone();
    match answer(&mut buffer, frame.len(), &headers, error) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(refused) => {
            assert_eq!(buffer, before, "a refused frame is untouched");
            Err(refused)
        }
    }
}

/// Everything that holds for each answer: link layer, addresses, TTL, class, checksums, quote.
fn check(frame: &[u8], answer: &[u8], error: IcmpError) {
    let headers = parse(frame).unwrap();
    let ours = parse(answer).unwrap();
    assert_eq!((&answer[..6], &answer[6..12]), (&frame[6..12], &frame[..6]));
    assert_eq!(answer[12..headers.l3()], frame[12..headers.l3()], "EtherType and tag stay");
    assert_eq!((ours.source(answer), ours.destination(answer)), (headers.destination(frame), headers.source(frame)));
    let packet = &frame[headers.l3()..usize::from(headers.end)];

    let sliced = SlicedPacket::from_ethernet(answer).unwrap();
    match (sliced.net.unwrap(), sliced.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), answer.len() - headers.l3());
            assert_eq!((header.time_to_live, header.dscp.value(), header.ecn.value()), (64, 0x30, 0));
            assert!(header.dont_fragment && !header.more_fragments);
            assert!(header.total_len <= 576);
            assert_eq!(icmp.payload(), &packet[..packet.len().min(548)]);
            assert_eq!(icmp.checksum(), Icmpv4Header::with_checksum(icmp.icmp_type(), icmp.payload()).checksum);
            let expected = match error {
                IcmpError::TooBig { mtu } => {
                    Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu as u16 })
                }
                IcmpError::TimeExceeded => Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit),
                IcmpError::Prohibited => Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FilterProhibited),
            };
            assert_eq!(icmp.icmp_type(), expected);
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.payload_length) + 40, answer.len() - headers.l3());
            assert_eq!((header.hop_limit, header.traffic_class, header.flow_label.value()), (64, 0xc0, 0));
            assert!(header.payload_length <= 1240);
            assert_eq!(icmp.payload(), &packet[..packet.len().min(1232)]);
            assert!(icmp.is_checksum_valid(header.source, header.destination));
            let expected = match error {
                IcmpError::TooBig { mtu } => Icmpv6Type::PacketTooBig { mtu },
                IcmpError::TimeExceeded => Icmpv6Type::TimeExceeded(etherparse::icmpv6::TimeExceededCode::HopLimitExceeded),
                IcmpError::Prohibited => Icmpv6Type::DestinationUnreachable(etherparse::icmpv6::DestUnreachableCode::Prohibited),
            };
            assert_eq!(icmp.icmp_type(), expected);
        }
        other => panic!("not an ICMP error: {other:?}"),
    }
}

proptest! {
    #[test]
    fn every_answer_is_right(v6: bool, tag in prop::option::of(1u16..4095), payload in 0usize..1900, padding in 0usize..40, mtu in prop::option::of(68u32..=65535)) {
        let mut frame = udp(v6, tag, payload);
        frame.resize(frame.len() + padding, 0);
        let error = match mtu {
            Some(mtu) if mtu % 2 == 0 => IcmpError::TooBig { mtu },
            Some(_) => IcmpError::Prohibited,
            None => IcmpError::TimeExceeded,
        };
        check(&frame, &answered(&frame, error).unwrap(), error);
    }

    #[test]
    fn an_answer_needs_its_room_and_no_more(v6: bool, payload in 0usize..1500, room in 0usize..200) {
        let frame = udp(v6, None, payload);
        let headers = parse(&frame).unwrap();
        let needed = answered(&frame, IcmpError::TimeExceeded).unwrap().len();
        let mut buffer = frame.clone();
        buffer.resize(frame.len() + room, 0);
        let answer = answer(&mut buffer, frame.len(), &headers, IcmpError::TimeExceeded);
        prop_assert_eq!(answer, if needed <= buffer.len() { Ok(needed) } else { Err(Refused::NoRoom) });
    }
}

#[test]
fn the_quote_ends_where_the_limit_is() {
    for (v6, headers, limit) in [(false, 28, 548), (true, 48, 1232)] {
        for payload in [0, limit - headers - 1, limit - headers, limit - headers + 1, 1800] {
            let frame = udp(v6, Some(7), payload);
            check(&frame, &answered(&frame, IcmpError::TimeExceeded).unwrap(), IcmpError::TimeExceeded);
        }
        let frame = udp(v6, None, 1800);
        let longest = answered(&frame, IcmpError::TooBig { mtu: 1500 }).unwrap();
        assert_eq!(longest.len(), 14 + if v6 { 1280 } else { 576 });
    }
}

#[test]
fn an_mtu_past_16_bits_is_cut_for_ipv4_only() {
    let answer = answered(&udp(false, None, 10), IcmpError::TooBig { mtu: 70_000 }).unwrap();
    assert_eq!(be16(&answer, 14 + 20 + 6), 0xffff);
    let answer = answered(&udp(true, None, 10), IcmpError::TooBig { mtu: 70_000 }).unwrap();
    assert_eq!(be32(&answer, 14 + 40 + 4), 70_000);
}

#[test]
fn options_are_quoted_not_copied() {
    let mut header = Ipv4Header::new(0, 9, IpNumber::UDP, [10, 1, 0, 1], [10, 9, 9, 9]).unwrap();
    header.options = [148, 4, 0, 0].into();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(STATION, WEIR)
        .ip(IpHeaders::Ipv4(header, Default::default()))
        .udp(1, 2)
        .write(&mut frame, b"data")
        .unwrap();
    let answer = answered(&frame, IcmpError::TimeExceeded).unwrap();
    assert_eq!(answer[14], 0x45);
    check(&frame, &answer, IcmpError::TimeExceeded);
}

/// An ICMP message of this type and code 0 over either family.
fn icmp_message(v6: bool, kind: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(STATION, WEIR);
    if v6 {
        builder.ip(ip_v6(IpNumber::IPV6_ICMP)).icmpv6_raw(kind, 0, [0; 4]).write(&mut frame, &[0; 32]).unwrap();
    } else {
        builder.ip(ip_v4(IpNumber::ICMP)).icmpv4_raw(kind, 0, [0; 4]).write(&mut frame, &[0; 32]).unwrap();
    }
    frame
}

#[test]
fn never_about_an_icmp_error() {
    for kind in [3, 4, 5, 11, 12] {
        assert_eq!(answered(&icmp_message(false, kind), IcmpError::TimeExceeded), Err(Refused::AboutIcmp), "type {kind}");
    }
    for kind in [0, 1, 2, 3, 4, 100, 127, 137] {
        assert_eq!(answered(&icmp_message(true, kind), IcmpError::TimeExceeded), Err(Refused::AboutIcmp), "type {kind}");
    }
    for frame in [icmp_message(false, 8), icmp_message(true, 128)] {
        check(&frame, &answered(&frame, IcmpError::TimeExceeded).unwrap(), IcmpError::TimeExceeded);
    }
}

/// An IPv4 fragment of `protocol` at this offset (in units of 8 bytes).
fn fragment(protocol: IpNumber, offset: u16) -> Vec<u8> {
    let mut header = Ipv4Header::new(64, 9, protocol, [10, 1, 0, 1], [10, 9, 9, 9]).unwrap();
    header.more_fragments = true;
    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [WEIR, STATION].concat();
    frame.extend([8, 0]);
    header.write(&mut frame).unwrap();
    frame.extend([1; 64]);
    frame
}

#[test]
fn only_about_first_fragments_that_are_not_icmp() {
    let first = fragment(IpNumber::UDP, 0);
    check(&first, &answered(&first, IcmpError::TimeExceeded).unwrap(), IcmpError::TimeExceeded);
    assert_eq!(answered(&fragment(IpNumber::UDP, 1), IcmpError::TimeExceeded), Err(Refused::LaterFragment));
    assert_eq!(answered(&fragment(IpNumber::ICMP, 0), IcmpError::TimeExceeded), Err(Refused::AboutIcmp));
}

#[test]
fn an_ipv6_fragment_is_answered_unless_it_is_icmp() {
    for (protocol, expected) in [(IpNumber::UDP, Ok(())), (IpNumber::IPV6_ICMP, Err(Refused::AboutIcmp))] {
        let mut frame = [WEIR, STATION].concat();
        frame.extend([0x86, 0xdd]);
        let IpHeaders::Ipv6(mut header, _) = ip_v6(IpNumber::IPV6_FRAGMENTATION_HEADER) else { unreachable!() };
        header.payload_length = 8 + 64;
        header.write(&mut frame).unwrap();
        frame.extend([protocol.0, 0, 0x01, 0x01, 0, 0, 0, 1]);
        frame.extend([1; 64]);
        let answer = answered(&frame, IcmpError::TooBig { mtu: 1400 });
        assert_eq!(answer.as_ref().map(|_| ()).map_err(|refused| *refused), expected);
        if let Ok(answer) = answer {
            check(&frame, &answer, IcmpError::TooBig { mtu: 1400 });
        }
    }
}

#[test]
fn never_to_or_about_many() {
    let with = |v6: bool, at: usize, bytes: &[u8]| {
        let mut frame = udp(v6, None, 20);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        if !v6 {
            frame[24..26].fill(0);
            let sum = !checksum::fold(checksum::sum(&frame[14..34]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        answered(&frame, IcmpError::TimeExceeded)
    };
    assert!(with(false, 30, &[10, 9, 9, 8]).is_ok());
    for destination in [[224, 0, 0, 1], [239, 1, 1, 1], [255, 255, 255, 255], [127, 0, 0, 1], [0, 0, 0, 0], [240, 0, 0, 1]] {
        assert_eq!(with(false, 30, &destination), Err(Refused::NotOneHost), "{destination:?}");
    }
    assert_eq!(with(true, 14 + 24, &[0xff, 2]), Err(Refused::NotOneHost));
    for v6 in [false, true] {
        assert_eq!(with(v6, 0, &[0xff; 6]), Err(Refused::NotOneHost));
        assert_eq!(with(v6, 0, &[0x33, 0x33, 0, 0, 0, 1]), Err(Refused::NotOneHost));
        assert_eq!(with(v6, 6, &[1, 0, 0x5e, 0, 0, 1]), Err(Refused::NotOneHost));
    }
}

#[test]
fn an_answer_is_not_answered() {
    for v6 in [false, true] {
        let answer = answered(&udp(v6, None, 100), IcmpError::TimeExceeded).unwrap();
        assert_eq!(answered(&answer, IcmpError::TimeExceeded), Err(Refused::AboutIcmp));
    }
}
