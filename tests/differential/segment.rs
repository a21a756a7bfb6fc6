//! A TCP segment, as both machines get it.

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader};
use std::net::{IpAddr, SocketAddr};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Backend,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        if self == Self::Client { Self::Backend } else { Self::Client }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: Side,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) window: u16,
    pub(crate) length: u16,
    pub(crate) options: Vec<u8>,
    /// The right edge of the SACK block among them.
    pub(crate) sack: Option<u32>,
}

impl Segment {
    /// The IP packet.
    pub(crate) fn packet(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let mut tcp = TcpHeader::new(from.port(), to.port(), self.sequence, self.window);
        tcp.acknowledgment_number = if self.flags & ACK != 0 { self.acknowledgment } else { 0 };
        (tcp.fin, tcp.syn) = (self.flags & FIN != 0, self.flags & SYN != 0);
        (tcp.rst, tcp.ack) = (self.flags & RST != 0, self.flags & ACK != 0);
        tcp.set_options_raw(&self.options).expect("options of a right length");
        let payload = vec![0x5a; usize::from(self.length)];
        let length = (tcp.header_len() + payload.len()) as u16;
        let mut bytes = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                tcp.checksum = tcp.calc_checksum_ipv4_raw(source, destination, &payload).expect("a length");
                let mut ip = Ipv4Header::new(length, super::TTL, IpNumber::TCP, source, destination).expect("a length");
                ip.dont_fragment = true;
                ip.header_checksum = ip.calc_header_checksum();
                ip.write(&mut bytes).expect("memory");
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                tcp.checksum = tcp.calc_checksum_ipv6_raw(source, destination, &payload).expect("a length");
                let next_header = IpNumber::TCP;
                let (payload_length, hop_limit) = (length, super::TTL);
                let ip = Ipv6Header { source, destination, next_header, payload_length, hop_limit, ..Ipv6Header::default() };
                ip.write(&mut bytes).expect("memory");
            }
            mixed => panic!("two families in one packet: {mixed:?}"),
        }
        tcp.write(&mut bytes).expect("memory");
        bytes.extend(payload);
        bytes
    }

    /// The sequence number behind it.
    pub(crate) fn end(&self) -> u32 {
        let counted = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.sequence.wrapping_add(u32::from(self.length) + counted)
    }
}
