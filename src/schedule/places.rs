//! The lookup table of Maglev (Eisenbud et al., NSDI 2016, section 3.4), with weights.
//!
//! It depends on addresses, weights and constants alone, not on the order of members. Members have places in proportion to their weights,
//! within about one place. When a member leaves, its places go to the others, and few other places change hands.

use super::Member;
use super::hash::{below, hash_socket};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Fixed: nodes with other seeds would disagree.
const OFFSET_SEED: u64 = 0x7765_6972_2d6f_6666; // "weir-off"
const SKIP_SEED: u64 = 0x7765_6972_2d73_6b70; // "weir-skp"

/// A member on its walk over the table: place, place + skip, ... (mod size), each visited once since the size is prime.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    address: SocketAddr,
    member: u16,
    weight: u64,
    taken: u64,
    place: u64,
    skip: u64,
}

impl Walk {
    fn start(member: u16, address: SocketAddr, weight: u32, size: u64) -> Self {
        let place = below(hash_socket(OFFSET_SEED, address), size);
        let skip = below(hash_socket(SKIP_SEED, address), size - 1) + 1;
        Self { address, member, weight: u64::from(weight), taken: 0, place, skip }
    }
}

/// Whose turn is earlier: the one with the smaller (2 taken + 1) / weight. These are Webster's divisors: after any number of turns each
/// has its share within about one. With equal weights that is the paper's round over all members. Ties go by address.
impl Ord for Walk {
    fn cmp(&self, other: &Self) -> Ordering {
        let turn = (2 * self.taken + 1) * other.weight;
        turn.cmp(&((2 * other.taken + 1) * self.weight)).then_with(|| self.address.cmp(&other.address))
    }
}

impl PartialOrd for Walk {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The member of every place; empty when no member has weight. `size` is a prime, `weight` says which weight of a member counts.
pub(super) fn fill(size: u32, members: &[Arc<Member>], weight: impl Fn(&Member) -> u32) -> Vec<u16> {
    let walkers = members.iter().enumerate().filter_map(|(index, member)| {
        let weight = weight(member);
        (weight > 0).then(|| Reverse(Walk::start(index as u16, member.address, weight, u64::from(size))))
    });
    let mut turns: BinaryHeap<Reverse<Walk>> = walkers.collect();
    if turns.is_empty() {
        return Vec::new();
    }
    let mut table = vec![0; size as usize];
    let mut places = Places::new(size);
    for _ in 0..size {
        let Some(mut first) = turns.peek_mut() else { break };
        let walk = &mut first.0;
        while !places.take(walk.place) {
            walk.place += walk.skip;
            // Both are below the size.
            walk.place -= if walk.place >= u64::from(size) { u64::from(size) } else { 0 };
        }
        table[walk.place as usize] = walk.member;
        walk.taken += 1;
    }
    table
}

/// Which places are taken, a bit each: walks meet a million taken ones, and these lines stay in the nearest cache.
struct Places(Vec<u64>);

impl Places {
    fn new(size: u32) -> Self {
        Self(vec![0; size.div_ceil(u64::BITS) as usize])
    }

    /// Takes a place, if it is free.
    fn take(&mut self, place: u64) -> bool {
        let (word, bit) = (&mut self.0[(place / 64) as usize], 1 << (place % 64));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }
}
