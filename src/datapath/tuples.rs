//! What the first passes find out about a burst's packets of one family: their tuples, side by side, and what the index says of them.

use super::burst::{BURST, Frame};
use super::tracked::Tracked;
use crate::conntrack::{Guess, HashKey, LANES, Table, Tuple, V4, V6, Words};
use crate::packet::{Headers, Plain};
use std::fmt::Debug;
use std::ops::Range;

/// Packets whose lines are asked for together: as many as memory answers side by side. With 8 or 32 more time is lost.
pub(super) const GROUP: usize = 16;

// A bit a packet in one word.
const _: () = assert!(BURST == u64::BITS as usize && BURST.is_multiple_of(GROUP) && GROUP.is_multiple_of(LANES));

/// An item a packet of the burst; for packets that are not of this family, what was there before.
#[derive(Debug)]
pub(super) struct Tuples<F: Lanes> {
    /// Which packets are plain.
    plain: u64,
    /// Which other ones may be part of a connection.
    others: u64,
    shapes: [Plain; BURST],
    addresses: F::Columns,
    /// Ports above the protocol: the last word of what is hashed.
    ports: [u64; BURST],
    hashes: [u64; BURST],
    guesses: [Guess; BURST],
}

/// A packet whose tuple was looked for in the index.
pub(super) struct Lookup<F: Tracked> {
    pub tuple: Tuple<F>,
    pub hash: u64,
    pub guess: Guess,
}

/// A family whose tuples are hashed side by side: each word of their addresses is an array of its own.
pub(super) trait Lanes: Tracked {
    /// The addresses of a burst.
    type Columns: Debug;

    const COLUMNS: Self::Columns;

    fn put(columns: &mut Self::Columns, at: usize, addresses: Self::Addresses);
    fn get(columns: &Self::Columns, at: usize) -> Self::Addresses;
    fn hash_columns(key: &HashKey, columns: &Self::Columns, ports: &Words, at: usize, hashes: &mut Words);
}

impl Lanes for V4 {
    type Columns = [u64; BURST];

    const COLUMNS: Self::Columns = [0; BURST];

    #[inline(always)]
    fn put(columns: &mut Self::Columns, at: usize, addresses: u64) {
        columns[at % BURST] = addresses;
    }

    #[inline(always)]
    fn get(columns: &Self::Columns, at: usize) -> u64 {
        columns[at % BURST]
    }

    #[inline(always)]
    fn hash_columns(key: &HashKey, columns: &Self::Columns, ports: &Words, at: usize, hashes: &mut Words) {
        key.hash_lanes([lanes(columns, at), ports], hashes);
    }
}

impl Lanes for V6 {
    type Columns = [[u64; BURST]; 4];

    const COLUMNS: Self::Columns = [[0; BURST]; 4];

    #[inline(always)]
    fn put(columns: &mut Self::Columns, at: usize, addresses: [u64; 4]) {
        for (column, word) in columns.iter_mut().zip(addresses) {
            column[at % BURST] = word;
        }
    }

    #[inline(always)]
    fn get(columns: &Self::Columns, at: usize) -> [u64; 4] {
        [columns[0][at % BURST], columns[1][at % BURST], columns[2][at % BURST], columns[3][at % BURST]]
    }

    #[inline(always)]
    fn hash_columns(key: &HashKey, columns: &Self::Columns, ports: &Words, at: usize, hashes: &mut Words) {
        let [s0, s1, d0, d1] = columns;
        key.hash_lanes([lanes(s0, at), lanes(s1, at), lanes(d0, at), lanes(d1, at), ports], hashes);
    }
}

/// The words of [`LANES`] packets.
#[inline(always)]
fn lanes(column: &[u64; BURST], at: usize) -> &Words {
    &column.as_chunks().0[at % BURST / LANES]
}

impl<F: Lanes> Tuples<F> {
    pub(super) fn new() -> Self {
        Self {
            plain: 0,
            others: 0,
            shapes: [Plain::default(); BURST],
            addresses: F::COLUMNS,
            ports: [0; BURST],
            hashes: [0; BURST],
            guesses: [Guess::default(); BURST],
        }
    }

