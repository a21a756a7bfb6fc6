//! Ethernet II with or without one 802.1Q tag.

use super::{Malformed, be16};

/// Bytes of the header without tag: destination, source, EtherType.
pub const HEADER: usize = 14;
/// Bytes of an 802.1Q tag.
pub const TAG: usize = 4;
/// Where the EtherType is.
pub const ETHER_TYPE: usize = 12;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// Bits of the tag control information that are the VLAN id.
pub const VLAN_ID: u16 = 0x0fff;

/// What the link layer header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Type of what follows, behind the tag if there is one.
    pub ether_type: u16,
    /// VLAN id, 0 without tag or with a priority tag.
    pub vlan: u16,
    /// Where the next header begins: 14 or 18.
    pub length: usize,
}

/// Reads the header.
#[inline(always)]
pub fn parse(bytes: &[u8]) -> Result<Ethernet, Malformed> {
    if bytes.len() < HEADER {
        return Err(Malformed::FrameTooShort);
    }
    let ether_type = be16(bytes, ETHER_TYPE);
    if ether_type != VLAN {
        return Ok(Ethernet { ether_type, vlan: 0, length: HEADER });
    }
    if bytes.len() < HEADER + TAG {
        return Err(Malformed::FrameTooShort);
    }
    Ok(Ethernet { ether_type: be16(bytes, 16), vlan: be16(bytes, 14) & VLAN_ID, length: HEADER + TAG })
}

/// Writes destination and source address, each in the lower 48 bits of a word, the first byte the highest.
///
/// # Panics
/// When there are fewer than 12 bytes.
#[inline(always)]
pub fn set_addresses(bytes: &mut [u8], destination: u64, source: u64) {
    let addresses = &mut bytes[..12];
    addresses[..8].copy_from_slice(&(destination << 16 | source >> 32 & 0xffff).to_be_bytes());
    addresses[8..].copy_from_slice(&(source as u32).to_be_bytes());
}
