//! What became of the first fragment of each datagram that is on its way in pieces, so that the others follow it.
//!
//! Only the first fragment has ports. What they were is kept here, under addresses and identification; a later fragment gets them from
//! here and then finds its connection like any packet. Nothing is put together: fragments leave one by one, and those that come before
//! the first are kept by whoever received them.
//!
//! Fixed memory, shared by all workers, without a lock. A slot belongs to whoever makes its `turn` odd; readers look at the turn before and
//! after (a sequence lock), and take a slot that is being written for one that is not there. A bucket that is full gives up what is
//! complete first, then the oldest.

use super::Millis;
use super::hash::HashKey;
use crate::packet::fragment::{Fragment, MOST_UNITS, UNIT};
use crate::packet::{Headers, Ip};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// How much fragments may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Milliseconds that a datagram may take to arrive whole.
    pub timeout: u32,
    /// Datagrams that are remembered at a time; rounded up to whole buckets.
    pub datagrams: usize,
    /// Fragments of one datagram that are forwarded, and that may wait for its first one on a worker.
    pub per_datagram: u32,
    /// Fragments that may wait on one worker, of all datagrams.
    pub held: usize,
}

impl Default for FragmentLimits {
    /// 30 s is the kernel's `ipfrag_time`. 4096 datagrams take 4.5 MiB. 64 fragments are a datagram of 64 KiB over links of 1280 bytes.
    fn default() -> Self {
        Self { timeout: 30_000, datagrams: 4096, per_datagram: 64, held: 512 }
    }
}

/// What identifies a datagram: addresses and identification, and over IPv4 the protocol (RFC 791, section 3.2; RFC 8200, section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Datagram {
    addresses: [u64; 4],
    /// Identification, protocol or 0, IP version.
    identity: u64,
}

impl Datagram {
    /// The one that this packet is a fragment of.
    ///
    /// # Panics
    /// When `headers` are not those of the frame in `bytes`.
    pub fn of(bytes: &[u8], headers: &Headers, fragment: &Fragment) -> Self {
        let identification = u64::from(fragment.identification);
        match headers.ip {
            Ip::V4 => {
                let identity = identification | u64::from(headers.protocol) << 32 | 4 << 40;
                Self { addresses: [headers.addresses_v4(bytes), 0, 0, 0], identity }
            }
            Ip::V6 => Self { addresses: headers.addresses_v6(bytes), identity: identification | 6 << 40 },
        }
    }
}

/// What became of the first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It went on as a packet of this protocol with these ports, the source in the upper half.
    Forwarded {
        /// IP protocol number.
        protocol: u8,
        /// As [`super::Tuple::ports`].
        ports: u32,
        /// Of TCP: the sequence number that the datagram's first byte would have. Of others: 0.
        sequence: u32,
    },
    /// It was dropped or answered.
    Refused,
    /// Fragments overlapped: the whole datagram is dropped (RFC 5722, section 4).
    Overlapped,
}

impl Decision {
    /// In two words.
    fn pack(self) -> (u64, u32) {
        match self {
            Self::Refused => (0, 0),
            Self::Overlapped => (OVERLAPPED, 0),
            Self::Forwarded { protocol, ports, sequence } => (FORWARDED | u64::from(protocol) << 32 | u64::from(ports), sequence),
        }
    }

    fn unpack(bits: u64, sequence: u32) -> Self {
        match bits & (OVERLAPPED | FORWARDED) {
            0 => Self::Refused,
            FORWARDED => Self::Forwarded { protocol: (bits >> 32) as u8, ports: bits as u32, sequence },
            _ => Self::Overlapped,
        }
    }
}

const OVERLAPPED: u64 = 1 << 40;
const FORWARDED: u64 = 2 << 40;

/// What became of a fragment beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It is new, and goes on.
    On,
    /// Others have brought all of it.
    Duplicate,
    /// Others have brought some of it, or it and they do not agree on where the datagram ends: no fragment of it goes on any more.
    Overlap,
    /// There were too many.
    Excess,
}

/// Slots of a bucket.
const WAYS: usize = 4;
const WORDS: usize = MOST_UNITS / 64;

/// A datagram. All of its fields but `seen` are a sequence lock's: what they say counts if `turn` is even and the same before and after.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    /// Odd while it is written; two more with each datagram.
    turn: AtomicU32,
    /// When the first fragment came.
    born: AtomicU32,
    addresses: [AtomicU64; 4],
    identity: AtomicU64,
    decision: AtomicU64,
    sequence: AtomicU32,
    /// Bytes of the whole datagram's payload, 0 while the last fragment was not seen.
    end: AtomicU32,
    /// Units that went on.
    passed: AtomicU32,
    /// Fragments that came.
    fragments: AtomicU32,
    /// A bit for each unit that went on.
    seen: [AtomicU64; WORDS],
}

