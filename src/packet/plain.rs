//! The shape that nearly all packets have: IPv4 or IPv6 without tag, options, extension headers and fragments, TCP or UDP, nothing wrong
//! with it.
//!
//! All offsets are known beforehand, so reading it costs a third of what the general parser takes; whatever is different is left to that one, which also
//! says what is wrong.

use super::{Headers, Ip, Payload, be16, be32, be64, ethernet, ipv4, ipv6, tcp, udp};

/// A packet of the plain shape: what differs between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plain {
    /// What it carries.
    pub transport: Transport,
    /// The flags of a TCP segment.
    pub flags: u8,
    /// Where the IP packet ends.
    pub end: u16,
}

/// What a plain packet carries: a whole one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Transport {
    /// A TCP segment.
    #[default]
    Tcp = 6,
    /// A UDP datagram.
    Udp = 17,
}

impl Plain {
    /// Where the IP header begins.
    pub const L3: usize = ethernet::HEADER;

    /// Where the transport header begins.
    pub const fn l4(ip: Ip) -> usize {
        match ip {
            Ip::V4 => Self::L3 + ipv4::HEADER,
            Ip::V6 => Self::L3 + ipv6::HEADER,
        }
    }

    /// Where TTL or hop limit is.
    pub const fn ttl(ip: Ip) -> usize {
        match ip {
            Ip::V4 => Self::L3 + ipv4::TTL,
            Ip::V6 => Self::L3 + ipv6::HOP_LIMIT,
        }
    }

    /// As those of any packet.
    #[inline(always)]
    pub fn headers(self, ip: Ip) -> Headers {
        let payload = match self.transport {
            Transport::Tcp => Payload::Tcp(self.flags),
            Transport::Udp => Payload::Udp,
        };
        let (protocol, l3, l4) = (self.transport as u8, Self::L3 as u16, Self::l4(ip) as u16);
        Headers { ip, protocol, vlan: 0, l3, l4, end: self.end, payload }
    }
}

/// An IPv4 packet of the plain shape.
#[inline(always)]
pub fn parse_plain(bytes: &[u8]) -> Option<Plain> {
    const L3: usize = Plain::L3;
    const L4: usize = Plain::l4(Ip::V4);
    // Every frame is as long: shorter ones are padded.
    let head = bytes.first_chunk::<{ L4 + tcp::HEADER }>()?;
    let total = usize::from(be16(head, L3 + ipv4::TOTAL_LENGTH));
    let is_plain = be16(head, ethernet::ETHER_TYPE) == ethernet::IPV4
        && head[L3] == 0x45
        && be16(head, L3 + ipv4::FRAGMENT) & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) == 0
        && L3 + total <= bytes.len()
        && bytes.len() <= usize::from(u16::MAX);
    // At once: that it is of the other family is the first thing to be seen.
    if !is_plain {
        return None;
    }
    ipv4::check_source(be64(head, L3 + ipv4::ADDRESSES)).ok()?;
    tcp::check_ports(be32(head, L4)).ok()?;
    let (transport, flags, is_whole) = match head[L3 + ipv4::PROTOCOL] {
        6 => {
            let header = usize::from(head[L4 + tcp::DATA_OFFSET] >> 4) * 4;
            let flags = tcp::check_flags(head[L4 + tcp::FLAGS]).ok()?;
            (Transport::Tcp, flags, header >= tcp::HEADER && ipv4::HEADER + header <= total)
        }
        17 => {
            let length = usize::from(be16(head, L4 + udp::LENGTH));
            (Transport::Udp, 0, length >= udp::HEADER && ipv4::HEADER + length <= total)
        }
        _ => return None,
    };
    let is_right = is_whole && ipv4::is_fixed_header_right(head[L3..L4].first_chunk()?);
    is_right.then_some(Plain { transport, flags, end: (L3 + total) as u16 })
}

/// An IPv6 packet of the plain shape.
#[inline(always)]
pub fn parse_plain_v6(bytes: &[u8]) -> Option<Plain> {
    const L3: usize = Plain::L3;
    const L4: usize = Plain::l4(Ip::V6);
    let head = bytes.first_chunk::<{ L4 + udp::HEADER }>()?;
    let payload = usize::from(be16(head, L3 + ipv6::PAYLOAD_LENGTH));
    let is_plain = be16(head, ethernet::ETHER_TYPE) == ethernet::IPV6
        && head[L3] >> 4 == 6
        && L4 + payload <= bytes.len()
        && bytes.len() <= usize::from(u16::MAX);
    if !is_plain {
        return None;
    }
    ipv6::check_source(ipv6::addresses(head[L3..L4].first_chunk()?)).ok()?;
    tcp::check_ports(be32(head, L4)).ok()?;
    let (transport, flags, is_whole) = match head[L3 + ipv6::NEXT_HEADER] {
        6 => {
            let header = bytes[L4..].first_chunk::<{ tcp::HEADER }>()?;
            let flags = tcp::check_flags(header[tcp::FLAGS]).ok()?;
            let length = usize::from(header[tcp::DATA_OFFSET] >> 4) * 4;
            (Transport::Tcp, flags, length >= tcp::HEADER && length <= payload)
        }
        17 => {
            let length = usize::from(be16(head, L4 + udp::LENGTH));
            (Transport::Udp, 0, length >= udp::HEADER && length <= payload)
        }
        _ => return None,
    };
    is_whole.then_some(Plain { transport, flags, end: (L4 + payload) as u16 })
}
