//! One connection: 64 bytes over IPv4, 128 over IPv6.
//!
//! Everything in it is an atomic, and nobody ever locks. Who writes what:
//! - The tuples: whoever opens the connection, while nobody else knows the entry. The index slot that names it publishes them.
//! - The state word: either direction's worker, by compare-exchange.
//! - A [`Side`]: packets of that direction. Each worker that has one direction therefore writes words that no other worker writes. It
//!   reads the other side's, too, and sees them at worst as they were before the packet that is in flight right now: a packet of one
//!   direction that depends on one of the other (an ACK of that data) was caused by its having left here, and it left after its words
//!   were stored. Where packets of one direction come in at two workers at once, one of two updates may be lost; the next packet of that
//!   direction says the same again. The few writes of a protocol to the other side (the beginning of a connection) say so where they are.
//! - Time and next hops: whoever handles a packet; an update that is lost costs a lookup, never correctness.
//!
//! What is counted about a connection is not here but in [`super::Account`], and only if that is switched on.

#![allow(unsafe_code)] // one promise about the type, see there

use super::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use super::family::{Cell, Family};
use super::region::Plain;
use super::{Millis, TcpState, Tuple};

/// A tracked connection in the table.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Entry<F: Family> {
    addresses: [F::Cell; 2],
    ports: [AtomicU32; 2],
    state: AtomicU32,
    last_seen: AtomicU32,
    words: [[AtomicU32; 2]; 2],
    halves: [AtomicU16; 2],
    hops: [AtomicU16; 2],
    hops_epoch: AtomicU16,
    service: AtomicU16,
    backend: AtomicU16,
    bytes: [AtomicU8; 2],
    _padding: F::Padding,
}

/// What a protocol remembers of one direction: 11 bytes, written by packets of that direction. All zero when a connection begins.
///
/// What they mean is the protocol's: see `tcp::window`. All of them are read and written Relaxed: the head of the file says why.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Two words.
    pub words: &'a [AtomicU32; 2],
    /// Half a word.
    pub half: &'a AtomicU16,
    /// A byte.
    pub byte: &'a AtomicU8,
}

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Entry<super::V4>>() == 64 && size_of::<Entry<super::V6>>() == 128);

// SAFETY: `Family` is implemented for IPv4 and IPv6 alone: their cells are atomics, their padding is integers that nobody touches; all
// zeroes are an entry that is not in use.
unsafe impl<F: Family> Plain for Entry<F> {}

/// The highest number of a next hop. Those above stand in its place until the first reply has one, and say which worker opened the connection.
pub const LAST_HOP: u16 = u16::MAX - 128;

/// Direction of a packet of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// As the first packet: client → VIP.
    Original = 0,
    /// Backend → SNAT address.
    Reply = 1,
}

