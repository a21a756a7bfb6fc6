//! UDP (RFC 768).

use super::{Malformed, be16, be32, tcp};

/// Bytes of the header.
pub const HEADER: usize = 8;
/// Offset of the length, which counts the header.
pub const LENGTH: usize = 4;
/// Offset of the checksum; 0 over IPv4 means that there is none.
pub const CHECKSUM: usize = 6;

/// Checks length and ports.
#[inline(always)]
pub(super) fn parse(datagram: &[u8]) -> Result<(), Malformed> {
    let Some(fixed) = datagram.first_chunk::<HEADER>() else { return Err(Malformed::UdpLength) };
    let length = usize::from(be16(fixed, LENGTH));
    if length < HEADER || length > datagram.len() {
        return Err(Malformed::UdpLength);
    }
    tcp::check_ports(be32(fixed, 0))
}

/// As [`parse`], for the first fragment of a datagram, which is longer than that.
pub(super) fn parse_first(fragment: &[u8]) -> Result<(), Malformed> {
    let Some(fixed) = fragment.first_chunk::<HEADER>() else { return Err(Malformed::UdpLength) };
    if usize::from(be16(fixed, LENGTH)) < HEADER {
        return Err(Malformed::UdpLength);
    }
    tcp::check_ports(be32(fixed, 0))
}
