//! Entries that are not in use: a stack of batches, linked through the entries themselves, and the entries never used yet.
//!
//! Workers take whole batches and hand out entries of them alone; the control thread gives batches back.

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::entry::Entry;
use super::family::Family;
use super::limbo::Limbo;
use crossbeam_utils::CachePadded;

/// Entries of a batch: enough that the shared words are touched rarely, few enough that what workers hoard does not matter.
pub(super) const BATCH: u32 = if cfg!(feature = "loom") { 1 } else { 64 };

/// The shared part.
#[derive(Debug)]
pub(super) struct FreeList {
    /// Count of changes (32) | number of the first entry of the first batch (32). The count keeps a head that was taken and put back
    /// meanwhile from looking unchanged.
    head: CachePadded<AtomicU64>,
    /// Entries from this number on were never used.
    fresh: CachePadded<AtomicU32>,
    /// Number behind the last one.
    end: u32,
}

/// Entries that one worker may hand out without asking anyone.
#[derive(Debug, Default)]
pub struct Hoard {
    /// First entry of a chain; 0 none.
    chain: u32,
    /// Never used entries.
    fresh: std::ops::Range<u32>,
    /// Evicted from a full table; used when there is nothing else.
    pub(super) limbo: Limbo,
}

impl FreeList {
    /// All of `1..end` are free. Number 0 is never used.
    pub(super) fn new(end: u32) -> Self {
        Self { head: CachePadded::default(), fresh: CachePadded::new(AtomicU32::new(1)), end }
    }

    /// Entries from this number on were never used.
    pub(super) fn high_water(&self) -> u32 {
        // Relaxed: an entry beyond what is seen is just not seen yet.
        self.fresh.load(Ordering::Relaxed).min(self.end)
    }

    /// Whether an entry is free for `hoard`'s owner, other than those it evicted.
    #[inline]
    pub(super) fn has_free<F: Family>(&self, entries: &[Entry<F>], hoard: &mut Hoard) -> bool {
        if hoard.chain == 0 && hoard.fresh.is_empty() {
            self.refill(entries, hoard);
        }
        hoard.chain != 0 || !hoard.fresh.is_empty()
    }

    /// Takes an entry for `hoard`'s owner; `None`: all are in use.
    #[inline]
    pub(super) fn take<F: Family>(&self, entries: &[Entry<F>], hoard: &mut Hoard) -> Option<u32> {
        if !self.has_free(entries, hoard) {
            return hoard.limbo.pop();
        }
        if hoard.chain != 0 {
            let number = hoard.chain;
            hoard.chain = entries[number as usize].next_free();
            return Some(number);
        }
        hoard.fresh.next()
    }

    /// Puts an entry back that was taken and that nobody else has ever seen.
    pub(super) fn put_back<F: Family>(entries: &[Entry<F>], hoard: &mut Hoard, number: u32) {
        entries[number as usize].set_next_free(hoard.chain);
        hoard.chain = number;
    }

    #[cold]
    fn refill<F: Family>(&self, entries: &[Entry<F>], hoard: &mut Hoard) {
        hoard.chain = self.pop(entries);
        if hoard.chain == 0 {
            // Relaxed: the numbers are only shared out; what is in a fresh entry are the zeroes of the mapping. A worker that finds the
            // end does not move it on: the count cannot overflow.
            if self.fresh.load(Ordering::Relaxed) < self.end {
                let first = self.fresh.fetch_add(BATCH, Ordering::Relaxed);
                hoard.fresh = first.min(self.end)..first.saturating_add(BATCH).min(self.end);
            }
        }
    }

    fn pop<F: Family>(&self, entries: &[Entry<F>]) -> u32 {
        // Acquire: pairs with the Release in `push`, so that the links are seen.
        let mut head = self.head.load(Ordering::Acquire);
        while head as u32 != 0 {
            // May read a link of an entry that was just taken by someone else; then the exchange fails.
            let next = u64::from(entries[head as u32 as usize].next_batch());
            let to = (head >> 32).wrapping_add(1) << 32 | next;
            match self.head.compare_exchange_weak(head, to, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return head as u32,
                Err(now) => head = now,
            }
        }
        0
    }

    /// Gives a chain of at most [`BATCH`] entries back.
    pub(super) fn push<F: Family>(&self, entries: &[Entry<F>], numbers: &[u32]) {
        let Some(first) = numbers.first() else { return };
        for (at, number) in numbers.iter().enumerate() {
            entries[*number as usize].set_next_free(numbers.get(at + 1).copied().unwrap_or(0));
        }
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            entries[*first as usize].set_next_batch(head as u32);
            let to = (head >> 32).wrapping_add(1) << 32 | u64::from(*first);
            // Release: pairs with `pop`.
            match self.head.compare_exchange_weak(head, to, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}
