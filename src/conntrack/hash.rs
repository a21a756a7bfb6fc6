//! SipHash-1-3 of whole words under a key drawn at start.
//!
//! Tuples come from attackers, so the hash is keyed and strong enough that nobody outside can aim at one bucket; the kernel's
//! conntrack uses SipHash for the same reason. The tuples of a burst are hashed side by side in vectors: the widest the machine has,
//! chosen at run time, so that one binary runs on any x86-64.

#![allow(unsafe_code)] // calls of functions compiled for wider vectors, after asking the CPU; loads and stores of such vectors

use std::hash::{BuildHasher, RandomState};

/// The secret of one table and the way to hash a burst on this machine.
#[derive(Debug, Clone, Copy)]
pub struct HashKey {
    key: [u64; 2],
    lanes: Lanes,
}

/// Vectors that tuples are hashed in, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lanes {
    /// None: one tuple after the other, by the instructions of every x86-64, or of another architecture.
    Baseline,
    /// Of four words.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Of eight words.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Lanes {
    /// Those that this machine has, the narrowest first.
    pub fn here() -> impl Iterator<Item = Self> {
        let wider: &[(bool, Self)] = &[
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx2"), Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx512f"), Self::Avx512),
        ];
        let wider: Vec<_> = wider.iter().filter(|(has, _)| *has).map(|(_, lanes)| *lanes).collect();
        std::iter::once(Self::Baseline).chain(wider)
    }
}

/// Tuples that are hashed side by side; each line of a round is one instruction over all of them with AVX-512.
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
        Self { key, lanes: Lanes::here().last().unwrap_or(Lanes::Baseline) }
    }

    /// The same hashes, in vectors no wider than that: for a benchmark of the widths.
    #[must_use]
    pub fn at_most(self, widest: Lanes) -> Self {
        let lanes = Lanes::here().take_while(|lanes| *lanes <= widest).last().unwrap_or(Lanes::Baseline);
        Self { lanes, ..self }
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

    /// [`HashKey::hash`] of the `N` words of each of [`LANES`] tuples.
    #[inline(always)]
    pub fn hash_lanes<const N: usize>(&self, words: [&Words; N], hashes: &mut Words) {
        match self.lanes {
            Lanes::Baseline => hash_lanes(self, words, hashes),
            // SAFETY: `lanes` is one of `Lanes::here`, so the CPU has AVX2.
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx2 => unsafe { avx2::hash_lanes(self, words, hashes) },
            // SAFETY: `lanes` is one of `Lanes::here`, so the CPU has AVX-512F.
            #[cfg(target_arch = "x86_64")]
            Lanes::Avx512 => unsafe { avx512::hash_lanes(self, words, hashes) },
        }
    }
}

/// One after the other: without vectors of these words nothing is gained by doing it side by side.
fn hash_lanes<const N: usize>(key: &HashKey, words: [&Words; N], hashes: &mut Words) {
    for (lane, hash) in hashes.iter_mut().enumerate() {
        *hash = key.hash(words.map(|word| word[lane]));
    }
}

