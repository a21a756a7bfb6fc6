//! Views of packet headers, parsing, checksums.
//!
//! The panic contract: [`parse`] looks at every length once. After it returned `Ok`, no accessor of the [`Headers`] it returned panics
//! for the same bytes. Addresses and ports are returned as they read on the wire, the first byte the highest.

pub mod checksum;
pub mod dccp;
pub mod ethernet;
pub mod fragment;
pub mod gre;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod quote;
pub mod rss;
pub mod sctp;
pub mod tcp;
pub mod toeplitz;
pub mod udp;

mod headers;
mod malformed;
mod plain;

pub use headers::{Headers, Ip, Payload, parse};
pub use malformed::Malformed;
pub use plain::{Plain, Transport, parse_plain, parse_plain_v6};

/// Two bytes at `offset`, the first the highest.
///
/// # Panics
/// When the bytes end before.
#[inline(always)]
pub fn be16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes(*array(bytes, offset))
}

/// Four bytes at `offset`, the first the highest.
///
/// # Panics
/// When the bytes end before.
#[inline(always)]
pub fn be32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(*array(bytes, offset))
}

/// Eight bytes at `offset`, the first the highest.
///
/// # Panics
/// When the bytes end before.
#[inline(always)]
pub fn be64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(*array(bytes, offset))
}

/// `N` bytes at `offset` as one value: one comparison, one load.
#[inline(always)]
fn array<const N: usize>(bytes: &[u8], offset: usize) -> &[u8; N] {
    match bytes[offset..].first_chunk() {
        Some(array) => array,
        None => panic!("{} bytes do not reach from {offset} over {N}", bytes.len()),
    }
}

#[cfg(test)]
mod tests;
