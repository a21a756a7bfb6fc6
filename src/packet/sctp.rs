//! SCTP (RFC 9260).

use super::{Malformed, be16, be32, tcp};

/// Bytes of the common header.
pub const HEADER: usize = 12;
/// Offset of the verification tag.
pub const VERIFICATION_TAG: usize = 4;
/// Offset of the checksum: a CRC32c, its lowest byte first (RFC 9260, appendix A).
pub const CHECKSUM: usize = 8;
/// Bytes of a chunk's header: type, flags, length.
pub const CHUNK_HEADER: usize = 4;
/// Offset of the initiate tag in an INIT or INIT ACK chunk.
pub const INITIATE_TAG: usize = CHUNK_HEADER;
/// Bytes of an INIT or INIT ACK chunk without parameters.
const INIT: usize = 20;

/// Types of chunk that move the state of an association.
pub mod chunk {
    /// User data.
    pub const DATA: u8 = 0;
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Answers INIT.
    pub const INIT_ACK: u8 = 2;
    /// Acknowledges data.
    pub const SACK: u8 = 3;
    /// Is the path alive?
    pub const HEARTBEAT: u8 = 4;
    /// It is.
    pub const HEARTBEAT_ACK: u8 = 5;
    /// Ends the association at once.
    pub const ABORT: u8 = 6;
    /// No more data from the sender.
    pub const SHUTDOWN: u8 = 7;
    /// Answers SHUTDOWN.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Something was wrong; fatal only together with ABORT.
    pub const ERROR: u8 = 9;
    /// Brings the cookie of INIT ACK back.
    pub const COOKIE_ECHO: u8 = 10;
    /// The association is established.
    pub const COOKIE_ACK: u8 = 11;
    /// Ends a shutdown.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
    /// Flag of ABORT and SHUTDOWN COMPLETE: the sender had no association, and reflects the tag that it was sent (RFC 9260, section 8.5.1).
    pub const REFLECTED: u8 = 1;
}

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// All of it, from the type on, without padding.
    pub bytes: &'a [u8],
}

impl Chunk<'_> {
    /// The initiate tag of an INIT or INIT ACK that the parser has passed.
    pub fn initiate_tag(&self) -> u32 {
        be32(self.bytes, INITIATE_TAG)
    }
}

/// The chunks of a packet, as long as they are whole. Of a packet that [`super::parse`] has passed, all of them.
pub fn chunks(packet: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = packet.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<CHUNK_HEADER>()?;
        let length = usize::from(be16(header, 2));
        let bytes = rest.get(..length).filter(|bytes| bytes.len() >= CHUNK_HEADER)?;
        // RFC 9260, section 3.2: padded to four bytes; of the last chunk the padding may be missing.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Chunk { kind: bytes[0], flags: bytes[1], bytes })
    })
}

/// Checks ports, and the lengths and the order of the chunks.
pub(super) fn parse(packet: &[u8]) -> Result<(), Malformed> {
    let Some(fixed) = packet.first_chunk::<HEADER>() else { return Err(Malformed::SctpLength) };
    tcp::check_ports(be32(fixed, 0))?;
    let mut end = HEADER;
    for (at, chunk) in chunks(packet).enumerate() {
        end += chunk.bytes.len().next_multiple_of(4);
        check_chunk(at, chunk, end >= packet.len())?;
    }
    // At least one chunk, and nothing behind the last one.
    if end == HEADER || end < packet.len() { Err(Malformed::SctpLength) } else { Ok(()) }
}

/// RFC 9260, section 6.10: INIT, INIT ACK and SHUTDOWN COMPLETE stand alone. Sections 5.1 and 6.5: COOKIE ECHO and COOKIE ACK stand first.
fn check_chunk(at: usize, chunk: Chunk<'_>, last: bool) -> Result<(), Malformed> {
    use chunk::{COOKIE_ACK, COOKIE_ECHO, INIT_ACK, SHUTDOWN_COMPLETE};
    match chunk.kind {
        chunk::INIT | INIT_ACK | SHUTDOWN_COMPLETE if at > 0 || !last => Err(Malformed::SctpChunks),
        chunk::INIT | INIT_ACK if chunk.bytes.len() < INIT => Err(Malformed::SctpLength),
        // Section 3.3.2: an initiate tag is never 0.
        chunk::INIT | INIT_ACK if chunk.initiate_tag() == 0 => Err(Malformed::SctpChunks),
        COOKIE_ECHO | COOKIE_ACK if at > 0 => Err(Malformed::SctpChunks),
        _ => Ok(()),
    }
}
