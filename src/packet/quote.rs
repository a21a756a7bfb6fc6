//! The packet that an ICMP error quotes: its beginning, cut off anywhere behind the first bytes of the transport header.

use super::headers::{Headers, Ip, Payload};
use super::{be16, icmp, ipv4, ipv6};

/// Least bytes of the quoted transport header: what every router and host quotes (RFC 792; RFC 1812, section 4.3.2.3).
pub const LEAST: usize = 8;

/// Where the headers of the packet are that the ICMP error in `bytes` quotes; `headers` are those of the error. What follows the transport
/// ports may be missing, and `end` is where the quote ends or the quoted packet, whichever comes first.
///
/// `None`: it is cut too short, is no IP packet of the error's family, or a later fragment, whose ports nobody knows.
pub fn parse(bytes: &[u8], headers: &Headers) -> Option<Headers> {
    let l3 = headers.l4() + icmp::HEADER;
    let quote = bytes.get(l3..usize::from(headers.end))?;
    let (protocol, transport, total) = match headers.ip {
        Ip::V4 => walk_v4(quote)?,
        Ip::V6 => walk_v6(quote)?,
    };
    let end = quote.len().min(total);
    if transport + LEAST > end {
        return None;
    }
    let (l3, l4, end) = (l3 as u16, (l3 + transport) as u16, (l3 + end) as u16);
    Some(Headers { ip: headers.ip, protocol, vlan: 0, l3, l4, end, payload: Payload::Quoted })
}

/// Protocol, offset of the transport header, and length of the whole packet as its header tells.
fn walk_v4(packet: &[u8]) -> Option<(u8, usize, usize)> {
    let fixed = packet.first_chunk::<{ ipv4::HEADER }>()?;
    let header = usize::from(fixed[0] & 0xf) * 4;
    let is_first = be16(fixed, ipv4::FRAGMENT) & ipv4::FRAGMENT_OFFSET == 0;
    let total = usize::from(be16(fixed, ipv4::TOTAL_LENGTH));
    (fixed[0] >> 4 == 4 && header >= ipv4::HEADER && is_first).then_some((fixed[ipv4::PROTOCOL], header, total))
}

/// As [`walk_v4`].
fn walk_v6(packet: &[u8]) -> Option<(u8, usize, usize)> {
    let fixed = packet.first_chunk::<{ ipv6::HEADER }>()?;
    let total = ipv6::HEADER + usize::from(be16(fixed, ipv6::PAYLOAD_LENGTH));
    let (mut at, mut next) = (ipv6::HEADER, fixed[ipv6::NEXT_HEADER]);
    // Once more than there are headers: the last turn sees what they carry.
    for _ in 0..=ipv6::MAX_EXTENSIONS {
        let length = match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            ipv6::FRAGMENT if be16(packet.get(at..at + 8)?, 2) & 0xfff8 == 0 => 8,
            ipv6::FRAGMENT => return None,
            protocol => return (fixed[0] >> 4 == 6).then_some((protocol, at, total)),
        };
        next = *packet.get(at)?;
        at += length;
    }
    None
}
