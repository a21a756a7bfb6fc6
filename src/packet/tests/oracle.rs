//! What [`parse`] says is what etherparse says; and it says it of nothing that is cut.

use super::generate::{packets, repair_v4};
use crate::packet::*;
use etherparse::checksum::Sum16BitWords;
use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

/// Every accessor against etherparse, for a frame that both must be able to read.
fn compare(frame: &[u8], headers: &Headers) {
    if is_later_fragment_v6(frame, headers) {
        // etherparse goes on reading extension headers in the middle of the data of a fragment.
        assert_eq!(headers.payload, Payload::Fragment);
        return;
    }
    let sliced = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("etherparse refuses it: {error}"));
    let vlan = sliced
        .link_exts
        .iter()
        .find_map(|ext| if let LinkExtSlice::Vlan(tag) = ext { Some(tag.vlan_identifier().value()) } else { None });
    assert_eq!(headers.vlan, vlan.unwrap_or(0));
    assert_eq!(headers.l3(), 14 + 4 * sliced.link_exts.len());
    let payload = sliced.ip_payload().expect("an IP packet");
    compare_network(frame, headers, sliced.net.as_ref().expect("an IP packet"));
    assert_eq!(headers.protocol, payload.ip_number.0);
    assert_eq!(headers.l4(), payload.payload.as_ptr() as usize - frame.as_ptr() as usize);
    assert_eq!(usize::from(headers.end), headers.l4() + payload.payload.len());
    assert_eq!(headers.payload == Payload::Fragment, payload.fragmented);
    compare_transport(frame, headers, sliced.transport.as_ref());
}

/// Where the last fragment header stands it ends the chain: the word before the transport header is its.
fn is_later_fragment_v6(frame: &[u8], headers: &Headers) -> bool {
    headers.ip == Ip::V6 && headers.payload == Payload::Fragment && be16(frame, headers.l4() - 6) & 0xfff8 != 0
}

fn compare_network(frame: &[u8], headers: &Headers, net: &NetSlice<'_>) {
    match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            let sum = Sum16BitWords::new().add_slice(ip.header().slice()).ones_complement();
            assert_eq!(sum, 0, "a wrong checksum is not let through");
            assert_eq!(headers.ip, Ip::V4);
            assert_eq!(headers.ttl(frame), header.time_to_live);
            assert_eq!(headers.ip_length(), usize::from(header.total_len));
            assert_eq!(headers.addresses_v4(frame).to_be_bytes(), [header.source, header.destination].concat().as_slice());
            assert_eq!((headers.source(frame), headers.destination(frame)), (header.source.into(), header.destination.into()));
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(headers.ip, Ip::V6);
            assert_eq!(headers.ttl(frame), header.hop_limit);
            assert_eq!(headers.ip_length(), 40 + usize::from(header.payload_length));
            assert_eq!(headers.addresses_v6(frame).map(u64::to_be_bytes).concat(), [header.source, header.destination].concat());
            assert_eq!((headers.source(frame), headers.destination(frame)), (header.source.into(), header.destination.into()));
        }
        NetSlice::Arp(_) => panic!("ARP was taken for IP"),
    }
}

fn compare_transport(frame: &[u8], headers: &Headers, transport: Option<&TransportSlice<'_>>) {
    match (headers.payload, transport) {
        (Payload::Tcp(flags), Some(TransportSlice::Tcp(segment))) => {
            let bits = [
                segment.fin(),
                segment.syn(),
                segment.rst(),
                segment.psh(),
                segment.ack(),
                segment.urg(),
                segment.ece(),
                segment.cwr(),
            ];
            assert_eq!(flags, bits.iter().rev().fold(0, |flags, bit| flags << 1 | u8::from(*bit)));
            assert_eq!(headers.ports(frame), u32::from(segment.source_port()) << 16 | u32::from(segment.destination_port()));
        }
        (Payload::Udp, Some(TransportSlice::Udp(datagram))) => {
            assert_eq!(headers.ports(frame), u32::from(datagram.source_port()) << 16 | u32::from(datagram.destination_port()));
            assert!(usize::from(datagram.length()) <= usize::from(headers.end) - headers.l4());
        }
        (Payload::Icmp(kind), Some(TransportSlice::Icmpv4(message))) => assert_eq!(kind, message.type_u8()),
        (Payload::Icmp(kind), Some(TransportSlice::Icmpv6(message))) => assert_eq!(kind, message.type_u8()),
        // etherparse does not look into these.
        (Payload::Fragment | Payload::Sctp | Payload::Dccp(_) | Payload::Gre, None) => {}
        other => panic!("read differently: {other:?}"),
    }
}

