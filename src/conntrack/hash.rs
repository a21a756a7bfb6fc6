//! SipHash-1-3 of whole words under a key drawn at start.
//!
//! Tuples come from attackers, so the hash is keyed and strong enough that nobody outside can aim at one bucket; the kernel's
//! conntrack uses SipHash for the same reason. The tuples of a burst are hashed in lanes that the compiler turns into vector instructions:
//! the widest the machine has, chosen at run time, so that one binary runs on any x86-64.

#![allow(unsafe_code)] // calls of functions compiled for wider vectors, after asking the CPU

use std::hash::{BuildHasher, RandomState};

/// The secret of one table and the way to hash a burst on this machine.
#[derive(Debug, Clone, Copy)]
pub struct HashKey {
    key: [u64; 2],
    lanes: Lanes,
}

#[derive(Debug, Clone, Copy)]
enum Lanes {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Tuples that are hashed side by side; each line of a round becomes one vector instruction over all of them.
pub const LANES: usize = 8;

/// One word of each of these tuples.
pub type Words = [u64; LANES];

macro_rules! sip_round {
    ($v0:expr, $v1:expr, $v2:expr, $v3:expr) => {
        $v0 = $v0.wrapping_add($v1);
        $v1 = $v1.rotate_left(13) ^ $v0;
        $v0 = $v0.rotate_left(32);
        $v2 = $v2.wrapping_add($v3);
        $v3 = $v3.rotate_left(16) ^ $v2;
        $v0 = $v0.wrapping_add($v3);
        $v3 = $v3.rotate_left(21) ^ $v0;
        $v2 = $v2.wrapping_add($v1);
        $v1 = $v1.rotate_left(17) ^ $v2;
        $v2 = $v2.rotate_left(32);
    };
}

impl HashKey {
    /// A key nobody knows.
    pub fn random() -> Self {
        // The standard library draws the keys of each RandomState from the system's entropy.
        Self::new([RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8)])
    }

    /// A given key, for replays and tests that must come out the same each time.
    pub fn new(key: [u64; 2]) -> Self {
        Self { key, lanes: widest_lanes() }
    }

    fn start(&self) -> [u64; 4] {
        let [k0, k1] = self.key;
        [k0 ^ 0x736f_6d65_7073_6575, k1 ^ 0x646f_7261_6e64_6f6d, k0 ^ 0x6c79_6765_6e65_7261, k1 ^ 0x7465_6462_7974_6573]
    }

    /// SipHash-1-3 of `N` words, equal to that of their bytes, lowest first.
    #[inline(always)]
    pub fn hash<const N: usize>(&self, words: [u64; N]) -> u64 {
        let [mut v0, mut v1, mut v2, mut v3] = self.start();
        // The last word carries the number of bytes in its upper byte.
        let last = (N as u64 * 8) << 56;
        for word in words.into_iter().chain([last]) {
            v3 ^= word;
            sip_round!(v0, v1, v2, v3);
            v0 ^= word;
        }
        v2 ^= 0xff;
        for _ in 0..3 {
            sip_round!(v0, v1, v2, v3);
        }
        v0 ^ v1 ^ v2 ^ v3
    }

    /// [`HashKey::hash`] of the two words of each of [`LANES`] tuples.
    #[inline(always)]
    pub fn hash_lanes(&self, first: &Words, second: &Words, hashes: &mut Words) {
        match self.lanes {
            Lanes::Baseline => hash_lanes(self.start(), first, second, hashes),
            // SAFETY: `widest_lanes` chose this one because the CPU has AVX2.
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx2 => unsafe { hash_lanes_avx2(self.start(), first, second, hashes) },
            // SAFETY: `widest_lanes` chose this one because the CPU has AVX-512F and VL.
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx512 => unsafe { hash_lanes_avx512(self.start(), first, second, hashes) },
        }
    }
}

fn widest_lanes() -> Lanes {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            return Lanes::Avx512;
        }
        if is_x86_feature_detected!("avx2") {
            return Lanes::Avx2;
        }
    }
    Lanes::Baseline
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn hash_lanes_avx2(start: [u64; 4], first: &Words, second: &Words, hashes: &mut Words) {
    hash_lanes(start, first, second, hashes);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl")]
fn hash_lanes_avx512(start: [u64; 4], first: &Words, second: &Words, hashes: &mut Words) {
    hash_lanes(start, first, second, hashes);
}

#[inline(always)]
fn hash_lanes(start: [u64; 4], first: &Words, second: &Words, hashes: &mut Words) {
    let [mut v0, mut v1, mut v2, mut v3] = start.map(|word| [word; LANES]);
    macro_rules! round {
        () => {
            for lane in 0..LANES {
                sip_round!(v0[lane], v1[lane], v2[lane], v3[lane]);
            }
        };
    }
    for word in [first, second, &[16 << 56; LANES]] {
        for lane in 0..LANES {
            v3[lane] ^= word[lane];
        }
        round!();
        for lane in 0..LANES {
            v0[lane] ^= word[lane];
        }
    }
    for lane in &mut v2 {
        *lane ^= 0xff;
    }
    round!();
    round!();
    round!();
    for lane in 0..LANES {
        hashes[lane] = v0[lane] ^ v1[lane] ^ v2[lane] ^ v3[lane];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    fn oracle(key: [u64; 2], words: &[u64]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    #[test]
    fn equals_siphash_1_3() {
        let key = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let ours = HashKey::new(key);
        for seed in 0..100u64 {
            let words = [seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), !seed, seed << 33, seed ^ 77, 5];
            assert_eq!(ours.hash([words[0], words[1]]), oracle(key, &words[..2]));
            assert_eq!(ours.hash(words), oracle(key, &words));
        }
    }

    #[test]
    fn every_width_gives_the_same_hashes() {
        let key = HashKey::random();
        let first: Words = std::array::from_fn(|lane| (lane as u64).wrapping_mul(0x1234_5678_9abc_def1));
        let second: Words = std::array::from_fn(|lane| !(lane as u64) << 7);
        for lanes in [Lanes::Baseline, widest_lanes()] {
            let mut hashes = [0; LANES];
            HashKey { lanes, ..key }.hash_lanes(&first, &second, &mut hashes);
            for (lane, hash) in hashes.into_iter().enumerate() {
                assert_eq!(hash, key.hash([first[lane], second[lane]]), "{lanes:?} {lane}");
            }
        }
    }
}
