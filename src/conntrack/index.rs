//! The index: from the hash of a tuple to the entry that has it. Lock-free, seven slots and their overflow count to a cache line.
//!
//! A tuple's *home* is the bucket that the lower half of its hash names; the upper half is its tag. Where the home is full, the slot is
//! taken in one of the following buckets, and every bucket passed over counts it: a lookup goes on past a bucket only while that
//! bucket's count is not zero, so nearly all lookups read one line.
//!
//! **Inserting without a lock.** Two workers may insert the same tuple at once, into different slots. Each takes an empty slot
//! *tentatively* (readers do not see it), then looks over the whole chain: someone else has the tuple committed: that one won, the slot
//! is given back. Someone else has it tentatively: that slot is emptied; its owner notices when it commits, and begins anew. Then it
//! commits. Taking a slot and looking over the chain are sequentially consistent, so of two inserters at least the later one sees the
//! other, and empties its slot or finds it committed; commit and emptying are compare-exchanges of the same word, so exactly one of them
//! happens. A tuple is never committed twice, and nobody ever waits for a thread that was put to sleep half way.

#![allow(unsafe_code)] // one promise about a type, see there

use super::atomic::{AtomicU64, Ordering};
use super::prefetch::prefetch;
use super::region::{Plain, Region};
use std::io;

/// Slots of a bucket.
const SLOTS: usize = if cfg!(feature = "loom") { 2 } else { 7 };
/// Buckets that a chain may reach over. At the load that a table is made for, chains of three are rare; this many mean that it is full.
const MAX_CHAIN: usize = if cfg!(feature = "loom") { 3 } else { 24 };
/// Slots a bucket holds on average when the table is full: 4.2 of 7, where about one lookup in forty reads a second line.
const LOAD_TIMES_TEN: usize = 42;

/// An entry's number and the direction of the tuple that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Handle(u32);

const REPLY: u32 = 1 << 31;
const TENTATIVE: u64 = 1 << 30;
const NUMBER: u32 = (1 << 30) - 1;

/// Largest number of an entry; 0 is never used, so that a slot of zeroes is an empty one.
pub(super) const MAX_NUMBER: usize = NUMBER as usize;

impl Handle {
    /// That of nobody: entry 0 is never used.
    pub(super) const NONE: Self = Self(0);

    #[inline(always)]
    pub(super) fn new(number: u32, reply: bool) -> Self {
        debug_assert!(number != 0 && number <= NUMBER);
        Self(number | if reply { REPLY } else { 0 })
    }

    #[inline(always)]
    pub(super) fn number(self) -> u32 {
        self.0 & NUMBER
    }

    #[inline(always)]
    pub(super) fn is_reply(self) -> bool {
        self.0 & REPLY != 0
    }
}

/// tag (32) | reply direction (1) | tentative (1) | number of the entry (30)
#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Bucket {
    slots: [AtomicU64; SLOTS],
    overflow: AtomicU64,
}

// SAFETY: atomics only; zeroes are empty slots and no overflow.
unsafe impl Plain for Bucket {}

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// The tuple is in the index now.
    Placed,
    /// It already was, with this handle.
    Exists(Handle),
    /// No slot within reach.
    Full,
}

#[derive(Debug)]
pub(super) struct Index {
    buckets: Region<Bucket>,
}

/// Where in a chain: how many buckets behind the home, and which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    distance: usize,
    slot: usize,
}

impl Index {
    /// Room for `tuples` at the load that keeps chains short.
    pub(super) fn new(tuples: usize) -> io::Result<Self> {
        let buckets = (tuples * 10).div_ceil(LOAD_TIMES_TEN).max(MAX_CHAIN * 2);
        Ok(Self { buckets: Region::new(buckets)? })
    }

    /// [`Region::populate`]
    pub(super) fn populate(&self) -> io::Result<()> {
        self.buckets.populate()
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// The lower half of the hash, scaled to the number of buckets: no power of two is needed.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        let buckets = self.buckets.items().len() as u64;
        (((hash & 0xffff_ffff) * buckets) >> 32) as usize
    }