/// The body of a function that hashes [`LANES`] tuples in vectors. Written out, for the compiler finds the vectors in a loop over
/// lanes only with AVX-512, and not always. Where it is used there are `splat`, `load`, `store`, `add`, `xor` and `rotate` of its vectors.
macro_rules! hash_vectors {
    ($key:expr, $words:expr, $hashes:expr) => {{
        let [k0, k1, k2, k3] = $key.start();
        let (mut v0, mut v1, mut v2, mut v3) = (splat(k0), splat(k1), splat(k2), splat(k3));
        macro_rules! round {
            () => {
                v0 = add(v0, v1);
                v1 = xor(rotate::<13, 51>(v1), v0);
                v0 = rotate::<32, 32>(v0);
                v2 = add(v2, v3);
                v3 = xor(rotate::<16, 48>(v3), v2);
                v0 = add(v0, v3);
                v3 = xor(rotate::<21, 43>(v3), v0);
                v2 = add(v2, v1);
                v1 = xor(rotate::<17, 47>(v1), v2);
                v2 = rotate::<32, 32>(v2);
            };
        }
        macro_rules! take {
            ($word:expr) => {
                let word = $word;
                v3 = xor(v3, word);
                round!();
                v0 = xor(v0, word);
            };
        }
        for word in &$words {
            take!(load(word));
        }
        take!(splat(($words.len() as u64 * 8) << 56));
        v2 = xor(v2, splat(0xff));
        round!();
        round!();
        round!();
        store($hashes, xor(xor(v0, v1), xor(v2, v3)));
    }};
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{HashKey, Words};
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi64x, _mm256_shuffle_epi32,
        _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
    };

    /// Two vectors of four words.
    type Vectors = [__m256i; 2];

    #[target_feature(enable = "avx2")]
    pub(super) fn hash_lanes<const N: usize>(key: &HashKey, words: [&Words; N], hashes: &mut Words) {
        hash_vectors!(key, words, hashes);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn splat(word: u64) -> Vectors {
        [_mm256_set1_epi64x(word.cast_signed()); 2]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(words: &Words) -> Vectors {
        let [low, high] = words.as_chunks::<4>().0 else { unreachable!("eight words") };
        // SAFETY: four words each, which need not be aligned.
        unsafe { [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())] }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(words: &mut Words, [first, second]: Vectors) {
        let [low, high] = words.as_chunks_mut::<4>().0 else { unreachable!("eight words") };
        // SAFETY: four words each, which need not be aligned.
        unsafe {
            _mm256_storeu_si256(low.as_mut_ptr().cast(), first);
            _mm256_storeu_si256(high.as_mut_ptr().cast(), second);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(a: Vectors, b: Vectors) -> Vectors {
        [_mm256_add_epi64(a[0], b[0]), _mm256_add_epi64(a[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn xor(a: Vectors, b: Vectors) -> Vectors {
        [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
    }

    /// To the left; `RIGHT` is 64 less `LEFT`. By half a word it is one instruction.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(vectors: Vectors) -> Vectors {
        let [a, b] = vectors;
        if LEFT == 32 {
            return [_mm256_shuffle_epi32::<0b10_11_00_01>(a), _mm256_shuffle_epi32::<0b10_11_00_01>(b)];
        }
        [
            _mm256_or_si256(_mm256_slli_epi64::<LEFT>(a), _mm256_srli_epi64::<RIGHT>(a)),
            _mm256_or_si256(_mm256_slli_epi64::<LEFT>(b), _mm256_srli_epi64::<RIGHT>(b)),
        ]
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{HashKey, Words};
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_loadu_si512, _mm512_rol_epi64, _mm512_set1_epi64, _mm512_storeu_si512, _mm512_xor_si512,
    };

    #[target_feature(enable = "avx512f")]
    pub(super) fn hash_lanes<const N: usize>(key: &HashKey, words: [&Words; N], hashes: &mut Words) {
        hash_vectors!(key, words, hashes);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn splat(word: u64) -> __m512i {
        _mm512_set1_epi64(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(words: &Words) -> __m512i {
        // SAFETY: eight words, which need not be aligned.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(words: &mut Words, vector: __m512i) {
        // SAFETY: eight words, which need not be aligned.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi64(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn xor(a: __m512i, b: __m512i) -> __m512i {
        _mm512_xor_si512(a, b)
    }

    /// To the left.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(vector: __m512i) -> __m512i {
        _mm512_rol_epi64::<LEFT>(vector)
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
        let words: [Words; 5] = std::array::from_fn(|word| {
            std::array::from_fn(|lane| (word as u64 ^ !(lane as u64) << 7).wrapping_mul(0x1234_5678_9abc_def1))
        });
        let [first, second, ..] = &words;
        for lanes in Lanes::here() {
            let (mut of_two, mut of_five) = ([0; LANES], [0; LANES]);
            assert_eq!(key.at_most(lanes).lanes, lanes);
            key.at_most(lanes).hash_lanes([first, second], &mut of_two);
            key.at_most(lanes).hash_lanes(words.each_ref(), &mut of_five);
            for lane in 0..LANES {
                assert_eq!(of_two[lane], key.hash([first[lane], second[lane]]), "{lanes:?} {lane}");
                assert_eq!(of_five[lane], key.hash(words.map(|word| word[lane])), "{lanes:?} {lane}");
            }
        }
    }
}
