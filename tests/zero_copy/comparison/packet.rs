//! Packets as client, backends and routers send them, built by etherparse.

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpHeaders, IpNumber, Ipv4Extensions,
    Ipv4Header, Ipv6Extensions, Ipv6Header, TcpHeader, UdpHeader,
};
use std::net::{IpAddr, SocketAddr};

pub(super) const SYN: u8 = 0x02;
pub(super) const SYN_ACK: u8 = 0x12;
pub(super) const ACK: u8 = 0x10;
pub(super) const PSH_ACK: u8 = 0x18;
pub(super) const FIN_ACK: u8 = 0x11;
pub(super) const RST: u8 = 0x04;
pub(super) const RST_ACK: u8 = 0x14;

/// What stands in the transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// What etherparse computes.
    Right,
    /// That, and so much more.
    Wrong(u16),
    /// 0.
    Zero,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp { flags: u8, sequence: u32, acknowledgment: u32 },
    Udp,
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
}

/// A frame to be.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) to_mac: [u8; 6],
    pub(super) from_mac: [u8; 6],
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) ttl: u8,
    pub(super) dont_fragment: bool,
    pub(super) transport: Transport,
    pub(super) payload: Vec<u8>,
    pub(super) checksum: Checksum,
}

/// A TCP segment with these flags and numbers.
pub(super) fn segment(from: SocketAddr, to: SocketAddr, flags: u8, sequence: u32, acknowledgment: u32) -> Packet {
    packet(from, to, Transport::Tcp { flags, sequence, acknowledgment })
}

/// A UDP datagram with a few bytes.
pub(super) fn udp(from: SocketAddr, to: SocketAddr) -> Packet {
    packet(from, to, Transport::Udp).carrying(b"question")
}

/// An ICMP or ICMPv6 message of this type; ports mean nothing.
pub(super) fn icmp(from: SocketAddr, to: SocketAddr, kind: u8) -> Packet {
    packet(from, to, Transport::Icmp { kind, code: 0, rest: [0; 4] }).carrying(&[0x45; 40])
}

fn packet(from: SocketAddr, to: SocketAddr, transport: Transport) -> Packet {
    Packet {
        to_mac: [0; 6],
        from_mac: [0; 6],
        from,
        to,
        ttl: 64,
        dont_fragment: true,
        transport,
        payload: Vec::new(),
        checksum: Checksum::Right,
    }
}

impl Packet {
    pub(super) fn carrying(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    pub(super) fn with_ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(super) fn with_checksum(self, checksum: Checksum) -> Self {
        Self { checksum, ..self }
    }

    /// So much payload that the IP packet has this many bytes.
    pub(super) fn sized(mut self, bytes: usize) -> Self {
        self.payload.clear();
        let headers = self.frame().len() - 14;
        self.payload = (0..bytes - headers).map(|n| n as u8).collect();
        self
    }

    /// The bytes.
    pub(super) fn frame(&self) -> Vec<u8> {
        let ether_type = if self.from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut frame = Vec::new();
        let link = Ethernet2Header { source: self.from_mac, destination: self.to_mac, ether_type };
        link.write(&mut frame).expect("room");
        let (protocol, transport) = self.transport_bytes();
        self.ip_headers(protocol, transport.len()).write(&mut frame).expect("room");
        frame.extend(transport);
        frame
    }

    fn ip_headers(&self, protocol: IpNumber, length: usize) -> IpHeaders {
        let mut headers = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = Ipv4Header::new(0, self.ttl, protocol, from.octets(), to.octets()).expect("a packet that fits");
                // Another one in every situation: none is a copy of the one before.
                header.identification = self.from.port();
                header.dont_fragment = self.dont_fragment;
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    traffic_class: 0x28,
                    flow_label: 0x1_2345.try_into().expect("a packet that fits"),
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Default::default()
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            mixed => panic!("two families in one packet: {mixed:?}"),
        };
        headers.set_next_headers(protocol);
        headers.set_payload_len(length).expect("a packet that fits");
        if let IpHeaders::Ipv4(header, _) = &mut headers {
            header.header_checksum = header.calc_header_checksum();
        }
        headers
    }

    fn transport_bytes(&self) -> (IpNumber, Vec<u8>) {
        match &self.transport {
            Transport::Tcp { flags, sequence, acknowledgment } => {
                let mut header = TcpHeader::new(self.from.port(), self.to.port(), *sequence, 0x2000);
                header.acknowledgment_number = *acknowledgment;
                let flag = |bit: u8| flags >> bit & 1 != 0;
                (header.fin, header.syn, header.rst, header.psh) = (flag(0), flag(1), flag(2), flag(3));
                (header.ack, header.urg, header.ece, header.cwr) = (flag(4), flag(5), flag(6), flag(7));
                let right = match (self.from.ip(), self.to.ip()) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
                    }
                    (IpAddr::V6(from), IpAddr::V6(to)) => {
                        header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
                    }
                    mixed => panic!("two families in one packet: {mixed:?}"),
                };
                header.checksum = self.wanted_checksum(right.expect("a packet that fits"));
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
                header.checksum = self.wanted_checksum(right.expect("a packet that fits"));
                (IpNumber::UDP, [header.to_bytes().as_slice(), &self.payload].concat())
            }
            &Transport::Icmp { kind, code, rest } => match (self.from.ip(), self.to.ip()) {
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
                    let header = Icmpv6Header::with_checksum(message, from.octets(), to.octets(), &self.payload)
                        .expect("a packet that fits");
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

    fn wanted_checksum(&self, right: u16) -> u16 {
        match self.checksum {
            Checksum::Right => right,
            Checksum::Zero => 0,
            // One's complement addition (RFC 1071).
            Checksum::Wrong(more) => {
                let (sum, carry) = right.overflowing_add(more);
                sum + u16::from(carry)
            }
        }
    }
}
