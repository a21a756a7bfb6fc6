//! ICMP (RFC 792) and ICMPv6 (RFC 4443): what weir reads and sends of them.

use super::{Headers, Ip, checksum, ipv6};

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Next header of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Bytes in front of the quoted packet, in both.
pub const HEADER: usize = 8;
/// Offset of the checksum; that of ICMPv6 covers a pseudo header too.
pub const CHECKSUM: usize = 2;
/// Offset of the four bytes whose meaning depends on the type.
pub const REST: usize = 4;

/// Offset of the identifier of an echo.
pub const IDENTIFIER: usize = 4;

/// Whether the checksum of a whole ICMP or ICMPv6 message is right.
///
/// # Panics
/// When `headers` are not those of the frame in `bytes`.
pub fn checksum_holds(bytes: &[u8], headers: &Headers) -> bool {
    let message = &bytes[headers.l4()..usize::from(headers.end)];
    let pseudo_header = match headers.ip {
        Ip::V4 => 0,
        // RFC 4443, section 2.3.
        Ip::V6 => {
            let addresses = headers.l3() + ipv6::ADDRESSES..headers.l3() + ipv6::HEADER;
            checksum::sum(&bytes[addresses]) + checksum::pseudo_header(ICMPV6, message.len())
        }
    };
    checksum::fold(checksum::sum(message) + pseudo_header) == 0xffff
}

/// Types and codes of ICMP.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Echo.
    pub const ECHO: u8 = 8;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: fragmentation needed and DF set; the next-hop MTU stands in bytes 6 and 7 (RFC 1191, section 4).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Code of [`UNREACHABLE`]: communication administratively prohibited (RFC 1812, section 5.2.7.1).
    pub const PROHIBITED: u8 = 13;
    /// Time exceeded; code 0 is in transit.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Source quench; deprecated (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;

    /// Whether a message of this type is about another packet, which it quotes (`icmp_is_err`).
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }
}

/// Types of ICMPv6; errors are below 128 (RFC 4443, section 2.1).
pub mod v6 {
    /// Echo request.
    pub const ECHO: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Code of [`UNREACHABLE`]: communication administratively prohibited (RFC 4443, section 3.1).
    pub const PROHIBITED: u8 = 1;
    /// Packet too big; the MTU stands in bytes 4 to 7 (RFC 4443, section 3.2).
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded; code 0 is in transit.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;

    /// Whether a message of this type is about another packet, which it quotes: also redirect (137).
    pub const fn is_error(kind: u8) -> bool {
        kind < 128 || kind == 137
    }
}
