//! Which members a client address prefers, in which order.

use super::alias::Alias;
use super::hash::{below, hash_address, mix};
use super::{Member, next_with_weight, places};
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::Arc;

/// A Maglev table over all members with a configured weight, whatever their health, asked again with another hash of the same address
/// until somebody can be chosen. So a member that goes down moves its own clients, evenly over the others, and nobody else's; they
/// return when it does. A change of weights, or of the list, moves as few as [`places`] can.
#[derive(Debug)]
pub(super) struct Affinity {
    size: u32,
    built: ArcSwap<Built>,
}

#[derive(Debug)]
struct Built {
    /// What `places` was made of.
    weights: Vec<u32>,
    places: Arc<Vec<u16>>,
    /// Those that may be chosen, for clients that found nobody: when most members are down.
    rest: Alias,
}

/// Members that a client asks before it takes the rest as it comes. With half of them down, one client in 65,536 finds none.
const PREFERENCES: usize = 16;
/// Those that have weight and room but do not suit, after which nobody else is asked.
const UNFIT: u32 = 3;
/// Fixed: nodes with another seed would send a client elsewhere.
const CLIENT_SEED: u64 = 0x7765_6972_2d73_7263; // "weir-src"

/// Whom a client prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preferred {
    /// The first one that suits.
    Suits(usize),
    /// None of the first few does; the first of them.
    NoneSuits(usize),
    /// None of those that it asks has weight.
    Nobody,
}

impl Affinity {
    pub(super) fn new(size: u32, members: &[Arc<Member>]) -> Self {
        let (weights, places) = (configured(members), Arc::new(places::fill(size, members, Member::configured_weight)));
        Self { size, built: ArcSwap::from_pointee(Built { weights, places, rest: rest(members) }) }
    }

    /// Weights or eligibility changed.
    pub(super) fn refresh(&self, members: &[Arc<Member>]) {
        let (before, weights) = (self.built.load(), configured(members));
        let places = match weights == before.weights {
            true => Arc::clone(&before.places),
            false => Arc::new(places::fill(self.size, members, Member::configured_weight)),
        };
        self.built.store(Arc::new(Built { weights, places, rest: rest(members) }));
    }

    /// Who comes first in the client's order of those that have weight, room, and that `suit`; given up at the `patience`-th that is full.
    pub(super) fn first(
        &self,
        client: IpAddr,
        members: &[Arc<Member>],
        patience: u32,
        suits: impl Fn(&Member) -> bool,
    ) -> Preferred {
        let built = self.built.load();
        let (mut home, mut full, mut unfit) = (None, 0, 0);
        for index in preferences(hash_address(CLIENT_SEED, client), &built.places) {
            let Some(member) = members.get(index).filter(|member| member.weight() > 0) else { continue };
            match member.has_room() {
                true if suits(member) => return Preferred::Suits(index),
                true => unfit += 1,
                false => full += 1,
            }
            home = home.or(Some(index));
            if full >= patience || unfit >= UNFIT {
                break;
            }
        }
        home.map_or(Preferred::Nobody, Preferred::NoneSuits)
    }

    /// The member of a client that [`Affinity::first`] found none for.
    #[cold]
    pub(super) fn stand_in(&self, client: IpAddr, members: &[Arc<Member>]) -> Option<usize> {
        let drawn = self.built.load().rest.draw(hash_address(CLIENT_SEED, client));
        next_with_weight(members, drawn.unwrap_or(0))
    }
}

fn preferences(client: u64, places: &[u16]) -> impl Iterator<Item = usize> {
    let hashes = std::iter::successors(Some(client), |hash| Some(mix(*hash)));
    hashes
        .take(PREFERENCES)
        .filter_map(|hash| places.get(below(hash, places.len() as u64) as usize).map(|member| usize::from(*member)))
}

fn configured(members: &[Arc<Member>]) -> Vec<u32> {
    members.iter().map(|member| member.configured_weight()).collect()
}

/// In the order of addresses: every node draws the same.
fn rest(members: &[Arc<Member>]) -> Alias {
    let mut order: Vec<u16> = (0..members.len()).map(|index| index as u16).collect();
    order.sort_unstable_by_key(|index| members[usize::from(*index)].address);
    Alias::new(order.into_iter().map(|index| (index, members[usize::from(index)].weight())))
}