    #[inline(always)]
    fn bucket(&self, home: usize, distance: usize) -> &Bucket {
        let buckets = self.buckets.items();
        let at = home + distance;
        &buckets[if at >= buckets.len() { at - buckets.len() } else { at }]
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets.items()[self.home(hash)]);
    }

    /// A slot whose tag fits: almost always the right one, or none. Its entry is still to be compared. [`Handle::NONE`]: there is none.
    #[inline(always)]
    pub(super) fn guess(&self, hash: u64) -> Handle {
        let home = self.home(hash);
        let bucket = &self.buckets.items()[home];
        // Relaxed: a guess that finds nothing is followed by `find`.
        match bucket.slot_like(hash) {
            Some(slot) => slot,
            None if bucket.overflow.load(Ordering::Relaxed) == 0 => Handle::NONE,
            None => self.guess_further(home, hash),
        }
    }

    /// As [`Index::guess`], for the one tuple in forty that is not in its home: here and now, so that its entry is asked for in time.
    #[inline(never)]
    fn guess_further(&self, home: usize, hash: u64) -> Handle {
        self.bucket(home, 1).slot_like(hash).unwrap_or(Handle::NONE)
    }

    /// The committed handle under `hash` for which `is_it` says yes.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Handle) -> bool) -> Option<Handle> {
        let home = self.home(hash);
        for distance in 0..MAX_CHAIN {
            let bucket = self.bucket(home, distance);
            for at in bits(bucket.tags_like(hash)) {
                // Acquire: as in `guess`.
                let slot = bucket.slots[at].load(Ordering::Acquire);
                if fits(slot, hash) && slot & TENTATIVE == 0 && is_it(Handle(slot as u32)) {
                    return Some(Handle(slot as u32));
                }
            }
            // Acquire: pairs with the Release in `pass_over`; who was told of the tuple also sees it counted.
            if bucket.overflow.load(Ordering::Acquire) == 0 {
                return None;
            }
        }
        None
    }

    /// What is committed in original direction in the buckets at these distances from the home of `hash`, whatever its own hash is.
    pub(super) fn originals_near(&self, hash: u64, distances: std::ops::Range<usize>) -> impl Iterator<Item = u32> {
        let home = self.home(hash);
        let slots = distances.flat_map(move |distance| &self.bucket(home, distance).slots);
        // Acquire: as in `guess`.
        let handles = slots.filter_map(|slot| committed(slot.load(Ordering::Acquire)));
        handles.filter(|handle| !handle.is_reply()).map(Handle::number)
    }

    /// Puts `handle` under `hash`, unless another one for which `is_same` says yes is there. See the head of the file.
    pub(super) fn insert(&self, hash: u64, handle: Handle, is_same: impl Fn(Handle) -> bool) -> Inserted {
        let home = self.home(hash);
        let committed = hash >> 32 << 32 | u64::from(handle.0);
        let tentative = committed | TENTATIVE;
        for attempt in 0u32.. {
            if let Some(other) = self.find(hash, &is_same) {
                return Inserted::Exists(other);
            }
            let Some(own) = self.take_slot(home, tentative) else { return Inserted::Full };
            let to = if self.outdo_rivals(home, hash, own, &is_same) { committed } else { 0 };
            let slot = &self.bucket(home, own.distance).slots[own.slot];
            // AcqRel: the release pairs with the Acquire of lookups. Relaxed: a failure means that a rival emptied the slot.
            let decided = slot.compare_exchange(tentative, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if decided && to == committed {
                return Inserted::Placed;
            }
            self.uncount(home, own.distance);
            // Two that keep emptying each other's slots part ways here: the one further on in the chain waits longer.
            for _ in 0..attempt.min(16) << (1 + own.slot % 4) {
                std::hint::spin_loop();
            }
        }
        Inserted::Full
    }

    /// Takes `handle` out from under `hash`. `false` when someone else already did.
    pub(super) fn remove(&self, hash: u64, handle: Handle) -> bool {
        let home = self.home(hash);
        let committed = hash >> 32 << 32 | u64::from(handle.0);
        for distance in 0..MAX_CHAIN {
            let bucket = self.bucket(home, distance);
            for slot in &bucket.slots {
                // AcqRel/Relaxed: what was read through the slot happens before its reuse; a failure means nothing was there.
                if slot.load(Ordering::Relaxed) == committed
                    && slot.compare_exchange(committed, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                {
                    self.uncount(home, distance);
                    return true;
                }
            }
            // Acquire: as in `find`.
            if bucket.overflow.load(Ordering::Acquire) == 0 {
                return false;
            }
        }
        false
    }

    /// Whether no slot is taken and nothing is counted.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        let empty = |word: &AtomicU64| word.load(Ordering::SeqCst) == 0;
        self.buckets.items().iter().all(|bucket| bucket.slots.iter().all(empty) && empty(&bucket.overflow))
    }

    /// Takes the first empty slot of the chain and counts it in every full bucket before it.
    fn take_slot(&self, home: usize, tentative: u64) -> Option<Position> {
        for distance in 0..MAX_CHAIN {
            let bucket = self.bucket(home, distance);
            for (at, slot) in bucket.slots.iter().enumerate() {
                // SeqCst: before `settle_rivals` in one order that all inserters agree on.
                if slot.load(Ordering::Relaxed) == 0
                    && slot.compare_exchange(0, tentative, Ordering::SeqCst, Ordering::Relaxed).is_ok()
                {
                    return Some(Position { distance, slot: at });
                }
            }
            bucket.pass_over();
        }
        self.uncount(home, MAX_CHAIN);
        None
    }

    /// Looks over the chain for the same tuple in other slots and empties those that are tentative. `false`: one is committed.
    fn outdo_rivals(&self, home: usize, hash: u64, own: Position, is_same: impl Fn(Handle) -> bool) -> bool {
        for distance in 0..MAX_CHAIN {
            let bucket = self.bucket(home, distance);
            for (at, slot) in bucket.slots.iter().enumerate() {
                // SeqCst: after `take_slot`, in the order that all inserters agree on.
                let seen = slot.load(Ordering::SeqCst);
                let rival = fits(seen, hash) && own != (Position { distance, slot: at });
                if rival && is_same(Handle((seen & !TENTATIVE) as u32)) && !outdo(slot, seen) {
                    return false;
                }
            }
            // SeqCst: a rival counts itself here before it takes a slot further on.
            if distance >= own.distance && bucket.overflow.load(Ordering::SeqCst) == 0 {
                return true;
            }
        }
        true
    }

    fn uncount(&self, home: usize, distance: usize) {
        for passed in 0..distance {
            // Release: the slot was emptied before.
            self.bucket(home, passed).overflow.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Empties a rival's slot. `false`: it is committed.
fn outdo(slot: &AtomicU64, seen: u64) -> bool {
    let committed = seen & !TENTATIVE;
    // AcqRel/Acquire: as the rival's own commit. Where the exchange fails otherwise, the rival has left by itself.
    seen != committed && slot.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) != Err(committed)
}

#[inline(always)]
fn committed(slot: u64) -> Option<Handle> {
    (slot & TENTATIVE == 0 && slot != 0).then_some(Handle(slot as u32))
}

#[inline(always)]
fn fits(slot: u64, hash: u64) -> bool {
    slot != 0 && (slot ^ hash) >> 32 == 0
}

fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let at = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            at
        })
    })
}

