//! The members that have room, drawn in proportion to their weights however few they are: a tree of sums of fan-out 4.
//!
//! ```text
//!                [ 9 0 4 0 ]                the root: the sum of each node below
//!            ┌─────┘     └─────┐
//!      [ 5 0 0 4 ]       [ 0 1 0 3 ]        a leaf: the weight of each member that has room, 0 of others
//! ```
//!
//! A draw goes down one node a level, five for a thousand members: more of them, or wider nodes, take longer. Nothing changes when a
//! connection opens or closes, but where it is the last one that fits.

use super::hash::{below, mix};
use super::member::{Member, Standing, Watch};
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

/// What a member that has room weighs.
pub(super) type Share = fn(Standing) -> u32;

const FAN_OUT: usize = 4;
/// Draws that may meet a change on its way up before the leaves are asked.
const TRIES: usize = 4;

/// Sums wrap, for what a member takes off may arrive before what it has put on; at rest none has wrapped: there are at most 2¹⁵ members of
/// weights below 2¹⁶.
#[derive(Debug, Default)]
#[repr(align(16))]
struct Node([AtomicU32; FAN_OUT]);

/// Weights of the members that have room, and their sums.
#[derive(Debug)]
pub(super) struct Room {
    share: Share,
    /// The root first; the children of node i are 4 i + 1 to 4 i + 4.
    nodes: Box<[Node]>,
    /// The first leaf.
    leaves: usize,
    /// The sum of the root.
    all: CachePadded<AtomicU32>,
}

impl Room {
    /// A tree that follows these members for as long as somebody holds it.
    pub(super) fn new(share: Share, members: &[Arc<Member>]) -> Arc<Self> {
        let (mut leaves, mut span) = (0, FAN_OUT);
        while span < members.len() {
            leaves = leaves * FAN_OUT + 1;
            span *= FAN_OUT;
        }
        let count = leaves + members.len().div_ceil(FAN_OUT).max(1);
        let room =
            Arc::new(Self { share, nodes: (0..count).map(|_| Node::default()).collect(), leaves, all: CachePadded::default() });
        for (index, member) in members.iter().enumerate() {
            let weak = Arc::downgrade(&room);
            member.watch(weak, index);
        }
        room
    }

    /// The member for 64 random bits, each one with room as often as its share says; `None`: nobody has room.
    pub(super) fn draw(&self, bits: u64) -> Option<usize> {
        let mut bits = bits;
        for _ in 0..TRIES {
            match self.descend(bits) {
                Descent::Found(index) => return Some(index),
                Descent::Empty => return None,
                Descent::Moved => bits = mix(bits),
            }
        }
        self.scan()
    }

    fn descend(&self, bits: u64) -> Descent {
        // Relaxed, here and below: a search takes sums as hints and checks nothing by them.
        let all = self.all.load(Relaxed);
        if all == 0 {
            return Descent::Empty;
        }
        let (mut node, mut rest) = (0, below(bits, u64::from(all)) as u32);
        while let Some(at) = self.nodes.get(node) {
            let (slot, before) = at.find(rest);
            if node >= self.leaves {
                let index = (node - self.leaves) * FAN_OUT + slot;
                return if at.0[slot].load(Relaxed) > 0 { Descent::Found(index) } else { Descent::Moved };
            }
            (node, rest) = (node * FAN_OUT + 1 + slot, rest.wrapping_sub(before));
        }
        Descent::Moved
    }

    /// The answer of the leaves alone.
    #[cold]
    fn scan(&self) -> Option<usize> {
        let shares = self.nodes[self.leaves..].iter().flat_map(|node| node.0.iter());
        shares.enumerate().find(|(_, share)| share.load(Relaxed) > 0).map(|(index, _)| index)
    }
}

/// How a way down ended.
enum Descent {
    Found(usize),
    /// Nobody has room.
    Empty,
    /// The sums changed under the search.
    Moved,
}

impl Node {
    /// The slot in which `rest` ends, counted through them, and the sum of those before it. Without a branch: which one it is cannot be predicted.
    fn find(&self, rest: u32) -> (usize, u32) {
        let [a, b, c, _] = &self.0;
        let first = a.load(Relaxed);
        let second = first.wrapping_add(b.load(Relaxed));
        let third = second.wrapping_add(c.load(Relaxed));
        let (past_first, past_second, past_third) = (rest >= first, rest >= second, rest >= third);
        let slot = usize::from(past_first) + usize::from(past_second) + usize::from(past_third);
        let before = if past_first { first } else { 0 };
        let before = if past_second { second } else { before };
        (slot, if past_third { third } else { before })
    }
}

impl Watch for Room {
    fn changed(&self, index: usize, member: &Member) {
        let share = || match member.standing() {
            Standing { weight: 0, .. } => 0,
            standing => (self.share)(standing),
        };
        let leaf = self.leaves + index / FAN_OUT;
        let own = &self.nodes[leaf].0[index % FAN_OUT];
        // As `Load` does: the look comes after the last store of this thread in the order of all threads, and each change of a leaf is added by
        // whoever made it. Hence at rest every sum is what it should be.
        loop {
            let now = share();
            if own.load(SeqCst) == now {
                return;
            }
            let difference = now.wrapping_sub(own.swap(now, SeqCst));
            let mut node = leaf;
            while node > 0 {
                let parent = (node - 1) / FAN_OUT;
                self.nodes[parent].0[(node - 1) % FAN_OUT].fetch_add(difference, Relaxed);
                node = parent;
            }
            self.all.fetch_add(difference, Relaxed);
        }
    }
}

#[cfg(test)]
impl Room {
    /// Whether every sum is that of the node below it.
    pub(super) fn is_right(&self) -> bool {
        let sum = |node: &Node| node.0.iter().map(|part| i64::from(part.load(SeqCst))).sum::<i64>();
        let slot = |node: usize| i64::from(self.nodes[(node - 1) / FAN_OUT].0[(node - 1) % FAN_OUT].load(SeqCst));
        i64::from(self.all.load(SeqCst)) == sum(&self.nodes[0])
            && (1..self.nodes.len()).all(|node| slot(node) == sum(&self.nodes[node]))
    }
}
