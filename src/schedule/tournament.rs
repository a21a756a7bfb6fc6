//! Who of many has the least key, known at every moment: a tournament tree of fan-out 8, a node a cache line.
//!
//! ```text
//!                        [ 3 . . . . . . . ]             the root: the least of each node below
//!              ┌───────────┘ └──────────┐
//!      [ 5 3 9 4 . . . . ]      [ 7 3 8 . . . . . ]      a leaf: the key of each member
//! ```
//!
//! Whoever changes what a key follows from calls [`Watch::changed`], which writes the key and the least ones above it, as far up as they
//! differ. A thousand members are four levels; most changes end at the first or second.

use super::member::{Member, Standing, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// The key by which a member of non-zero weight is ranked, given its index; below [`NEVER`].
pub(super) type Rank = fn(usize, Standing) -> u64;

/// The key of who may not be chosen.
const NEVER: u64 = u64::MAX;
const FAN_OUT: usize = 8;
/// log2 of the fan-out.
const SHIFT: u32 = 3;
/// Descents that may meet a change on its way up before the leaves are asked.
const TRIES: usize = 4;

#[derive(Debug)]
#[repr(align(64))]
struct Node([AtomicU64; FAN_OUT]);

/// Keys of members, and the least of them.
#[derive(Debug)]
pub(super) struct Tournament {
    rank: Rank,
    /// The root first; the children of node i are 8 i + 1 to 8 i + 8.
    nodes: Box<[Node]>,
    /// The first leaf.
    leaves: usize,
    /// log2 of the members below one slot of the root.
    top: u32,
}

impl Tournament {
    /// A tree that follows these members for as long as somebody holds it.
    pub(super) fn new(rank: Rank, members: &[Arc<Member>]) -> Arc<Self> {
        let (mut leaves, mut top) = (0, 0);
        while FAN_OUT << top < members.len() {
            leaves = leaves * FAN_OUT + 1;
            top += SHIFT;
        }
        let count = leaves + members.len().div_ceil(FAN_OUT).max(1);
        let nodes = (0..count).map(|_| Node::default()).collect();
        let tree = Arc::new(Self { rank, nodes, leaves, top });
        for (index, member) in members.iter().enumerate() {
            let weak = Arc::downgrade(&tree);
            member.watch(weak, index);
        }
        tree
    }

    /// The first member at or after `from`, going round, that has the least key; `None`: nobody may be chosen.
    pub(super) fn least(&self, from: usize) -> Option<usize> {
        for _ in 0..TRIES {
            match self.nodes[0].least() {
                NEVER => return None,
                least => {
                    if let Some(found) = self.first_with(least, from) {
                        return Some(found);
                    }
                }
            }
        }
        self.scan()
    }

    /// `None` if keys moved away under the search.
    fn first_with(&self, least: u64, from: usize) -> Option<usize> {
        let root = &self.nodes[0];
        // Down the path to `from`. Where it leaves the least, or ends, the search goes on at the last place that has it further on.
        let (mut node, mut slots, mut shift) = (0, root.slots_with(least), self.top);
        let mut next = (node, slots, shift);
        loop {
            let slot = from >> shift & (FAN_OUT - 1);
            let behind = slots & (!1 << slot);
            if behind != 0 {
                next = (node, behind, shift);
            }
            if slots >> slot & 1 == 0 {
                break;
            }
            if shift == 0 {
                return Some(self.member(node, slot));
            }
            (node, shift) = (child(node, slot), shift - SHIFT);
            slots = self.nodes[node].slots_with(least);
        }
        self.descend(least, next)
    }

    /// The first member below the first of these slots of a node, going down where `least` is.
    fn descend(&self, mut least: u64, (mut node, mut slots, mut shift): (usize, u32, u32)) -> Option<usize> {
        loop {
            if slots == 0 {
                // A change is on its way up from here: what is the least of this node now is as good.
                least = self.nodes[node].least();
                slots = self.nodes[node].slots_with(least);
            }
            if least == NEVER {
                return None;
            }
            // A slot that changed since it was read may leave no bit: then any slot is as good, and its keys are looked at below.
            let slot = slots.trailing_zeros() as usize % FAN_OUT;
            if shift == 0 {
                return Some(self.member(node, slot));
            }
            (node, shift) = (child(node, slot), shift - SHIFT);
            slots = self.nodes.get(node)?.slots_with(least);
        }
    }

    /// The answer of the leaves alone.
    #[cold]
    fn scan(&self) -> Option<usize> {
        let keys = self.nodes[self.leaves..].iter().flat_map(|node| node.0.iter()).map(|key| key.load(Relaxed));
        keys.enumerate().filter(|(_, key)| *key != NEVER).min_by_key(|(_, key)| *key).map(|(index, _)| index)
    }

    fn member(&self, leaf: usize, slot: usize) -> usize {
        (leaf - self.leaves) * FAN_OUT + slot
    }

    /// The keys of all members, one after the other.
    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<u64> {
        self.nodes[self.leaves..].iter().flat_map(|node| node.0.iter().map(|key| key.load(SeqCst))).collect()
    }

    /// The slots of all nodes above the leaves.
    #[cfg(test)]
    pub(super) fn inner_keys(&self) -> Vec<u64> {
        self.nodes[..self.leaves].iter().flat_map(|node| node.0.iter().map(|key| key.load(SeqCst))).collect()
    }
}

fn child(node: usize, slot: usize) -> usize {
    node * FAN_OUT + 1 + slot
}

impl Watch for Tournament {
    fn changed(&self, index: usize, member: &Member) {
        let key = || match member.standing() {
            Standing { weight: 0, .. } => NEVER,
            standing => (self.rank)(index, standing),
        };
        let mut node = self.leaves + index / FAN_OUT;
        let mut differs = settle(&self.nodes[node].0[index % FAN_OUT], key);
        while differs && node > 0 {
            let parent = (node - 1) / FAN_OUT;
            let below = &self.nodes[node];
            differs = settle(&self.nodes[parent].0[(node - 1) % FAN_OUT], || below.settled_least());
            node = parent;
        }
    }
}

/// Makes `slot` what follows from other words. Returns whether it was something else; then the caller has to settle what follows from it.
///
/// Several threads may do so at once: after its store each looks again at what the slot follows from, so that a value that was out of
/// date when it was stored is replaced by whoever stored it. SeqCst, here and where those words are written and read: the look must
/// come after the store in the one order that all threads agree on, or the last two to store could each miss what the other one saw.
/// Hence at rest every slot is what it should be.
fn settle(slot: &AtomicU64, truth: impl Fn() -> u64) -> bool {
    let mut differed = false;
    loop {
        let now = truth();
        if slot.load(SeqCst) == now {
            return differed;
        }
        slot.store(now, SeqCst);
        differed = true;
    }
}

impl Default for Node {
    fn default() -> Self {
        Self([const { AtomicU64::new(NEVER) }; FAN_OUT])
    }
}

impl Node {
    fn settled_least(&self) -> u64 {
        self.0.iter().fold(NEVER, |least, key| least.min(key.load(SeqCst)))
    }

    // Relaxed, these two: a search takes keys as hints and checks nothing by them.

    fn least(&self) -> u64 {
        self.0.iter().fold(NEVER, |least, key| least.min(key.load(Relaxed)))
    }

    /// Which slots hold this key, as bits.
    fn slots_with(&self, wanted: u64) -> u32 {
        self.0.iter().enumerate().fold(0, |slots, (slot, key)| slots | u32::from(key.load(Relaxed) == wanted) << slot)
    }
}
