//! Where the headers of a frame are and what must be known of them before a connection is looked up.

use super::{Malformed, be32, be64, dccp, ethernet, gre, icmp, ipv4, ipv6, parse_plain, sctp, tcp, udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Version of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// What the IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A whole TCP segment; its flags.
    Tcp(u8),
    /// A whole UDP datagram.
    Udp,
    /// A whole SCTP packet.
    Sctp,
    /// A whole DCCP packet; its type.
    Dccp(u8),
    /// A whole GRE packet.
    Gre,
    /// An ICMP or ICMPv6 message; its type.
    Icmp(u8),
    /// A fragment of a packet, the first or another one.
    Fragment,
    /// The beginning of a packet that an ICMP error quotes: see [`super::quote`].
    Quoted,
}

/// A parsed frame: offsets into its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// IPv4 or IPv6.
    pub ip: Ip,
    /// IP protocol number of the payload, behind all extension headers.
    pub protocol: u8,
    /// VLAN id, 0 without tag.
    pub vlan: u16,
    /// Where the IP header begins.
    pub l3: u16,
    /// Where the transport header begins.
    pub l4: u16,
    /// Where the IP packet ends; what follows in the frame is padding.
    pub end: u16,
    /// What is carried.
    pub payload: Payload,
}

/// Parses the frame in `bytes` and checks every length in it.
#[inline(always)]
pub fn parse(bytes: &[u8]) -> Result<Headers, Malformed> {
    parse_plain(bytes).map_or_else(|| parse_any(bytes), |plain| Ok(plain.headers(Ip::V4)))
}

#[inline(never)]
fn parse_any(bytes: &[u8]) -> Result<Headers, Malformed> {
    let link = ethernet::parse(bytes)?;
    // A frame is at most 64 KiB less the headers of a UMEM frame: offsets fit 16 bits.
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    let packet = &bytes[link.length..];
    match link.ether_type {
        ethernet::IPV4 => parse_v4(packet, link),
        ethernet::IPV6 => parse_v6(packet, link),
        _ => Err(Malformed::NotIp),
    }
}

#[inline(always)]
fn parse_v4(packet: &[u8], link: ethernet::Ethernet) -> Result<Headers, Malformed> {
    let ip = ipv4::parse(packet)?;
    let payload = if ip.fragment & (ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET) != 0 {
        Payload::Fragment
    } else {
        parse_payload(&packet[ip.header..ip.total], ip.protocol, icmp::ICMP)?
    };
    Ok(headers(Ip::V4, link, ip.protocol, ip.header, ip.total, payload))
}

#[inline(always)]
fn parse_v6(packet: &[u8], link: ethernet::Ethernet) -> Result<Headers, Malformed> {
    let ip = ipv6::parse(packet)?;
    let payload =
        if ip.fragment { Payload::Fragment } else { parse_payload(&packet[ip.headers..ip.total], ip.protocol, icmp::ICMPV6)? };
    Ok(headers(Ip::V6, link, ip.protocol, ip.headers, ip.total, payload))
}

#[inline(always)]
fn headers(ip: Ip, link: ethernet::Ethernet, protocol: u8, header: usize, total: usize, payload: Payload) -> Headers {
    let (l3, l4, end) = (link.length as u16, (link.length + header) as u16, (link.length + total) as u16);
    Headers { ip, protocol, vlan: link.vlan, l3, l4, end, payload }
}

#[inline(always)]
fn parse_payload(payload: &[u8], protocol: u8, icmp: u8) -> Result<Payload, Malformed> {
    match protocol {
        6 => Ok(Payload::Tcp(tcp::parse(payload)?)),
        17 => udp::parse(payload).map(|()| Payload::Udp),
        33 => dccp::parse(payload).map(Payload::Dccp),
        47 => gre::parse(payload).map(|()| Payload::Gre),
        132 => sctp::parse(payload).map(|()| Payload::Sctp),
        _ if protocol == icmp => {
            payload.first_chunk::<{ icmp::HEADER }>().map(|fixed| Payload::Icmp(fixed[0])).ok_or(Malformed::FrameTooShort)
        }
        _ => Err(Malformed::UnknownProtocol),
    }
}

impl Headers {
    /// Offset of the IP header.
    #[inline(always)]
    pub fn l3(&self) -> usize {
        usize::from(self.l3)
    }

    /// Offset of the transport header.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        usize::from(self.l4)
    }

    /// Bytes of the IP packet.
    #[inline(always)]
    pub fn ip_length(&self) -> usize {
        usize::from(self.end - self.l3)
    }

    /// TTL or hop limit.
    #[inline(always)]
    pub fn ttl(&self, bytes: &[u8]) -> u8 {
        match self.ip {
            Ip::V4 => bytes[self.l3() + ipv4::TTL],
            Ip::V6 => bytes[self.l3() + ipv6::HOP_LIMIT],
        }
    }

    /// Source and destination port in one word, the source in the upper half. Only for TCP, UDP, SCTP and DCCP.
    #[inline(always)]
    pub fn ports(&self, bytes: &[u8]) -> u32 {
        be32(bytes, self.l4())
    }

    /// Whether this is one of the messages that make a connection of ICMP: an echo, or its reply.
    pub fn is_echo(&self) -> bool {
        matches!(
            (self.ip, self.payload),
            (Ip::V4, Payload::Icmp(icmp::v4::ECHO | icmp::v4::ECHO_REPLY))
                | (Ip::V6, Payload::Icmp(icmp::v6::ECHO | icmp::v6::ECHO_REPLY))
        )
    }

    /// Source and destination address of an IPv4 packet in one word, the source in the upper half.
    #[inline(always)]
    pub fn addresses_v4(&self, bytes: &[u8]) -> u64 {
        be64(bytes, self.l3() + ipv4::ADDRESSES)
    }

    /// Source and destination address of an IPv6 packet: two words of the source, two of the destination.
    #[inline(always)]
    pub fn addresses_v6(&self, bytes: &[u8]) -> [u64; 4] {
        let at = self.l3() + ipv6::ADDRESSES;
        [be64(bytes, at), be64(bytes, at + 8), be64(bytes, at + 16), be64(bytes, at + 24)]
    }

    /// The source address.
    pub fn source(&self, bytes: &[u8]) -> IpAddr {
        match self.ip {
            Ip::V4 => Ipv4Addr::from_bits((self.addresses_v4(bytes) >> 32) as u32).into(),
            Ip::V6 => v6_address(self.addresses_v6(bytes)[0], self.addresses_v6(bytes)[1]),
        }
    }

    /// The destination address.
    pub fn destination(&self, bytes: &[u8]) -> IpAddr {
        match self.ip {
            Ip::V4 => Ipv4Addr::from_bits(self.addresses_v4(bytes) as u32).into(),
            Ip::V6 => v6_address(self.addresses_v6(bytes)[2], self.addresses_v6(bytes)[3]),
        }
    }
}

fn v6_address(upper: u64, lower: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into()
}
