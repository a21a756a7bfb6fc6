//! Consistent hashing by a lookup table, after Maglev (Eisenbud et al., NSDI 2016, section 3.4), with weights.

use super::hash::{below, hash_socket};
use super::{Kind, Member, Request, Scheduler, next_with_weight, places};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A client's address and port decide the member, the same one on every node that has the same members and weights, in whatever order
/// their configs name them: the table depends on addresses, weights and constants alone.
///
/// Members have entries in proportion to their weights, within about one entry. When a member leaves, its clients move, and with them
/// few others: below 1 % when the table has at least a hundred entries a member.
#[derive(Debug)]
pub struct Maglev {
    size: u32,
    /// Index into the members by place; empty when no member has weight.
    table: ArcSwap<Vec<u16>>,
}

/// Fixed: nodes with other seeds would disagree.
const CLIENT_SEED: u64 = 0x7765_6972_2d6d_676c; // "weir-mgl"

/// A table size that [`Maglev`] and its relatives cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{size} is not a prime from {} to {}; near it: {below} and {above}", Maglev::LEAST_TABLE_SIZE, Maglev::MOST_TABLE_SIZE)]
pub struct BadTableSize {
    size: i64,
    below: u32,
    above: u32,
}

impl Maglev {
    /// The size unless set: a hundred entries each for 655 members.
    pub const DEFAULT_TABLE_SIZE: u32 = 65_537;
    /// The smallest size that may be set.
    pub const LEAST_TABLE_SIZE: u32 = 251;
    /// The largest size that may be set: 10 MB and about a second to build.
    pub const MOST_TABLE_SIZE: u32 = 5_000_011;

    /// A size that may be set: a prime, so that each member's walk visits every place.
    pub fn check_table_size(size: i64) -> Result<u32, BadTableSize> {
        let range = i64::from(Self::LEAST_TABLE_SIZE)..=i64::from(Self::MOST_TABLE_SIZE);
        let near = size.clamp(*range.start(), *range.end()) as u32;
        if range.contains(&size) && is_prime(near) {
            return Ok(near);
        }
        let below = (Self::LEAST_TABLE_SIZE..=near).rev().find(|size| is_prime(*size)).unwrap_or(Self::LEAST_TABLE_SIZE);
        let above = (near..=Self::MOST_TABLE_SIZE).find(|size| is_prime(*size)).unwrap_or(Self::MOST_TABLE_SIZE);
        Err(BadTableSize { size, below, above })
    }

    /// Ready to pick among these members. `size` has passed [`Maglev::check_table_size`].
    pub fn new(size: u32, members: &[Arc<Member>]) -> Self {
        Self { size, table: ArcSwap::from_pointee(places::fill(size, members, Member::weight)) }
    }

    fn choose(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        let table = self.table.load();
        let hash = hash_socket(CLIENT_SEED, SocketAddr::new(request.client, request.client_port));
        let place = below(hash, table.len() as u64) as usize;
        next_with_weight(members, usize::from(*table.get(place)?))
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

impl Scheduler for Maglev {
    fn kind(&self) -> Kind {
        Kind::Maglev
    }

    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(request, members)
    }

    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.choose(request, members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.table.store(Arc::new(places::fill(self.size, members, Member::weight)));
    }
}

#[cfg(test)]
impl Maglev {
    /// The member of every place.
    pub(super) fn places(&self) -> Vec<u16> {
        self.table.load().to_vec()
    }

    /// Places by member.
    pub(super) fn entries(&self, members: usize) -> Vec<u32> {
        let mut entries = vec![0; members];
        self.table.load().iter().for_each(|member| entries[usize::from(*member)] += 1);
        entries
    }
}