impl Default for Slot {
    fn default() -> Self {
        let zero = || AtomicU32::new(0);
        Self {
            turn: zero(),
            born: zero(),
            addresses: Default::default(),
            identity: AtomicU64::new(0),
            decision: AtomicU64::new(0),
            sequence: zero(),
            end: zero(),
            passed: zero(),
            fragments: zero(),
            seen: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// The datagrams that are on their way in pieces.
#[derive(Debug)]
pub struct Fragments {
    slots: Box<[Slot]>,
    key: HashKey,
    limits: FragmentLimits,
    /// Moves with each decision, so that whoever keeps early fragments knows when to look.
    decisions: CachePadded<AtomicU64>,
}

/// A datagram whose first fragment came.
#[derive(Debug)]
pub struct Known<'a> {
    slot: &'a Slot,
    born: Millis,
    /// What became of its first fragment.
    pub decision: Decision,
}

/// A first fragment that comes so many milliseconds behind another one of the same identification begins a new datagram: copies come
/// sooner, and a busy sender uses its 16 bits again within seconds (RFC 4963).
const COPY: u32 = 1000;

/// Milliseconds from one time to another one of perhaps another worker, whose clock may be a little ahead.
fn age(now: Millis, born: Millis) -> u32 {
    let age = now.since(born);
    if age > u32::MAX / 2 { 0 } else { age }
}

impl Fragments {
    /// Room for the datagrams of `limits`.
    pub fn new(limits: FragmentLimits, key: HashKey) -> Self {
        let slots = limits.datagrams.max(1).next_multiple_of(WAYS);
        Self { slots: (0..slots).map(|_| Slot::default()).collect(), key, limits, decisions: CachePadded::default() }
    }

    /// How much fragments may cost.
    pub fn limits(&self) -> &FragmentLimits {
        &self.limits
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// How many decisions there were. Acquire: pairs with the Release in [`Fragments::decide`]; who sees the number finds the decisions.
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Ordering::Acquire)
    }

    /// What is known of a datagram.
    pub fn find(&self, datagram: &Datagram, now: Millis) -> Option<Known<'_>> {
        let known = self.bucket(datagram).iter().find_map(|slot| slot.read(datagram))?;
        let age = age(now, known.born);
        // A piece of what has long been complete belongs to a new datagram of the same identification.
        let is_new = age >= COPY && known.slot.is_complete();
        (age < self.limits.timeout && !is_new).then_some(known)
    }

    /// Notes what became of the first fragment of a datagram. `None`: other workers are writing every slot that it could have.
    pub fn decide(&self, datagram: &Datagram, decision: Decision, now: Millis) -> Option<Known<'_>> {
        let bucket = self.bucket(datagram);
        let known = bucket.iter().find(|slot| slot.read(datagram).is_some());
        let slot = match known {
            Some(slot) => slot.begin(datagram, decision, now).then_some(slot)?,
            None => self.take(bucket, datagram, decision, now)?,
        };
        // Release: pairs with `decisions`.
        self.decisions.fetch_add(1, Ordering::Release);
        Some(Known { slot, born: now, decision })
    }

    /// Counts a fragment in, before it goes on.
    pub fn pass(&self, known: &Known<'_>, fragment: &Fragment) -> Passed {
        known.slot.pass(fragment, self.limits.per_datagram)
    }

    fn bucket(&self, datagram: &Datagram) -> &[Slot] {
        let [s0, s1, d0, d1] = datagram.addresses;
        let hash = self.key.hash([s0, s1, d0, d1, datagram.identity]);
        // The upper half times the number of buckets: no division, and every bucket is as likely.
        let buckets = self.slots.len() / WAYS;
        let at = (((hash >> 32) * buckets as u64) >> 32) as usize * WAYS;
        &self.slots[at..at + WAYS]
    }

    /// Takes the slot that is missed least; the next one if another worker takes that at the same moment.
    fn take<'a>(&'a self, bucket: &'a [Slot], datagram: &Datagram, decision: Decision, now: Millis) -> Option<&'a Slot> {
        let mut order: [usize; WAYS] = std::array::from_fn(|at| at);
        order.sort_unstable_by_key(|at| std::cmp::Reverse(bucket[*at].worth_taking(now)));
        order.into_iter().map(|at| &bucket[at]).find(|slot| slot.begin(datagram, decision, now))
    }
}

impl Known<'_> {
    /// Whether another first fragment of the same identification begins a new datagram: this one is complete, or cannot be the copy's.
    pub fn is_over(&self, now: Millis) -> bool {
        self.slot.is_complete() || age(now, self.born) >= COPY
    }
}

