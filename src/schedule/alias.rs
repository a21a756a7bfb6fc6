//! Drawing a member with a probability in proportion to its weight, in one step whatever their number: the alias method (Walker 1977,
//! built after Vose, IEEE Transactions on Software Engineering 17, 1991).

use super::hash::below;

/// A slot a member with weight, all equally likely. A slot is its own member's up to a threshold, above it that of one that has more than
/// its share.
#[derive(Debug, Default)]
pub(super) struct Alias(Vec<Slot>);

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Of 2³² draws of this slot, so many are `own`.
    threshold: u32,
    own: u16,
    other: u16,
}

impl Alias {
    /// From members and their weights; those without weight are left out.
    pub(super) fn new(weights: impl Iterator<Item = (u16, u32)>) -> Self {
        let weights: Vec<(u16, u64)> =
            weights.filter(|(_, weight)| *weight > 0).map(|(at, weight)| (at, u64::from(weight))).collect();
        let sum: u64 = weights.iter().map(|(_, weight)| weight).sum();
        // What each has to give away, in units of which a slot holds `sum`: all whole numbers, so that nothing is lost.
        let due = weights.iter().map(|(member, weight)| (*member, weight * weights.len() as u64));
        let (mut short, mut ample): (Vec<_>, Vec<_>) = due.partition(|(_, due)| *due < sum);
        let mut slots = Vec::with_capacity(weights.len());
        while let Some((own, due)) = short.pop() {
            // Somebody has more than the average while somebody has less.
            let Some((other, rest)) = ample.last_mut() else { break };
            slots.push(Slot { threshold: ((u128::from(due) << 32) / u128::from(sum)) as u32, own, other: *other });
            *rest -= sum - due;
            if *rest < sum {
                short.extend(ample.pop());
            }
        }
        slots.extend(ample.into_iter().map(|(own, _)| Slot { threshold: 0, own, other: own }));
        Self(slots)
    }

    /// The member for 64 random bits; `None`: nobody has weight.
    pub(super) fn draw(&self, bits: u64) -> Option<usize> {
        let slot = self.0.get(below(bits & !0xffff_ffff, self.0.len() as u64) as usize)?;
        Some(usize::from(if (bits as u32) < slot.threshold { slot.own } else { slot.other }))
    }
}
