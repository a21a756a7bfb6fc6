//! Turns in proportion to the weights, spread out.

use super::{Kind, Member, Request, Scheduler, next_with_weight};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Smooth weighted round robin, after nginx: whoever has waited longest for its weight is next (weights 5, 1, 1 give a b a a a c a). Members of
/// equal weight share their turns in order. The sequence is computed ahead when weights change, so that workers share nothing but one
/// ticket counter.
///
/// Any run of [`WeightedRoundRobin::length`] picks in a row has each member exactly its weight's share of times. The sequence is as long as
/// the sum of the weights over their greatest common divisor, at most about 65,536; longer ones are scaled down to that, each weight to
/// the nearest whole number from 1.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    sequence: ArcSwap<Vec<u16>>,
    // Relaxed: a ticket counter, it publishes nothing.
    turn: AtomicUsize,
}

/// Longest sequence, if no member needs more to have one turn.
const LONGEST: usize = 1 << 16;
/// Steps of the inner loop that a refresh may take, about 20 ms: pools of many different weights get shorter sequences.
const MOST_STEPS: usize = 1 << 24;

impl WeightedRoundRobin {
    /// Ready to pick among these members.
    pub fn new(members: &[Arc<Member>]) -> Self {
        Self { sequence: ArcSwap::from_pointee(smooth_sequence(weights(members))), turn: AtomicUsize::new(0) }
    }

    /// Picks after which the sequence begins again; 0 when no member has weight.
    pub fn length(&self) -> usize {
        self.sequence.load().len()
    }

    fn take_turn(&self, turn: usize, members: &[Arc<Member>]) -> Option<usize> {
        let sequence = self.sequence.load();
        let place = turn.checked_rem(sequence.len())?;
        next_with_weight(members, usize::from(sequence[place]))
    }
}

fn weights(members: &[Arc<Member>]) -> impl Iterator<Item = u32> {
    members.iter().map(|member| member.weight())
}

/// Members of equal share. They have the turns of all of them together, one after the other.
#[derive(Debug, Default)]
struct Group {
    share: i64,
    members: Vec<u16>,
    credit: i64,
    turns: usize,
}

fn group(shares: &[i64]) -> Vec<Group> {
    let mut groups: BTreeMap<i64, Group> = BTreeMap::new();
    for (index, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
        let group = groups.entry(*share).or_default();
        group.share += share;
        group.members.push(index as u16);
    }
    groups.into_values().collect()
}

/// Each step gives every group its share as credit; the richest has the turn and pays for all. Ties go to the lighter members, which
/// wait longer for their next one.
pub(super) fn smooth_sequence(weights: impl Iterator<Item = u32>) -> Vec<u16> {
    let weights: Vec<i64> = weights.map(i64::from).collect();
    let shares = shorten(&weights);
    let length: i64 = shares.iter().sum();
    let mut groups = group(&shares);
    let mut sequence = Vec::with_capacity(length as usize);
    for _ in 0..length {
        groups.iter_mut().for_each(|group| group.credit += group.share);
        // `max_by_key` would prefer the last of equal ones.
        if let Some(richest) = groups.iter_mut().rev().max_by_key(|group| group.credit) {
            richest.credit -= length;
            sequence.push(richest.members[richest.turns % richest.members.len()]);
            richest.turns += 1;
        }
    }
    sequence
}

/// The weights over their greatest common divisor, scaled down if the sequence would still be too long.
fn shorten(weights: &[i64]) -> Vec<i64> {
    let divisor = weights.iter().fold(0, |divisor, weight| greatest_common_divisor(divisor, *weight)).max(1);
    let sum: i64 = weights.iter().sum::<i64>() / divisor;
    let different = weights.iter().collect::<BTreeSet<_>>().len().max(1);
    let longest = (MOST_STEPS / different).min(LONGEST) as i64;
    let scale = |weight: &i64| match *weight / divisor {
        0 => 0,
        share if sum <= longest => share,
        share => ((share * longest + sum / 2) / sum).max(1),
    };
    weights.iter().map(scale).collect()
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

impl Scheduler for WeightedRoundRobin {
    fn kind(&self) -> Kind {
        Kind::WeightedRoundRobin
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.fetch_add(1, Relaxed), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.load(Relaxed), members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.sequence.store(Arc::new(smooth_sequence(weights(members))));
    }
}
