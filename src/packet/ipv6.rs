//! IPv6 (RFC 8200) and its extension headers.

use super::{Malformed, be16, be64};

/// Bytes of the fixed header.
pub const HEADER: usize = 40;
/// Offset of the payload length, which does not count the fixed header.
pub const PAYLOAD_LENGTH: usize = 4;
/// Offset of the next header.
pub const NEXT_HEADER: usize = 6;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Offset of the source address; the destination follows it.
pub const ADDRESSES: usize = 8;
/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Bytes of the fragment header.
pub const FRAGMENT_HEADER: usize = 8;

/// Extension headers that are read: more than a sane sender chains.
pub(super) const MAX_EXTENSIONS: usize = 8;

/// What the headers say, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ipv6 {
    /// Bytes up to the transport header.
    pub headers: usize,
    pub total: usize,
    pub protocol: u8,
    /// Offset and more-fragments flag of the fragment header, if there is one that really splits the packet.
    pub fragment: bool,
}

/// Checks version, length, source and extension headers at the beginning of `bytes`.
#[inline(always)]
pub(super) fn parse(bytes: &[u8]) -> Result<Ipv6, Malformed> {
    let Some(fixed) = bytes.first_chunk::<HEADER>() else { return Err(Malformed::FrameTooShort) };
    if fixed[0] >> 4 != 6 {
        return Err(Malformed::IpVersion);
    }
    let total = HEADER + usize::from(be16(fixed, PAYLOAD_LENGTH));
    if total > bytes.len() {
        return Err(Malformed::IpTotalLength);
    }
    check_source(addresses(fixed))?;
    let protocol = fixed[NEXT_HEADER];
    match protocol {
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => walk_extensions(&bytes[..total], protocol),
        _ => Ok(Ipv6 { headers: HEADER, total, protocol, fragment: false }),
    }
}

/// RFC 4291, sections 2.5.2, 2.5.3 and 2.7: unspecified, loopback and multicast are never the source of a packet that is forwarded. Nor is
/// an IPv4-mapped address (section 2.5.5.2): RFC 6890 keeps those off the wire, and the kernel drops them.
///
/// # Errors
/// When the source, the first two of the four words, is one of those, or the destination.
#[inline(always)]
pub fn check_source([s0, s1, d0, d1]: [u64; 4]) -> Result<(), Malformed> {
    if s0 >> 56 == 0xff || (s0 == 0 && (s1 <= 1 || s1 >> 32 == 0xffff)) {
        return Err(Malformed::MartianSource);
    }
    if (s0, s1) == (d0, d1) {
        return Err(Malformed::SourceIsDestination);
    }
    Ok(())
}

/// Source and destination of the fixed header, two words each.
#[inline(always)]
pub(super) fn addresses(fixed: &[u8; HEADER]) -> [u64; 4] {
    std::array::from_fn(|word| be64(fixed, ADDRESSES + 8 * word))
}

#[cold]
fn walk_extensions(packet: &[u8], first: u8) -> Result<Ipv6, Malformed> {
    let (mut at, mut next, mut fragment) = (HEADER, first, false);
    // Once more than there are headers: the last turn sees what they carry.
    for _ in 0..=MAX_EXTENSIONS {
        let length = match next {
            // RFC 8200, section 4.1: hop-by-hop options stand only directly behind the fixed header.
            HOP_BY_HOP if at != HEADER => return Err(Malformed::ExtensionHeaders),
            // RFC 8200, section 4.5: the first fragment holds all headers.
            HOP_BY_HOP | DESTINATION_OPTIONS => extension_length(packet, at).map_err(|error| cut(error, fragment))?,
            ROUTING => routing_length(packet, at).map_err(|error| cut(error, fragment))?,
            FRAGMENT => {
                let header = packet.get(at..at + 8).ok_or(Malformed::ExtensionHeaders)?;
                // RFC 6946: offset 0 without more fragments is a whole packet.
                fragment |= be16(header, 2) & 0xfff9 != 0;
                if be16(header, 2) & 0xfff8 != 0 {
                    // What follows is not a header.
                    return Ok(Ipv6 { headers: at + 8, total: packet.len(), protocol: header[0], fragment });
                }
                8
            }
            _ => return Ok(Ipv6 { headers: at, total: packet.len(), protocol: next, fragment }),
        };
        next = packet[at];
        at += length;
    }
    Err(Malformed::ExtensionHeaders)
}

fn cut(error: Malformed, in_fragment: bool) -> Malformed {
    if in_fragment && error == Malformed::ExtensionHeaders { Malformed::TinyFragment } else { error }
}

/// Length of a header in the common format: units of 8 bytes, not counting the first 8 (RFC 8200, section 4.3).
fn extension_length(packet: &[u8], at: usize) -> Result<usize, Malformed> {
    let units = *packet.get(at + 1).ok_or(Malformed::ExtensionHeaders)?;
    let length = (usize::from(units) + 1) * 8;
    if at + length > packet.len() { Err(Malformed::ExtensionHeaders) } else { Ok(length) }
}

/// RFC 5095: type 0 is not to be obeyed; no other type is for a load balancer to act on while segments are left.
fn routing_length(packet: &[u8], at: usize) -> Result<usize, Malformed> {
    let length = extension_length(packet, at)?;
    if packet[at + 3] == 0 { Ok(length) } else { Err(Malformed::IpSourceRoute) }
}
