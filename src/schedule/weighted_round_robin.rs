//! Turns in proportion to the weights, spread out.

use super::{Member, Request, Scheduler, next_with_weight};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Smooth weighted round robin: the sequence that nginx makes (weights 5, 1, 1 give a a b a c a a), computed ahead when weights change,
/// so that workers share nothing but one ticket counter.
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
/// Steps of the inner loop that a refresh may take, about 20 ms: large pools get shorter sequences.
const MOST_STEPS: usize = 1 << 24;

impl WeightedRoundRobin {
    /// Ready to pick among these members.
    pub fn new(members: &[Arc<Member>]) -> Self {
        Self { sequence: ArcSwap::from_pointee(smooth_sequence(members)), turn: AtomicUsize::new(0) }
    }

    /// Picks after which the sequence begins again; 0 when no member has weight.
    pub fn length(&self) -> usize {
        self.sequence.load().len()
    }

    fn take_turn(&self, turn: usize, members: &[Arc<Member>]) -> Option<usize> {
        let sequence = self.sequence.load();
        let planned = turn.checked_rem(sequence.len()).map_or(0, |place| usize::from(sequence[place]));
        next_with_weight(members, planned)
    }
}

/// Each step gives every member its weight as credit; the richest has the turn and pays for all. Ties go to the first.
fn smooth_sequence(members: &[Arc<Member>]) -> Vec<u16> {
    let weights: Vec<i64> = members.iter().map(|member| i64::from(member.weight())).collect();
    let shares = shorten(&weights);
    let length: i64 = shares.iter().sum();
    let mut credits = vec![0i64; shares.len()];
    let mut sequence = Vec::with_capacity(length as usize);
    for _ in 0..length {
        let mut richest = None;
        for (index, (credit, share)) in credits.iter_mut().zip(&shares).enumerate() {
            *credit += share;
            if *share > 0 && richest.is_none_or(|(_, most)| *credit > most) {
                richest = Some((index, *credit));
            }
        }
        if let Some((index, _)) = richest {
            credits[index] -= length;
            sequence.push(index as u16);
        }
    }
    sequence
}

/// The weights over their greatest common divisor, scaled down if the sequence would still be too long.
fn shorten(weights: &[i64]) -> Vec<i64> {
    let divisor = weights.iter().fold(0, |divisor, weight| greatest_common_divisor(divisor, *weight)).max(1);
    let sum: i64 = weights.iter().sum::<i64>() / divisor;
    let members = weights.len().max(1);
    let longest = (MOST_STEPS / members).clamp(members, LONGEST) as i64;
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
    fn name(&self) -> &'static str {
        super::Kind::WeightedRoundRobin.name()
    }

    fn pick(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.fetch_add(1, Relaxed), members)
    }

    fn preview(&self, _request: &Request, members: &[Arc<Member>]) -> Option<usize> {
        self.take_turn(self.turn.load(Relaxed), members)
    }

    fn refresh(&self, members: &[Arc<Member>]) {
        self.sequence.store(Arc::new(smooth_sequence(members)));
    }
}
