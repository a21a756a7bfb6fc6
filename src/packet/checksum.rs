//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A sum here is the plain sum of 16-bit words in a `u64`, not yet folded: up to 2^48 words fit before it could overflow.

use super::{be16, be64};

/// Sum of the 16-bit words of `bytes`; an odd last byte counts as the upper half of a word (RFC 1071, section 1).
pub fn sum(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut sum = 0u64;
    for chunk in chunks {
        // Four words in one addition: the carries between them are folded at the end.
        let word = be64(chunk, 0);
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    let (pairs, last) = rest.as_chunks::<2>();
    sum += pairs.iter().map(|pair| u64::from(be16(pair, 0))).sum::<u64>();
    sum + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// Folds a sum into 16 bits with end-around carry: halves are added, and what carries out is added again.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let (half, carry) = ((sum >> 32) as u32).overflowing_add(sum as u32);
    // Two 32-bit numbers whose sum carries add up to at most 0xffff_fffe: one more fits.
    let half = half + u32::from(carry);
    let (quarter, carry) = ((half >> 16) as u16).overflowing_add(half as u16);
    quarter + u16::from(carry)
}

/// What replacing the words of `old` by those of `new` adds to a sum: `~old + new` word by word (RFC 1624, equation 3).
#[inline(always)]
pub fn replace32(old: u32, new: u32) -> u64 {
    u64::from(!old) + u64::from(new)
}

/// As [`replace32`], for whole words. They are added with end-around carry, which may be as wide as a word is (RFC 1071, section 2 (C)): an
/// instruction for each, and what comes out is halved once.
#[inline(always)]
pub fn replace64<const N: usize>(old: [u64; N], new: [u64; N]) -> u64 {
    let (mut sum, mut carry) = (0u64, false);
    for (old, new) in old.into_iter().zip(new) {
        (sum, carry) = sum.carrying_add(!old, carry);
        (sum, carry) = sum.carrying_add(new, carry);
    }
    (sum >> 32) + (sum & 0xffff_ffff) + u64::from(carry)
}

/// The checksum after the words it covers changed by `delta` (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')).
#[inline(always)]
pub fn update(checksum: u16, delta: u64) -> u16 {
    !fold(u64::from(!checksum) + delta)
}

/// Sum of the pseudo header of TCP and UDP without the addresses: protocol and length (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub fn pseudo_header(protocol: u8, length: usize) -> u64 {
    u64::from(protocol) + length as u64
}
