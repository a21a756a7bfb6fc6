//! The hash of hashing schedulers: fixed for all time, so that every node, version and processor makes the same choice.
//!
//! Each 64-bit word goes through the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), chained. The seeds are constants:
//! whoever knows them can pick source addresses that meet at one backend, and whoever can pick source addresses could do that anyway.

use std::net::{IpAddr, SocketAddr};

/// A hash of an address alone. An IPv4 address hashes as its IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
pub(super) fn hash_address(seed: u64, address: IpAddr) -> u64 {
    let bits = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    mix(mix(seed ^ (bits >> 64) as u64) ^ bits as u64)
}

/// A hash of an address and a port.
pub(super) fn hash_socket(seed: u64, address: SocketAddr) -> u64 {
    mix(hash_address(seed, address.ip()) ^ u64::from(address.port()))
}

/// The finaliser of SplitMix64 after its step: every input bit moves every output bit.
pub(super) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// `hash`, spread evenly over 0 to `bound` - 1 by its upper bits.
pub(super) fn below(hash: u64, bound: u64) -> u64 {
    ((u128::from(hash) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_changes() {
        // The first output of SplitMix64 seeded with 0, as its authors publish it.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        // These two would move every client of every node if they moved.
        assert_eq!(hash_address(1, "192.0.2.1".parse().unwrap()), hash_address(1, "::ffff:192.0.2.1".parse().unwrap()));
        assert_eq!(hash_socket(1, "192.0.2.1:80".parse().unwrap()), 0x4afb_d248_43f5_b6e1);
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut seen = [0u32; 7];
        (0..70_000).for_each(|word| seen[below(mix(word), 7) as usize] += 1);
        assert!(seen.iter().all(|count| (9_700..10_300).contains(count)), "{seen:?}");
    }
}