impl Bucket {
    /// What is in a slot whose tag is that of `hash`, found without a branch: which slot it is cannot be predicted. With the tag taken off
    /// it is the least of all. What is tentative or empty is none, whatever its tag.
    #[inline(always)]
    fn slot_like(&self, hash: u64) -> Option<Handle> {
        let tag = hash >> 32 << 32;
        // Acquire: pairs with the compare-exchange that committed the slot, so that the entry is seen whole.
        let least = self.slots.iter().map(|slot| slot.load(Ordering::Acquire) ^ tag).fold(u64::MAX, u64::min);
        let handle = if least & TENTATIVE == 0 { Handle(least as u32) } else { Handle::NONE };
        (least >> 32 == 0).then_some(handle)
    }

    /// A bit for each slot whose tag is that of `hash`.
    #[inline(always)]
    fn tags_like(&self, hash: u64) -> u32 {
        let mut mask = 0;
        for (at, slot) in self.slots.iter().enumerate() {
            // Relaxed: whoever uses the slot reads it again.
            mask |= u32::from((slot.load(Ordering::Relaxed) ^ hash) >> 32 == 0) << at;
        }
        mask
    }

    fn pass_over(&self) {
        // SeqCst (and with it Release, for `find`): counted before the slot further on is taken.
        self.overflow.fetch_add(1, Ordering::SeqCst);
    }
}
