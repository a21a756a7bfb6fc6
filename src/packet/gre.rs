//! GRE (RFC 2784) with keys (RFC 2890), and the enhanced GRE of PPTP (RFC 2637).

use super::{Malformed, be16, be32, checksum};

/// Bytes of the header without options.
pub const HEADER: usize = 4;

/// Bytes of the header with all options.
pub(super) const LONGEST_HEADER: usize = 16;

/// Bits of the first word.
pub mod flag {
    /// A checksum follows, and two reserved bytes.
    pub const CHECKSUM: u16 = 0x8000;
    /// Source routing (RFC 1701), which RFC 2784 took away.
    pub const ROUTING: u16 = 0x4000;
    /// A key follows.
    pub const KEY: u16 = 0x2000;
    /// A sequence number follows.
    pub const SEQUENCE: u16 = 0x1000;
    /// An acknowledgment number follows; version 1 only.
    pub const ACKNOWLEDGMENT: u16 = 0x0080;
    /// The version.
    pub const VERSION: u16 = 0x0007;
}

/// Checks version, flags and that all announced fields are there.
pub(super) fn parse(packet: &[u8]) -> Result<(), Malformed> {
    let Some(fixed) = packet.first_chunk::<HEADER>() else { return Err(Malformed::GreHeader) };
    let flags = be16(fixed, 0);
    let present = |bit: u16| if flags & bit != 0 { 4 } else { 0 };
    let options = match flags & flag::VERSION {
        // RFC 2784, section 2.3: a packet with the routing bit is discarded by who does not implement RFC 1701.
        0 if flags & flag::ROUTING == 0 => present(flag::CHECKSUM) + present(flag::KEY) + present(flag::SEQUENCE),
        // RFC 2637, section 4.1: the key is always there, checksum and routing never.
        1 if flags & (flag::CHECKSUM | flag::ROUTING | flag::KEY) == flag::KEY => {
            4 + present(flag::SEQUENCE) + present(flag::ACKNOWLEDGMENT)
        }
        _ => return Err(Malformed::GreHeader),
    };
    if packet.len() < HEADER + options { Err(Malformed::GreHeader) } else { Ok(()) }
}

/// The key (RFC 2890, section 2.1), the same in both directions of a tunnel. `None`: there is none, or it is a call id of PPTP, which
/// each side chooses by itself, so that it does not say what belongs together.
pub fn key(packet: &[u8]) -> Option<u32> {
    let flags = be16(packet, 0);
    let keyed = flags & flag::KEY != 0 && flags & flag::VERSION == 0;
    let at = HEADER + if flags & flag::CHECKSUM != 0 { 4 } else { 0 };
    // Of a packet that is quoted, it may be cut off.
    (keyed && packet.len() >= at + 4).then(|| be32(packet, at))
}

/// Whether the checksum is right, or absent. It covers header and payload, and no pseudo header (RFC 2784, section 2.4).
///
/// # Panics
/// When the parser has not passed the packet.
pub fn checksum_holds(packet: &[u8]) -> bool {
    be16(packet, 0) & flag::CHECKSUM == 0 || checksum::fold(checksum::sum(packet)) == 0xffff
}
