//! A TCP segment, as both machines get it.

use etherparse::{IpNumber, Ipv4Header, TcpHeader};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: Side,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) window: u16,
    pub(crate) length: u16,
    pub(crate) options: &'static [u8],
}

impl Segment {
    /// The IPv4 packet.
    pub(crate) fn packet(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { panic!("IPv4 only") };
        let mut tcp = TcpHeader::new(from.port(), to.port(), self.sequence, self.window);
        tcp.acknowledgment_number = if self.flags & ACK != 0 { self.acknowledgment } else { 0 };
        (tcp.fin, tcp.syn) = (self.flags & FIN != 0, self.flags & SYN != 0);
        (tcp.rst, tcp.ack) = (self.flags & RST != 0, self.flags & ACK != 0);
        tcp.set_options_raw(self.options).expect("options of a right length");
        let payload = vec![0x5a; usize::from(self.length)];
        tcp.checksum = tcp.calc_checksum_ipv4_raw(source.octets(), destination.octets(), &payload).expect("a length");
        let length = (tcp.header_len() + payload.len()) as u16;
        let mut ip = Ipv4Header::new(length, super::TTL, IpNumber::TCP, source.octets(), destination.octets()).expect("a length");
        ip.dont_fragment = true;
        ip.header_checksum = ip.calc_header_checksum();
        let mut bytes = Vec::new();
        ip.write(&mut bytes).expect("memory");
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
