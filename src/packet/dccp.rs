//! DCCP (RFC 4340).

use super::{Malformed, be16, be32, tcp};

/// Bytes of the generic header with short sequence numbers.
pub const SHORT_HEADER: usize = 12;
/// Bytes of the generic header with extended sequence numbers.
pub const HEADER: usize = 16;
/// Offset of the data offset, in units of 4 bytes.
pub const DATA_OFFSET: usize = 4;
/// Offset of CCVal (upper four bits) and the checksum coverage (lower four).
pub const COVERAGE: usize = 5;
/// Offset of the checksum.
pub const CHECKSUM: usize = 6;
/// Offset of the type (bits 1 to 4) and the flag X (bit 0), which says that sequence numbers have 48 bits.
pub const TYPE: usize = 8;
/// Bytes behind the generic header: acknowledgment number with extended sequence numbers.
const ACKNOWLEDGMENT: usize = 8;

/// Packet types (RFC 4340, section 5.1).
pub mod kind {
    /// Opens a connection.
    pub const REQUEST: u8 = 0;
    /// Answers it.
    pub const RESPONSE: u8 = 1;
    /// Data.
    pub const DATA: u8 = 2;
    /// Acknowledgment.
    pub const ACK: u8 = 3;
    /// Both.
    pub const DATA_ACK: u8 = 4;
    /// The server asks the client to close.
    pub const CLOSE_REQ: u8 = 5;
    /// Closes.
    pub const CLOSE: u8 = 6;
    /// Ends the connection.
    pub const RESET: u8 = 7;
    /// Asks where the other side is.
    pub const SYNC: u8 = 8;
    /// Tells it.
    pub const SYNC_ACK: u8 = 9;
    /// Types below this one exist.
    pub const COUNT: u8 = 10;
}

/// Checks ports, type, and the lengths that the type asks for; returns the type.
pub(super) fn parse(packet: &[u8]) -> Result<u8, Malformed> {
    let Some(fixed) = packet.first_chunk::<SHORT_HEADER>() else { return Err(Malformed::DccpLength) };
    let (kind, extended) = (fixed[TYPE] >> 1 & 0xf, fixed[TYPE] & 1 != 0);
    let header = usize::from(fixed[DATA_OFFSET]) * 4;
    if header < fixed_length(kind, extended)? || header > packet.len() {
        return Err(Malformed::DccpLength);
    }
    if covered(packet) > packet.len() {
        return Err(Malformed::DccpCoverage);
    }
    tcp::check_ports(be32(fixed, 0))?;
    Ok(kind)
}

/// Bytes that a packet of this type has at least (RFC 4340, sections 5.1 to 5.7). Short sequence numbers are for Data, Ack and DataAck alone.
fn fixed_length(kind: u8, extended: bool) -> Result<usize, Malformed> {
    let more = match kind {
        kind::DATA => 0,
        kind::REQUEST => 4,
        kind::RESPONSE | kind::RESET => ACKNOWLEDGMENT + 4,
        kind::ACK | kind::DATA_ACK | kind::CLOSE_REQ | kind::CLOSE | kind::SYNC | kind::SYNC_ACK => ACKNOWLEDGMENT,
        _ => return Err(Malformed::DccpType),
    };
    match (extended, kind) {
        (true, _) => Ok(HEADER + more),
        (false, kind::DATA | kind::ACK | kind::DATA_ACK) => Ok(SHORT_HEADER + more / 2),
        (false, _) => Err(Malformed::DccpType),
    }
}

/// Bytes of the packet that its checksum covers (RFC 4340, section 9.2): all of it for a coverage of 0, else header, options and
/// 4 × (coverage − 1) bytes of data.
pub fn covered(packet: &[u8]) -> usize {
    match usize::from(packet[COVERAGE] & 0xf) {
        0 => packet.len(),
        coverage => usize::from(packet[DATA_OFFSET]) * 4 + (coverage - 1) * 4,
    }
}

/// The sequence number of a packet with extended ones, 48 bits.
pub fn sequence(packet: &[u8]) -> u64 {
    u64::from(be16(packet, 10)) << 32 | u64::from(be32(packet, 12))
}

/// The sequence number of a packet with short ones, 24 bits; `None` for extended ones.
pub fn short_sequence(packet: &[u8]) -> Option<u32> {
    (packet[TYPE] & 1 == 0).then(|| be32(packet, TYPE) & 0xff_ffff)
}

/// The acknowledgment number of a packet with extended ones, 48 bits; `None` for types that have none, and for short ones.
pub fn acknowledgment(packet: &[u8]) -> Option<u64> {
    let (kind, extended) = (packet[TYPE] >> 1 & 0xf, packet[TYPE] & 1 != 0);
    let acknowledges = extended && !matches!(kind, kind::REQUEST | kind::DATA);
    acknowledges.then(|| u64::from(be16(packet, HEADER + 2)) << 32 | u64::from(be32(packet, HEADER + 4)))
}