impl Slot {
    /// What it says, if it is this datagram's.
    fn read(&self, datagram: &Datagram) -> Option<Known<'_>> {
        // Acquire: pairs with the Release at the end of `begin`.
        let turn = self.turn.load(Ordering::Acquire);
        // Relaxed: the fence below and the second look at the turn tell whether these belong together.
        let is_it = self.identity.load(Ordering::Relaxed) == datagram.identity
            && (self.addresses.iter().zip(datagram.addresses)).all(|(word, other)| word.load(Ordering::Relaxed) == other);
        if !is_it || !turn.is_multiple_of(2) {
            return None;
        }
        let decision = Decision::unpack(self.decision.load(Ordering::Relaxed), self.sequence.load(Ordering::Relaxed));
        let born = Millis(self.born.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (self.turn.load(Ordering::Relaxed) == turn).then_some(Known { slot: self, born, decision })
    }

    /// The greater, the less it is missed: never used, complete, then the oldest.
    fn worth_taking(&self, now: Millis) -> u32 {
        if self.identity.load(Ordering::Relaxed) == 0 || self.is_complete() {
            return u32::MAX;
        }
        age(now, Millis(self.born.load(Ordering::Relaxed)))
    }

    fn is_complete(&self) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        end != 0 && self.passed.load(Ordering::Relaxed) as usize >= (end as usize).div_ceil(UNIT)
    }

    /// Makes it this datagram's. `false`: another worker is about to make it somebody's.
    fn begin(&self, datagram: &Datagram, decision: Decision, now: Millis) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        // Acquire: what follows is written by one worker after the other. Pairs with the Release below.
        let taken = turn.is_multiple_of(2)
            && self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !taken {
            return false;
        }
        // Release: a reader that sees anything of what follows sees the odd turn, too (pairs with the Acquire fence in `read`).
        fence(Ordering::Release);
        for (word, other) in self.addresses.iter().zip(datagram.addresses) {
            word.store(other, Ordering::Relaxed);
        }
        self.identity.store(datagram.identity, Ordering::Relaxed);
        let (bits, sequence) = decision.pack();
        self.decision.store(bits, Ordering::Relaxed);
        self.sequence.store(sequence, Ordering::Relaxed);
        self.born.store(now.0, Ordering::Relaxed);
        for number in [&self.end, &self.passed, &self.fragments] {
            number.store(0, Ordering::Relaxed);
        }
        for word in &self.seen {
            word.store(0, Ordering::Relaxed);
        }
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
        true
    }

    /// Relaxed throughout: each bit is set once, by whoever sees that it was not, and that is all that must hold. A worker that was
    /// stopped here while its slot went to another datagram may spoil that one; a datagram may always be lost.
    fn pass(&self, fragment: &Fragment, most: u32) -> Passed {
        if self.fragments.fetch_add(1, Ordering::Relaxed) >= most {
            return Passed::Excess;
        }
        let units = fragment.units();
        let count = units.len() as u32;
        if !self.agrees(fragment) {
            return self.overlap();
        }
        match self.mark(units) {
            0 => {
                self.passed.fetch_add(count, Ordering::Relaxed);
                Passed::On
            }
            old if old == count => Passed::Duplicate,
            _ => self.overlap(),
        }
    }

    /// Whether it ends where the datagram may end.
    fn agrees(&self, fragment: &Fragment) -> bool {
        let end = fragment.end() as u32;
        if fragment.more {
            let known = self.end.load(Ordering::Relaxed);
            return known == 0 || end < known;
        }
        match self.end.compare_exchange(0, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => self.none_behind(fragment.units().end),
            Err(known) => known == end,
        }
    }

    /// Whether nothing went on that lies behind so many units.
    fn none_behind(&self, units: usize) -> bool {
        let behind = self.seen.iter().enumerate().skip(units / 64);
        behind.map(|(at, word)| (at, word.load(Ordering::Relaxed))).all(|(at, bits)| {
            let before = if at == units / 64 { units % 64 } else { 0 };
            bits >> before == 0
        })
    }

    fn overlap(&self) -> Passed {
        self.decision.store(OVERLAPPED, Ordering::Relaxed);
        Passed::Overlap
    }

    /// Sets the bits of these units; how many were set already.
    fn mark(&self, units: std::ops::Range<usize>) -> u32 {
        let mut old = 0;
        let mut at = units.start;
        while at < units.end.min(MOST_UNITS) {
            let (word, first) = (at / 64, at % 64);
            let count = (64 - first).min(units.end - at);
            let bits = if count == 64 { u64::MAX } else { ((1u64 << count) - 1) << first };
            old += (self.seen[word].fetch_or(bits, Ordering::Relaxed) & bits).count_ones();
            at += count;
        }
        old
    }
}

#[cfg(test)]
mod tests;
