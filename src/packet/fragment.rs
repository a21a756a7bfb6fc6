//! Fragments of IPv4 (RFC 791, section 3.2) and IPv6 (RFC 8200, section 4.5).

use super::{Headers, Ip, Malformed, Payload, be16, be32, gre, icmp, ipv4, ipv6, tcp, udp};

/// Offsets count units of so many bytes.
pub const UNIT: usize = 8;
/// Longest payload of a datagram, in units: the total length has 16 bits.
pub const MOST_UNITS: usize = 65_536 / UNIT;

/// What a packet says about itself as a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The same in all fragments of a datagram, together with the addresses (and, over IPv4, the protocol). 16 bits over IPv4.
    pub identification: u32,
    /// Where in the datagram's payload it begins, in units of 8 bytes.
    pub offset: u16,
    /// It is not the last one.
    pub more: bool,
    /// Bytes of the datagram's payload that it carries.
    pub length: u16,
}

impl Fragment {
    /// Only this one has the ports.
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Units of the datagram's payload that it carries, the last one perhaps not whole.
    pub fn units(&self) -> std::ops::Range<usize> {
        let start = usize::from(self.offset);
        start..start + usize::from(self.length).div_ceil(UNIT)
    }

    /// Where in the datagram's payload it ends, in bytes.
    pub fn end(&self) -> usize {
        usize::from(self.offset) * UNIT + usize::from(self.length)
    }

    /// Whether no sender makes such a fragment: an empty one, one in the middle whose end is no multiple of 8 (RFC 8200, section 4.5), or
    /// one that ends behind what a datagram can hold.
    pub fn is_malformed(&self) -> bool {
        let length = usize::from(self.length);
        length == 0 || (self.more && !length.is_multiple_of(UNIT)) || self.end() > usize::from(u16::MAX)
    }
}

/// The fragment fields of a packet; `None`: it is whole.
///
/// # Panics
/// When `headers` are not those of the frame in `bytes`.
pub fn read(bytes: &[u8], headers: &Headers) -> Option<Fragment> {
    match headers.ip {
        Ip::V4 => {
            let l3 = headers.l3();
            let field = be16(bytes, l3 + ipv4::FRAGMENT);
            let fragment = Fragment {
                identification: u32::from(be16(bytes, l3 + ipv4::IDENTIFICATION)),
                offset: field & ipv4::FRAGMENT_OFFSET,
                more: field & ipv4::MORE_FRAGMENTS != 0,
                length: headers.end - headers.l4,
            };
            (fragment.more || fragment.offset != 0).then_some(fragment)
        }
        Ip::V6 => {
            let at = find_header_v6(&bytes[..usize::from(headers.end)], headers)?;
            let field = be16(bytes, at + 2);
            let length = usize::from(headers.end) - at - ipv6::FRAGMENT_HEADER;
            let fragment =
                Fragment { identification: be32(bytes, at + 4), offset: field >> 3, more: field & 1 != 0, length: length as u16 };
            (fragment.more || fragment.offset != 0).then_some(fragment)
        }
    }
}

/// Where the fragment header is. The parser has walked over the chain already.
fn find_header_v6(packet: &[u8], headers: &Headers) -> Option<usize> {
    let (mut at, mut next) = (headers.l3() + ipv6::HEADER, packet[headers.l3() + ipv6::NEXT_HEADER]);
    for _ in 0..=ipv6::MAX_EXTENSIONS {
        match next {
            ipv6::FRAGMENT => return packet.get(at..at + ipv6::FRAGMENT_HEADER).map(|_| at),
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                next = *packet.get(at)?;
                at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
            }
            _ => return None,
        }
    }
    None
}

/// Protocols whose packets can be translated in pieces: what must be rewritten, checksums too, stands in the first one and does not depend
/// on the others. The CRC of SCTP does.
pub fn can_be_followed(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | GRE | icmp::ICMP | icmp::ICMPV6)
}

/// What the first fragment of a datagram carries, as [`super::parse`] says it of a whole one. `None`: it ends within the transport
/// header (RFC 1858, section 3; RFC 8200, section 4.5).
pub fn first_payload(bytes: &[u8], headers: &Headers) -> Option<Result<Payload, Malformed>> {
    let transport = &bytes[headers.l4()..usize::from(headers.end)];
    match headers.protocol {
        TCP => {
            let header = usize::from(*transport.get(tcp::DATA_OFFSET)? >> 4) * 4;
            (transport.len() >= header.max(tcp::HEADER)).then(|| tcp::parse(transport).map(Payload::Tcp))
        }
        UDP => (transport.len() >= udp::HEADER).then(|| udp::parse_first(transport).map(|()| Payload::Udp)),
        GRE => (transport.len() >= gre::LONGEST_HEADER).then(|| gre::parse(transport).map(|()| Payload::Gre)),
        icmp::ICMP | icmp::ICMPV6 => transport.first_chunk::<{ icmp::HEADER }>().map(|fixed| Ok(Payload::Icmp(fixed[0]))),
        _ => Some(Err(Malformed::UnknownProtocol)),
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