/// Whether etherparse looks deeper than weir: at the length of ICMP timestamps, and into the authentication header of a fragment.
fn is_beyond_weir(headers: &Headers) -> bool {
    let timestamp = headers.ip == Ip::V4 && matches!(headers.payload, Payload::Icmp(13 | 14));
    timestamp || (headers.payload == Payload::Fragment && headers.protocol == 51)
}

/// The shape of IPv6 packets that has a reader of its own: it reads all of them, nothing else, and what [`parse`] reads.
fn compare_plain_v6(frame: &[u8]) {
    let headers = parse(frame);
    let is_plain = headers.is_ok_and(|headers| {
        let whole = matches!(headers.payload, Payload::Tcp(_) | Payload::Udp);
        headers.ip == Ip::V6 && whole && (headers.l3, headers.l4) == (14, 54)
    });
    let plain = parse_plain_v6(frame).map(|plain| plain.headers(Ip::V6));
    assert_eq!(plain, headers.ok().filter(|_| is_plain), "{headers:?}");
}

/// A frame that may be anything: whatever is read of it, etherparse reads the same.
fn read_anything(frame: &[u8]) {
    compare_plain_v6(frame);
    if let Ok(headers) = parse(frame)
        && !is_beyond_weir(&headers)
    {
        compare(frame, &headers);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_right_packet_is_read_as_etherparse_reads_it(packet in packets()) {
        let frame = packet.frame();
        compare_plain_v6(&frame);
        match parse(&frame) {
            Ok(headers) => {
                compare(&frame, &headers);
                prop_assert_eq!(headers.vlan, packet.vlan());
                prop_assert_eq!(usize::from(headers.end) + packet.padding(), frame.len());
            }
            Err(malformed) => {
                prop_assert_eq!(malformed, Malformed::ExtensionHeaders);
                prop_assert!(packet.extensions() > 8, "only the length of the chain is a reason");
            }
        }
    }

    #[test]
    fn a_cut_packet_is_refused_at_every_byte(packet in packets()) {
        let frame = packet.frame();
        let whole = parse(&frame);
        let end = frame.len() - packet.padding();
        for length in 0..end {
            prop_assert!(parse(&frame[..length]).is_err(), "cut at {} of {}", length, end);
        }
        for length in end..frame.len() {
            prop_assert_eq!(parse(&frame[..length]), whole, "padding changes nothing");
        }
    }

    #[test]
    fn a_changed_packet_is_read_as_etherparse_reads_it(
        packet in packets(),
        changes in prop::collection::vec((0usize..120, any::<u8>()), 1..6),
        repair: bool,
        length in prop::option::of(0usize..200),
    ) {
        let mut frame = packet.frame();
        for (at, byte) in changes {
            let at = (12 + at) % frame.len();
            frame[at] = byte;
        }
        frame.truncate(length.unwrap_or(frame.len()));
        if repair {
            repair_v4(&mut frame);
        }
        read_anything(&frame);
    }

    #[test]
    fn one_changed_bit_is_read_as_etherparse_reads_it(packet in packets()) {
        let frame = packet.frame();
        for bit in 12 * 8..frame.len().min(100) * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            read_anything(&changed);
            repair_v4(&mut changed);
            read_anything(&changed);
        }
    }

    #[test]
    fn random_bytes_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..5) {
        // Most random bytes are not IP at all: these begin as if they were.
        let begin: &[u8] = [&[][..], &[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x45], &[0x81, 0, 0, 1, 0x86, 0xdd, 0x60]][kind];
        if bytes.len() >= 12 + begin.len() {
            bytes[12..12 + begin.len()].copy_from_slice(begin);
        }
        read_anything(&bytes);
        repair_v4(&mut bytes);
        read_anything(&bytes);
    }
}
