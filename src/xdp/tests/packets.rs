//! IP packets of either family, put together with etherparse.

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header,
    Ipv6RawExtHeader, SingleVlanHeader, TcpHeader, UdpHeader, VlanId,
};
use std::net::IpAddr;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;
pub(super) const ICMPV4: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

/// An Ethernet frame around `payload`, with these 802.1Q tags.
pub(super) fn frame(ether_type: EtherType, tags: &[u16], payload: &[u8]) -> Vec<u8> {
    let outer = if tags.is_empty() { ether_type } else { EtherType::VLAN_TAGGED_FRAME };
    let ethernet = Ethernet2Header { source: [2, 0, 0, 0, 0, 1], destination: [2, 0, 0, 0, 0, 2], ether_type: outer };
    let mut bytes = ethernet.to_bytes().to_vec();
    for (index, tag) in tags.iter().enumerate() {
        let ether_type = if index + 1 < tags.len() { EtherType::VLAN_TAGGED_FRAME } else { ether_type };
        let vlan_id = VlanId::try_new(*tag).unwrap();
        let tag = SingleVlanHeader { pcp: Default::default(), drop_eligible_indicator: false, vlan_id, ether_type };
        bytes.extend(tag.to_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// An IP packet; the family is that of the addresses.
pub(super) fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(payload.len()).unwrap();
            let header = Ipv4Header::new(length, 64, IpNumber(protocol), source.octets(), destination.octets()).unwrap();
            ipv4(header, payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                payload_length: u16::try_from(payload.len()).unwrap(),
                next_header: IpNumber(protocol),
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            [header.to_bytes().as_slice(), payload].concat()
        }
        _ => panic!("addresses of two families"),
    }
}

fn ipv4(mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header.header_checksum = header.calc_header_checksum();
    [header.to_bytes().as_slice(), payload].concat()
}

/// The same packet with `options` (a multiple of four bytes) behind its fixed header.
pub(super) fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let (mut header, payload) = Ipv4Header::from_slice(packet).unwrap();
    header.options = Ipv4Options::try_from(options).unwrap();
    header.total_len += u16::try_from(options.len()).unwrap();
    ipv4(header, payload)
}

/// The same IPv4 packet as a fragment; the offset counts units of 8 bytes.
pub(super) fn fragment4(packet: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let (mut header, payload) = Ipv4Header::from_slice(packet).unwrap();
    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    header.more_fragments = more;
    header.dont_fragment = false;
    ipv4(header, payload)
}

/// An IPv6 fragment header before `payload`.
pub(super) fn fragment6(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let offset = IpFragOffset::try_new(offset).unwrap();
    let header = Ipv6FragmentHeader::new(IpNumber(next), offset, more, 0x1234_5678);
    [header.to_bytes().as_slice(), payload].concat()
}

/// An IPv6 extension header of 8 × (`units` + 1) bytes before `payload`.
pub(super) fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6RawExtHeader::new_raw(IpNumber(next), &vec![0; 6 + 8 * usize::from(units)]).unwrap();
    [header.to_bytes().as_slice(), payload].concat()
}

pub(super) fn tcp(source_port: u16, destination_port: u16) -> Vec<u8> {
    TcpHeader::new(source_port, destination_port, 1, 1024).to_bytes().to_vec()
}

pub(super) fn udp(source_port: u16, destination_port: u16) -> Vec<u8> {
    let header = UdpHeader { source_port, destination_port, length: 12, checksum: 0 };
    [header.to_bytes().as_slice(), b"ping"].concat()
}

/// An ICMP or ICMPv6 message of this type. Steering does not look at checksums.
pub(super) fn icmp(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], body].concat()
}