impl Direction {
    /// The other one.
    pub const fn turned(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// The state word: protocol, TCP state and status bits of a connection, changed together.
///
/// the protocol's own bits (10) | status (6) | culled (1) | limits (1) | helper and limits (2) | state of the protocol (4) | protocol (8)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State(pub(super) u32);

/// Bits of `enum ip_conntrack_status` in the kernel, as far as they exist here.
impl State {
    /// A helper reads along: every packet takes the long way.
    pub const HELPER: u32 = 1 << 12;
    /// EXPECTED, and the backend opened it, because a helper expected that: what else is the client's side is the backend's here.
    pub const FROM_BACKEND: u32 = 1 << 13 | Self::EXPECTED;
    /// Unless it is EXPECTED, for such ones are not limited: its source's connections are counted, this one among them.
    const SOURCE_COUNTED: u32 = 1 << 13;
    /// DYING, and whoever counts connections was told so when it was ended: not by the sweep.
    pub const CULLED: u32 = 1 << 15;
    /// CULLED because its backend drains, and both ends are being told: it stays in the index for a while. Who lost a clash is never culled,
    /// so that the bit of the one may be part of the other.
    pub const DRAINED: u32 = Self::CULLED | Self::ABANDONED;
    /// It went to the backup pool: limits of its service do not count it.
    pub const AT_BACKUP: u32 = 1 << 14;
    /// Packets in both directions were seen.
    pub const SEEN_REPLY: u32 = 1 << 16;
    /// More than a handshake was seen: not given up first when the table is full.
    pub const ASSURED: u32 = 1 << 17;
    /// In the table.
    pub const CONFIRMED: u32 = 1 << 18;
    /// Being taken out of the table: no packet may use it any more.
    pub const DYING: u32 = 1 << 19;
    /// Opened by a helper's expectation.
    pub const EXPECTED: u32 = 1 << 21;
    /// Lost a clash before any packet left by it: was never counted as a connection.
    pub const ABANDONED: u32 = 1 << 20;

    /// Those bits and their names.
    pub(super) const STATUS: [(u32, &'static str); 6] = [
        (Self::EXPECTED, "EXPECTED"),
        (Self::SEEN_REPLY, "SEEN_REPLY"),
        (Self::ASSURED, "ASSURED"),
        (Self::CONFIRMED, "CONFIRMED"),
        (Self::DYING, "DYING"),
        (Self::HELPER, "HELPER"),
    ];

    /// The state of the protocol.
    pub(super) const PROTOCOL_STATE: u32 = 0x0f00;

    /// A connection that has seen its first packet.
    pub fn new(protocol: u8, tcp: TcpState) -> Self {
        Self(u32::from(protocol) | (tcp as u32) << 8)
    }

    /// A connection of a protocol other than TCP that has seen its first packet; `phase` is below 16.
    pub fn of(protocol: u8, phase: u8) -> Self {
        Self(u32::from(protocol)).with_phase(phase)
    }

    /// The protocol's own state, as a number.
    #[inline(always)]
    pub fn phase(self) -> u8 {
        (self.0 >> 8 & 0xf) as u8
    }

    /// With another one, below 16.
    #[inline(always)]
    pub fn with_phase(self, phase: u8) -> Self {
        Self(self.0 & !Self::PROTOCOL_STATE | u32::from(phase & 0xf) << 8)
    }

    /// IP protocol number.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        self.0 as u8
    }

    /// The TCP state; [`TcpState::None`] for other protocols.
    #[inline(always)]
    pub fn tcp(self) -> TcpState {
        TcpState::ALL[(self.0 >> 8 & 0xf) as usize % TcpState::ALL.len()]
    }

    /// With another TCP state.
    #[inline(always)]
    pub fn with_tcp(self, tcp: TcpState) -> Self {
        Self(self.0 & !Self::PROTOCOL_STATE | (tcp as u32) << 8)
    }

    /// Whether all of these bits are set.
    #[inline(always)]
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Of a connection that is not EXPECTED: its source's connections are counted, this one among them.
    pub fn with_source_counted(self) -> Self {
        self.with(Self::SOURCE_COUNTED)
    }

    /// Whether it was counted among the connections of its source.
    pub fn is_source_counted(self) -> bool {
        self.0 & (Self::SOURCE_COUNTED | Self::EXPECTED) == Self::SOURCE_COUNTED
    }

    /// Whether it lost a clash before any packet left by it.
    pub(super) fn is_abandoned(self) -> bool {
        self.0 & (Self::ABANDONED | Self::CULLED) == Self::ABANDONED
    }

    /// Whether lists and events show another state than `other`.
    pub fn looks_different(self, other: Self) -> bool {
        (self.0 ^ other.0) & (Self::PROTOCOL_STATE | Self::SEEN_REPLY | Self::ASSURED) != 0
    }

    /// With these bits cleared.
    #[inline(always)]
    pub fn without(self, bits: u32) -> Self {
        Self(self.0 & !bits)
    }

    /// With these bits set.
    #[inline(always)]
    pub fn with(self, bits: u32) -> Self {
        Self(self.0 | bits)
    }

    /// Taken out of the table by who has it from now on, the worker that needs its entry or the sweep: nobody takes it out again.
    pub(super) fn taken_out(self) -> Self {
        Self((self.0 | Self::DYING) & !Self::CONFIRMED)
    }

    /// Dying, and nobody has taken it out of the table yet.
    pub(super) fn has_ended(self) -> bool {
        self.has(Self::CONFIRMED | Self::DYING)
    }

    /// In the table and not being taken out: packets may use it.
    #[inline(always)]
    pub fn is_live(self) -> bool {
        self.0 & (Self::CONFIRMED | Self::DYING) == Self::CONFIRMED
    }
}

impl<F: Family> Entry<F> {
    /// The tuple of one direction.
    #[inline(always)]
    pub fn tuple(&self, direction: Direction) -> Tuple<F> {
        let at = direction as usize;
        let protocol = self.state().protocol();
        Tuple { addresses: self.addresses[at].load(), ports: self.ports[at].load(Ordering::Relaxed), protocol }
    }

    /// Whether `tuple` is that of one direction, without looking at the state.
    #[inline(always)]
    pub(super) fn has_tuple(&self, tuple: &Tuple<F>, direction: Direction) -> bool {
        let at = direction as usize;
        // Relaxed throughout: the index slot that led here was read with Acquire.
        self.addresses[at].holds(&tuple.addresses)
            && self.ports[at].load(Ordering::Relaxed) == tuple.ports
            && self.state.load(Ordering::Relaxed) as u8 == tuple.protocol
    }

    /// The state word now. Acquire: pairs with the release of whoever set DYING or CONFIRMED.
    #[inline(always)]
    pub fn state(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// Changes the state from what it was seen to be. `Err`: another thread changed it first; what it is now.
    pub fn change_state(&self, seen: State, to: State) -> Result<(), State> {
        // AcqRel/Acquire: pairs with `state` of other threads.
        self.state.compare_exchange(seen.0, to.0, Ordering::AcqRel, Ordering::Acquire).map(|_| ()).map_err(State)
    }

    pub(super) fn set_state(&self, state: State) {
        // Release: pairs with `state`; only while no other thread changes it.
        self.state.store(state.0, Ordering::Release);
    }

    pub(super) fn set_tuple(&self, direction: Direction, tuple: &Tuple<F>) {
        let at = direction as usize;
        self.addresses[at].store(tuple.addresses);
        self.ports[at].store(tuple.ports, Ordering::Relaxed);
    }

    /// Begins the life of an entry that nobody else knows.
    pub(super) fn begin(&self, original: &Tuple<F>, owner: Owner, state: State, now: Millis) {
        self.set_tuple(Direction::Original, original);
        self.last_seen.store(now.0, Ordering::Relaxed);
        self.service.store(owner.service, Ordering::Relaxed);
        self.backend.store(owner.backend, Ordering::Relaxed);
        for direction in [0, 1] {
            self.hops[direction].store(0, Ordering::Relaxed);
            self.halves[direction].store(0, Ordering::Relaxed);
            self.bytes[direction].store(0, Ordering::Relaxed);
            self.words[direction].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        self.set_state(state);
    }

    /// What the protocol remembers of one direction.
    #[inline(always)]
    pub fn side(&self, direction: Direction) -> Side<'_> {
        let at = direction as usize;
        Side { words: &self.words[at], half: &self.halves[at], byte: &self.bytes[at] }
    }

    /// Notes that the connection is alive.
    #[inline(always)]
    pub fn touch(&self, now: Millis) {
        self.last_seen.store(now.0, Ordering::Relaxed);
    }

    /// When the last packet was seen.
    #[inline(always)]
    pub fn last_seen(&self) -> Millis {
        Millis(self.last_seen.load(Ordering::Relaxed))
    }

    /// Milliseconds since the last packet. A worker's clock may be a little ahead of `now`: that is no silence of 49 days.
    pub(super) fn silence(&self, now: Millis) -> u32 {
        let silent = now.since(self.last_seen());
        if silent < u32::MAX / 2 { silent } else { 0 }
    }

    /// Who the connection belongs to.
    #[inline(always)]
    pub fn owner(&self) -> Owner {
        Owner { service: self.service.load(Ordering::Relaxed), backend: self.backend.load(Ordering::Relaxed) }
    }

    /// The next hop of packets of this direction, if any was looked up at this epoch; 0, or more than [`LAST_HOP`]: none yet.
    #[inline(always)]
    pub fn hop(&self, direction: Direction, epoch: u16) -> Option<u16> {
        (self.hops_epoch.load(Ordering::Relaxed) == epoch).then(|| self.hops[direction as usize].load(Ordering::Relaxed))
    }

    /// Notes which worker, below 128, has opened it: until the first reply, and as long as routes stay. Behind [`Entry::set_hop`] of its own
    /// direction.
    pub fn set_opener(&self, worker: u8) {
        self.hops[Direction::Reply as usize].store(LAST_HOP + 1 + u16::from(worker % 128), Ordering::Relaxed);
    }

    /// Which worker has opened it, if that is still known.
    pub fn opener(&self) -> Option<u8> {
        let hop = self.hops[Direction::Reply as usize].load(Ordering::Relaxed);
        hop.checked_sub(LAST_HOP + 1).map(|worker| worker as u8)
    }

    /// Notes a next hop that was looked up at `epoch`. Next hops of an earlier epoch are forgotten. `hop` is not 0.
    pub fn set_hop(&self, direction: Direction, epoch: u16, hop: u16) {
        if self.hops_epoch.load(Ordering::Relaxed) != epoch {
            self.hops[direction.turned() as usize].store(0, Ordering::Relaxed);
            self.hops_epoch.store(epoch, Ordering::Relaxed);
        }
        self.hops[direction as usize].store(hop, Ordering::Relaxed);
    }

    /// Somewhere in the second cache line of an IPv6 entry.
    #[inline(always)]
    pub(super) fn second_line(&self) -> &AtomicU32 {
        &self.state
    }

    // A free entry keeps the free list in the room of its ports.

    pub(super) fn next_free(&self) -> u32 {
        self.ports[0].load(Ordering::Relaxed)
    }

    pub(super) fn set_next_free(&self, number: u32) {
        self.ports[0].store(number, Ordering::Relaxed);
    }

    pub(super) fn next_batch(&self) -> u32 {
        self.ports[1].load(Ordering::Relaxed)
    }

    pub(super) fn set_next_batch(&self, number: u32) {
        self.ports[1].store(number, Ordering::Relaxed);
    }
}

/// Service and backend that a connection belongs to, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Index of the service.
    pub service: u16,
    /// Index of the backend.
    pub backend: u16,
}
