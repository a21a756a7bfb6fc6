//! TCP (RFC 9293).

use super::{Malformed, be16, be32};

/// Bytes of the header without options.
pub const HEADER: usize = 20;
/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;
/// Offset of the acknowledgment number.
pub const ACKNOWLEDGMENT: usize = 8;
/// Offset of the data offset (upper four bits, in units of 4 bytes).
pub const DATA_OFFSET: usize = 12;
/// Offset of the flags.
pub const FLAGS: usize = 13;
/// Offset of the window.
pub const WINDOW: usize = 14;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// Flag bits.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
}

/// Checks data offset and flags; returns the flags.
#[inline(always)]
pub(super) fn parse(segment: &[u8]) -> Result<u8, Malformed> {
    let Some(fixed) = segment.first_chunk::<HEADER>() else { return Err(Malformed::TcpHeaderLength) };
    let header = usize::from(fixed[DATA_OFFSET] >> 4) * 4;
    if header < HEADER || header > segment.len() {
        return Err(Malformed::TcpHeaderLength);
    }
    check_ports(be32(fixed, 0))?;
    check_flags(fixed[FLAGS])
}

/// Both ports in one word, neither may be 0 (RFC 6335, section 6: port 0 is reserved).
#[inline(always)]
pub(super) fn check_ports(ports: u32) -> Result<(), Malformed> {
    if ports <= 0xffff || ports as u16 == 0 { Err(Malformed::PortZero) } else { Ok(()) }
}

/// PSH, URG, ECE and CWR go with everything; of the rest, these are what TCP sends: SYN, SYN ACK, RST, RST ACK, FIN ACK, ACK.
#[inline(always)]
pub(super) fn check_flags(flags: u8) -> Result<u8, Malformed> {
    use flag::{ACK, FIN, RST, SYN};
    /// A bit for each combination that is sent.
    const SENT: u32 = 1 << SYN | 1 << (SYN | ACK) | 1 << RST | 1 << (RST | ACK) | 1 << (FIN | ACK) | 1 << ACK;
    let combination = flags & (FIN | SYN | RST | ACK);
    if SENT >> combination & 1 != 0 { Ok(flags) } else { Err(Malformed::TcpFlags) }
}

/// What tracking must know of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Flag bits.
    pub flags: u8,
    /// Its first sequence number.
    pub sequence: u32,
    /// The sequence number behind its last one; SYN and FIN count one each (RFC 9293, section 3.4).
    pub end: u32,
    /// What it acknowledges; means nothing without ACK.
    pub acknowledgment: u32,
    /// The window as it stands there, not scaled.
    pub window: u16,
    /// Options, with padding.
    pub options: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Of a transport header and payload that the parser has passed.
    ///
    /// # Panics
    /// When the parser has not passed it.
    pub fn read(segment: &'a [u8]) -> Self {
        let header = usize::from(segment[DATA_OFFSET] >> 4) * 4;
        let (flags, sequence) = (segment[FLAGS], be32(segment, SEQUENCE));
        let counted = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        Self {
            flags,
            sequence,
            // A segment is shorter than 64 KiB.
            end: sequence.wrapping_add((segment.len() - header) as u32).wrapping_add(counted),
            acknowledgment: be32(segment, ACKNOWLEDGMENT),
            window: be16(segment, WINDOW),
            options: &segment[HEADER..header],
        }
    }

    /// Whether any of these flags is set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}
