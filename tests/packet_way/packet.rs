//! Packets as they stand on the wire, built by etherparse.

use super::transports::Other;
use super::world::FAMILIES;
use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber,
    Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, SingleVlanHeader, TcpHeader, UdpHeader,
};
use std::net::{IpAddr, SocketAddr};

pub(crate) const SYN: u8 = 0x02;
pub(crate) const SYN_ACK: u8 = 0x12;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const PSH_ACK: u8 = 0x18;
pub(crate) const FIN_ACK: u8 = 0x11;
pub(crate) const RST: u8 = 0x04;
pub(crate) const RST_ACK: u8 = 0x14;

/// What stands in the transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// What etherparse computes.
    Right,
    /// That, and so much more.
    Wrong(u16),
    /// 0.
    Zero,
    /// The sum of the pseudo header alone, as a sender leaves it to its hardware.
    Partial,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp { flags: u8, sequence: u32, acknowledgment: u32, options: Vec<u8> },
    Udp,
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other(Other),
}

/// A frame to be.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) to_mac: [u8; 6],
    pub(crate) from_mac: [u8; 6],
    pub(crate) vlan: Option<u16>,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) dont_fragment: bool,
    /// Offset in units of 8 bytes, and whether more follow.
    pub(crate) fragment: Option<(u16, bool)>,
    /// IPv4 options.
    pub(crate) options: Vec<u8>,
    pub(crate) extensions: Ipv6Extensions,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
    pub(crate) checksum: Checksum,
    /// Behind the IP packet.
    pub(crate) padding: usize,
}

/// First sequence numbers of clients and of backends.
pub(crate) const CLIENT_ISN: u32 = u32::MAX - 3;
pub(crate) const BACKEND_ISN: u32 = 0x0102_0303;

/// A TCP segment with these flags, at the beginning of what its sender sends: whoever sends to a SNAT address is a backend. With the same
/// numbers again it is one that was sent again.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Packet {
    let from_backend = FAMILIES.iter().any(|family| family.snat() == to.ip());
    let (own, other) = if from_backend { (BACKEND_ISN, CLIENT_ISN) } else { (CLIENT_ISN, BACKEND_ISN) };
    let sequence = if flags & SYN != 0 { own } else { own.wrapping_add(1) };
    let acknowledgment = if flags & ACK != 0 { other.wrapping_add(1) } else { 0 };
    packet(from, to, Transport::Tcp { flags, sequence, acknowledgment, options: Vec::new() })
}

/// A UDP datagram with a few bytes.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr) -> Packet {
    packet(from, to, Transport::Udp).carrying(b"question")
}

/// An ICMP or ICMPv6 message of this type; ports mean nothing.
pub(crate) fn icmp(from: SocketAddr, to: SocketAddr, kind: u8) -> Packet {
    packet(from, to, Transport::Icmp { kind, code: 0, rest: [0; 4] }).carrying(&[0x45; 40])
}

/// A packet with a transport of the other file.
pub(crate) fn other(from: SocketAddr, to: SocketAddr, transport: Other) -> Packet {
    packet(from, to, Transport::Other(transport))
}

fn packet(from: SocketAddr, to: SocketAddr, transport: Transport) -> Packet {
    Packet {
        to_mac: [0; 6],
        from_mac: [0; 6],
        vlan: None,
        from,
        to,
        ttl: 64,
        dont_fragment: true,
        fragment: None,
        options: Vec::new(),
        extensions: Ipv6Extensions::default(),
        transport,
        payload: Vec::new(),
        checksum: Checksum::Right,
        padding: 0,
    }
}

