//! IPv4 (RFC 791).

use super::{Malformed, be16, be64, checksum};

/// Bytes of the header without options.
pub const HEADER: usize = 20;
/// Offset of the type of service.
pub const TOS: usize = 1;
/// Offset of the total length.
pub const TOTAL_LENGTH: usize = 2;
/// Offset of the identification.
pub const IDENTIFICATION: usize = 4;
/// Offset of flags and fragment offset.
pub const FRAGMENT: usize = 6;
/// Offset of the time to live.
pub const TTL: usize = 8;
/// Offset of the protocol.
pub const PROTOCOL: usize = 9;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;
/// Offset of the source address; the destination follows it.
pub const ADDRESSES: usize = 12;
/// Flag: do not fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// Bits of the fragment offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// What the header says, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ipv4 {
    pub header: usize,
    pub total: usize,
    pub protocol: u8,
    pub fragment: u16,
}

/// Checks version, lengths, checksum, options and source of the header at the beginning of `bytes`.
#[inline(always)]
pub(super) fn parse(bytes: &[u8]) -> Result<Ipv4, Malformed> {
    let Some(fixed) = bytes.first_chunk::<HEADER>() else { return Err(Malformed::FrameTooShort) };
    if fixed[0] >> 4 != 4 {
        return Err(Malformed::IpVersion);
    }
    let header = usize::from(fixed[0] & 0xf) * 4;
    let total = usize::from(be16(fixed, TOTAL_LENGTH));
    if header != HEADER {
        check_options(bytes, header, total)?;
    } else if !is_fixed_header_right(fixed) {
        return Err(Malformed::IpHeaderChecksum);
    }
    if total < header || total > bytes.len() {
        return Err(Malformed::IpTotalLength);
    }
    check_source(be64(fixed, ADDRESSES))?;
    Ok(Ipv4 { header, total, protocol: fixed[PROTOCOL], fragment: be16(fixed, FRAGMENT) })
}

/// Whether the checksum in a header without options is right (RFC 1071): whether its words add up to all ones, which is to a multiple of
/// 0xffff, since not all of them are 0. In the machine's own byte order: what is all ones is so in either (RFC 1071, section 2 (B)).
#[inline(always)]
pub(super) fn is_fixed_header_right(fixed: &[u8; HEADER]) -> bool {
    let (words, _) = fixed.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    sum.is_multiple_of(0xffff)
}

/// A host on another machine has none of these as its address (RFC 1122, section 3.2.1.3; RFC 6890).
///
/// # Errors
/// When the source, the upper half of `addresses`, is one of them, or the destination.
#[inline(always)]
pub fn check_source(addresses: u64) -> Result<(), Malformed> {
    let source = (addresses >> 32) as u32;
    let destination = addresses as u32;
    let first = source >> 24;
    // Of 0 and of 224 and more, one less is at least 223.
    if first.wrapping_sub(1) >= 223 || first == 127 {
        return Err(Malformed::MartianSource);
    }
    if source == destination {
        return Err(Malformed::SourceIsDestination);
    }
    Ok(())
}

#[cold]
fn check_options(bytes: &[u8], header: usize, total: usize) -> Result<(), Malformed> {
    if header < HEADER || header > total || header > bytes.len() {
        return Err(Malformed::IpHeaderLength);
    }
    if checksum::fold(checksum::sum(&bytes[..header])) != 0xffff {
        return Err(Malformed::IpHeaderChecksum);
    }
    let mut rest = &bytes[HEADER..header];
    while let [kind, tail @ ..] = rest {
        rest = match kind {
            0 => return Ok(()),
            1 => tail,
            &LOOSE_SOURCE_ROUTE | &STRICT_SOURCE_ROUTE => return Err(Malformed::IpSourceRoute),
            _ => option_tail(rest)?,
        };
    }
    Ok(())
}

/// What follows an option with a length byte (RFC 791, section 3.1: the length counts type and length bytes too).
fn option_tail(option: &[u8]) -> Result<&[u8], Malformed> {
    match option.get(1) {
        Some(&length) if length >= 2 => option.get(usize::from(length)..).ok_or(Malformed::IpOptions),
        _ => Err(Malformed::IpOptions),
    }
}
