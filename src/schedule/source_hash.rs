//! One client address, one member: by weighted rendezvous.

use super::hash::{hash_address, hash_socket, mix};
use super::{Member, Request, Scheduler};
use std::sync::Arc;

/// Every connection of a client address goes to the same member, whatever its port and whichever service or node is asked.
///
/// Each member with weight draws a number that only the client's and the member's address decide, and the best draw wins (weighted
/// rendezvous hashing: Schindelhauer and Schomaker, SPAA 2005). When a member leaves, its clients move and no others; when one
/// comes, it takes its share evenly from all. There is no table: changes need no [`Scheduler::refresh`], and a pick costs one draw a
/// member, which is meant for pools of up to some hundred; [`super::Maglev`] is for more.
#[derive(Debug, Default)]
pub struct SourceHash(());

/// Fixed: nodes with another seed would send a client elsewhere.
const CLIENT_SEED: u64 = 0x7765_6972_2d73_7263; // "weir-src"
const MEMBER_SEED: u64 = 0x7765_6972_2d6d_656d; // "weir-mem"

/// An exponential draw with the rate `weight`: the least of such draws is that of member i with probability weight i / Σ weights.
fn draw(client: u64, member: &Member, weight: u32) -> f64 {
    let bits = mix(client ^ hash_socket(MEMBER_SEED, member.address)) >> 11;
    // 53 bits and a half: never 0, never 1, so the logarithm is finite and below 0.
    let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln() / f64::from(weight)
}

fn choose(request: &Request, members: &[Arc<Member>]) -> Option<usize> {
    let client = hash_address(CLIENT_SEED, request.client);
    let draws = members.iter().enumerate().filter_map(|(index, member)| {
        let weight = member.weight();
        (weight > 0).then(|| (draw(client, member, weight), index))
    });
    draws.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, index)| index)
}

impl Scheduler for SourceHash {
    fn name(&self) -> &'static str {
        super::Kind::SourceHash.name()
    }

    fn pick(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        choose(request, members)
    }

    fn preview(&self, request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        choose(request, members)
    }

    fn refresh(&self, _members: &[Arc<Member>]) {}
}