    /// Forgets which packets there were.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        (self.plain, self.others) = (0, 0);
    }

    /// Puts plain packets at `from` and behind it up to the first frame that is none; how many. A loop of its own, as that of the short way.
    #[inline(never)]
    pub(super) fn put_while_plain(&mut self, from: usize, frames: &[Frame<'_>]) -> usize {
        let mut count = 0;
        for frame in frames {
            let bytes = frame.bytes();
            let Some(plain) = F::parse_plain(bytes) else { break };
            let (at, headers) = (from + count, plain.headers(F::IP));
            self.shapes[at % BURST] = plain;
            self.set(at, F::read(bytes, &headers), headers.ports(bytes), headers.protocol);
            count += 1;
        }
        if count > 0 {
            self.plain |= u64::MAX >> (BURST - count) << from;
        }
        count
    }

    /// Puts a packet of another shape at `at`.
    pub(super) fn put(&mut self, at: usize, tuple: &Tuple<F>) {
        self.others |= 1 << at;
        self.set(at, tuple.addresses, tuple.ports, tuple.protocol);
    }

    #[inline(always)]
    fn set(&mut self, at: usize, addresses: F::Addresses, ports: u32, protocol: u8) {
        F::put(&mut self.addresses, at, addresses);
        self.ports[at % BURST] = u64::from(ports) << 8 | u64::from(protocol);
    }

    /// Which packets of this group have a tuple.
    #[inline(always)]
    pub(super) fn in_group(&self, group: usize) -> u16 {
        ((self.plain | self.others) >> (group * GROUP)) as u16
    }

    /// How many plain packets there are from `at` on, which may be the end of the burst, before any other one.
    #[inline(always)]
    pub(super) fn plain_from(&self, at: usize) -> usize {
        self.plain.checked_shr(at as u32).map_or(0, u64::trailing_ones) as usize
    }

    /// What the packet at `at` is, if it is plain.
    pub(super) fn headers(&self, at: usize) -> Option<Headers> {
        (self.plain >> at & 1 != 0).then(|| self.shapes[at].headers(F::IP))
    }

    /// Those of packets one behind the other.
    #[inline(always)]
    pub(super) fn shapes(&self, range: Range<usize>) -> &[Plain] {
        &self.shapes[range]
    }

    #[inline(always)]
    pub(super) fn lookup(&self, at: usize) -> Lookup<F> {
        let ports = self.ports[at % BURST];
        let tuple = Tuple { addresses: F::get(&self.addresses, at), ports: (ports >> 8) as u32, protocol: ports as u8 };
        Lookup { tuple, hash: self.hashes[at % BURST], guess: self.guesses[at % BURST] }
    }

    /// Hashes the tuples of a group.
    #[inline(always)]
    pub(super) fn hash(&mut self, table: &Table<F>, group: usize) {
        for at in (group * GROUP..(group + 1) * GROUP).step_by(LANES) {
            let hashes = &mut self.hashes.as_chunks_mut().0[at / LANES];
            F::hash_columns(table.key(), &self.addresses, lanes(&self.ports, at), at, hashes);
        }
    }

    /// Asks for the index lines of a group. For a packet that has no tuple, for some line that nobody will need: cheaper than asking which.
    #[inline(always)]
    pub(super) fn ask_for_buckets(&self, table: &Table<F>, group: usize) {
        for hash in &self.hashes[group * GROUP..(group + 1) * GROUP] {
            table.prefetch_bucket(*hash);
        }
    }

    /// Reads those lines for packets of one group, and asks for the lines of their entries.
    #[inline(always)]
    pub(super) fn guess(&mut self, table: &Table<F>, packets: Range<usize>) {
        for (guess, hash) in self.guesses[packets.clone()].iter_mut().zip(&self.hashes[packets.clone()]) {
            *guess = table.guess(*hash);
        }
        for guess in &self.guesses[packets] {
            table.prefetch_entry(*guess);
        }
    }

    /// [`Tuples::ask_for_buckets`] where others are between them.
    pub(super) fn ask_for_own_buckets(&self, table: &Table<F>, group: usize) {
        own(self.plain | self.others, group * GROUP..(group + 1) * GROUP).for_each(|at| table.prefetch_bucket(self.hashes[at]));
    }

    /// [`Tuples::guess`] where others are between them.
    pub(super) fn guess_own(&mut self, table: &Table<F>, packets: Range<usize>) {
        own(self.plain | self.others, packets.clone()).for_each(|at| self.guesses[at] = table.guess(self.hashes[at]));
        own(self.plain | self.others, packets).for_each(|at| table.prefetch_entry(self.guesses[at]));
    }
}

impl Tuples<V6> {
    /// Asks for the second lines of the entries of packets of one group, a group's time after the first ones: with both at once, memory
    /// is asked for more than it answers side by side.
    #[inline(always)]
    pub(super) fn ask_for_second_lines(&self, table: &Table<V6>, packets: Range<usize>) {
        for guess in &self.guesses[packets] {
            table.prefetch_second_line(*guess);
        }
    }

    /// [`Tuples::ask_for_second_lines`] where others are between them.
    pub(super) fn ask_for_own_second_lines(&self, table: &Table<V6>, packets: Range<usize>) {
        own(self.plain | self.others, packets).for_each(|at| table.prefetch_second_line(self.guesses[at]));
    }
}

/// Those of `packets` that have a bit.
fn own(bits: u64, packets: Range<usize>) -> impl Iterator<Item = usize> {
    packets.filter(move |at| bits >> at & 1 != 0)
}