impl Packet {
    pub(crate) fn carrying(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    pub(crate) fn with_ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(crate) fn on_vlan(self, vlan: u16) -> Self {
        Self { vlan: Some(vlan), ..self }
    }

    pub(crate) fn with_checksum(self, checksum: Checksum) -> Self {
        Self { checksum, ..self }
    }

    pub(crate) fn with_options(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }

    /// So much payload that the IP packet has this many bytes.
    pub(crate) fn sized(mut self, bytes: usize) -> Self {
        self.payload.clear();
        let headers = self.frame().len() - self.link_length();
        self.payload = (0..bytes - headers).map(|n| n as u8).collect();
        self
    }

    fn link_length(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }

    /// Offset of the transport header.
    pub(crate) fn l4(&self) -> usize {
        self.frame().len() - self.padding - self.transport_bytes().1.len()
    }

    /// The bytes.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let ether_type = if self.from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut frame = Vec::new();
        let outer = if self.vlan.is_some() { EtherType::VLAN_TAGGED_FRAME } else { ether_type };
        Ethernet2Header { source: self.from_mac, destination: self.to_mac, ether_type: outer }.write(&mut frame).unwrap();
        if let Some(id) = self.vlan {
            let tag = SingleVlanHeader { vlan_id: id.try_into().unwrap(), ether_type, ..Default::default() };
            tag.write(&mut frame).unwrap();
        }
        let (protocol, transport) = self.transport_bytes();
        self.ip_headers(protocol, transport.len()).write(&mut frame).unwrap();
        frame.extend(transport);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    fn ip_headers(&self, protocol: IpNumber, length: usize) -> IpHeaders {
        let mut headers = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = Ipv4Header::new(0, self.ttl, protocol, from.octets(), to.octets()).unwrap();
                header.identification = 0x1234;
                header.dont_fragment = self.dont_fragment;
                header.options = self.options.as_slice().try_into().unwrap();
                if let Some((offset, more)) = self.fragment {
                    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
                    header.more_fragments = more;
                }
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    traffic_class: 0x28,
                    flow_label: 0x1_2345.try_into().unwrap(),
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Default::default()
                };
                IpHeaders::Ipv6(header, self.extensions.clone())
            }
            mixed => panic!("two families in one packet: {mixed:?}"),
        };
        headers.set_next_headers(protocol);
        headers.set_payload_len(length).unwrap();
        if let IpHeaders::Ipv4(header, _) = &mut headers {
            header.header_checksum = header.calc_header_checksum();
        }
        headers
    }

    fn transport_bytes(&self) -> (IpNumber, Vec<u8>) {
        match &self.transport {
            Transport::Other(other) => other.bytes(self),
            Transport::Tcp { flags, sequence, acknowledgment, options } => {
                let mut header = TcpHeader::new(self.from.port(), self.to.port(), *sequence, 0x2000);
                header.acknowledgment_number = *acknowledgment;
                let flag = |bit: u8| flags >> bit & 1 != 0;
                (header.fin, header.syn, header.rst, header.psh) = (flag(0), flag(1), flag(2), flag(3));
                (header.ack, header.urg, header.ece, header.cwr) = (flag(4), flag(5), flag(6), flag(7));
                header.set_options_raw(options).unwrap();
                let right = match (self.from.ip(), self.to.ip()) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
                    }
                    (IpAddr::V6(from), IpAddr::V6(to)) => {
                        header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
                    }
                    mixed => panic!("two families in one packet: {mixed:?}"),
                };
                header.checksum = self.wanted_checksum(right.unwrap(), header.header_len() + self.payload.len(), 6);
                (IpNumber::TCP, [&header.to_bytes(), self.payload.as_slice()].concat())
            }
            Transport::Udp => {
                let length = 8 + self.payload.len();
                let mut header = UdpHeader {
                    source_port: self.from.port(),
                    destination_port: self.to.port(),
                    length: length as u16,
                    checksum: 0,
                };
                let right = match (self.from.ip(), self.to.ip()) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
                    }
                    (IpAddr::V6(from), IpAddr::V6(to)) => {
                        header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
                    }
                    mixed => panic!("two families in one packet: {mixed:?}"),
                };
                header.checksum = self.wanted_checksum(right.unwrap(), length, 17);
                (IpNumber::UDP, [header.to_bytes().as_slice(), &self.payload].concat())
            }
            &Transport::Icmp { kind, code, rest } => match (self.from.ip(), self.to.ip()) {
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
                    let header = Icmpv6Header::with_checksum(message, from.octets(), to.octets(), &self.payload).unwrap();
                    (IpNumber::IPV6_ICMP, [&header.to_bytes(), self.payload.as_slice()].concat())
                }
                _ => {
                    let message = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
                    (
                        IpNumber::ICMP,
                        [&Icmpv4Header::with_checksum(message, &self.payload).to_bytes(), self.payload.as_slice()].concat(),
                    )
                }
            },
        }
    }

    fn wanted_checksum(&self, right: u16, length: usize, protocol: u8) -> u16 {
        match self.checksum {
            Checksum::Right => right,
            Checksum::Zero => 0,
            Checksum::Wrong(more) => add(right, more),
            Checksum::Partial => {
                let addresses = [octets(self.from.ip()), octets(self.to.ip())].concat();
                let words = addresses.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                words.chain([u16::from(protocol), length as u16]).fold(0, add)
            }
        }
    }
}

/// One's complement addition (RFC 1071).
fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + u16::from(carry)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
