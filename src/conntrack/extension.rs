//! What a few connections have beside their entry (`nf_ct_ext`): the text that a helper follows, and who is whose master.
//!
//! Kept apart from the entries, for control connections of a helper and the data connections that they announced, and for nobody else.
//! A record is found by the number of the entry: it stands in one of the sixteen places that the number leads to. It is given back when
//! the entry is free again, when nobody can be looking at either.

#![allow(unsafe_code)] // one promise about a type, see there

use super::entry::State;
use super::family::Family;
use super::region::{Plain, Region};
use super::seqadj::{Edits, is_behind};
use super::table::{Found, Table, Unconfirmed};
use super::{Direction, Expectation};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};

/// Records of one table: 16 MiB, touched only as they are used.
const RECORDS: usize = if cfg!(feature = "loom") { PLACES } else { 1 << 16 };
/// Places that a number leads to: their owners are one cache line.
const PLACES: usize = 16;

/// Records of one address family.
#[derive(Debug)]
pub(super) struct Extensions {
    /// Number of the entry that each record belongs to; 0 none.
    owners: Region<Owners>,
    records: Region<Extension>,
    used: AtomicUsize,
    last_id: AtomicU32,
}

#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Owners([AtomicU32; PLACES]);

// SAFETY: atomics only; zeroes are places without an owner.
unsafe impl Plain for Owners {}

/// The record of one connection. All zeroes but for its id when it begins.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Extension {
    id: AtomicU32,
    is_claimed: AtomicBool,
    /// Marked (1) | opened by the backend (1) | port (16): what is expected; 0 nothing.
    expecting: AtomicU32,
    master_number: AtomicU32,
    master_id: AtomicU32,
    master_ports: AtomicU32,
    streams: [Stream; 2],
}

// SAFETY: atomics only; zeroes are a record of nothing.
unsafe impl Plain for Extension {}

/// One direction of a control connection. Numbers are those of who sends it.
#[derive(Debug, Default)]
pub struct Stream {
    /// What was replaced in it.
    pub edits: Edits,
    /// Where lines begin: behind the last segments that ended with one (`seq_aft_nl`). Marked by bit 32.
    line_begins: [AtomicU64; 2],
    /// Behind the last byte that was sent on. Marked likewise.
    sent: AtomicU64,
}

/// Which connection a record belongs to: an entry, and in which of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life {
    /// Of the entry.
    pub(super) number: u32,
    /// Different for every connection that has a record, for four thousand million of them.
    pub(super) id: u32,
}

/// What a control connection expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expecting {
    /// The backend opens it, not the client.
    pub from_backend: bool,
    /// The port that it comes to.
    pub port: u16,
}

const MARK: u64 = 1 << 32;
const EXPECTING: u32 = 1 << 31;
const FROM_BACKEND: u32 = 1 << 16;

impl Extensions {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            owners: Region::new(RECORDS / PLACES)?,
            records: Region::new(RECORDS)?,
            used: AtomicUsize::new(0),
            last_id: AtomicU32::new(0),
        })
    }

    fn places(&self, number: u32) -> (&Owners, usize) {
        let line = number as usize % (RECORDS / PLACES);
        (&self.owners.items()[line], line * PLACES)
    }

    /// A record for the connection with this number, which has none; `None`: all of its places are taken.
    pub(super) fn attach(&self, number: u32) -> Option<&Extension> {
        let (owners, first) = self.places(number);
        // Relaxed: the record is handed on with the entry, through the index; before, nobody looks for it. Acquire: what its last owner
        // did to it is over.
        let free = |owner: &AtomicU32| owner.compare_exchange(0, number, Ordering::Acquire, Relaxed).is_ok();
        let at = owners.0.iter().position(free)?;
        self.used.fetch_add(1, Relaxed);
        let record = &self.records.items()[first + at];
        record.begin(self.last_id.fetch_add(1, Relaxed).wrapping_add(1));
        Some(record)
    }

    /// The record of the connection with this number.
    pub(super) fn find(&self, number: u32) -> Option<&Extension> {
        let (owners, first) = self.places(number);
        let at = owners.0.iter().position(|owner| owner.load(Relaxed) == number)?;
        Some(&self.records.items()[first + at])
    }

    /// The entry with this number begins or has ended a life; nobody else knows it.
    #[inline]
    pub(super) fn release(&self, number: u32) {
        // Relaxed: who handed the number on has handed on what it did before, too.
        if self.used.load(Relaxed) > 0 {
            self.give_back(number);
        }
    }

    #[cold]
    fn give_back(&self, number: u32) {
        if let Some(owner) = self.places(number).0.0.iter().find(|owner| owner.load(Relaxed) == number) {
            // Release: pairs with `attach`.
            owner.store(0, Ordering::Release);
            self.used.fetch_sub(1, Relaxed);
        }
    }
}

impl<F: Family> Table<F> {
    /// Gives a record to a connection that nobody else knows; `None`: there is no room for one.
    pub fn extend(&self, connection: &Unconfirmed<'_, F>) -> Option<&Extension> {
        self.extensions.attach(connection.number)
    }

    /// A helper reads along in a connection that nobody else knows and that has a record.
    pub fn mark_helped(&self, connection: &Unconfirmed<'_, F>) {
        connection.entry.set_state(connection.entry.state().with(State::HELPER));
    }

    /// The record of a connection that was given one.
    pub fn extension(&self, found: &Found<'_, F>) -> Option<&Extension> {
        self.extension_of(found.number())
    }

    pub(super) fn extension_of(&self, number: u32) -> Option<&Extension> {
        self.extensions.find(number)
    }

    /// Which life of which entry this is; for connections with a record.
    pub fn life(&self, found: &Found<'_, F>) -> Life {
        Life { number: found.number(), id: self.extension(found).map_or(0, Extension::id) }
    }

    /// Whether the connection still lives. The caller is inside.
    pub(super) fn is_alive(&self, life: Life) -> bool {
        self.entry(life.number).state().is_live() && self.extension_of(life.number).is_some_and(|record| record.id() == life.id)
    }

    /// The connection with this number was announced by a control connection, which nobody needs to speak on meanwhile: as long as
    /// the one is heard the other is kept, too (`ip_vs_control_add` of IPVS; the kernel's conntrack relies on its five days).
    pub(super) fn keep_master(&self, number: u32) {
        let master = self.extension_of(number).map(|record| record.master().0).filter(|master| self.is_alive(*master));
        if let Some(master) = master {
            let (heard, control) = (self.entry(number).last_seen(), self.entry(master.number));
            if heard.since(control.last_seen()) < u32::MAX / 2 {
                control.touch(heard);
            }
        }
    }
}

// All of the following is Relaxed but where it says more: a direction's numbers are written by packets of that direction, and whoever needs
// what another thread wrote was caused to by a packet that left afterwards (see `entry`).
impl Extension {
    fn begin(&self, id: u32) {
        let Self { id: own, is_claimed, expecting, master_number, master_id, master_ports, streams } = self;
        own.store(id, Relaxed);
        is_claimed.store(false, Relaxed);
        [expecting, master_number, master_id, master_ports].iter().for_each(|word| word.store(0, Relaxed));
        for Stream { edits, line_begins, sent } in streams {
            edits.clear();
            line_begins.iter().chain([sent]).for_each(|word| word.store(0, Relaxed));
        }
    }

    /// Which connection this is.
    pub(super) fn id(&self) -> u32 {
        self.id.load(Relaxed)
    }

    /// One direction.
    pub fn stream(&self, direction: Direction) -> &Stream {
        &self.streams[direction as usize]
    }

    /// Does `work` unless another thread is at such a work of this connection right now; then `None`, at once.
    pub fn claim<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        // Acquire and Release pair with each other: one sees what the other has done.
        self.is_claimed.compare_exchange(false, true, Ordering::Acquire, Relaxed).ok()?;
        let done = work();
        self.is_claimed.store(false, Ordering::Release);
        Some(done)
    }

    /// What was last expected.
    pub fn expecting(&self) -> Option<Expecting> {
        let word = self.expecting.load(Relaxed);
        (word & EXPECTING != 0).then_some(Expecting { from_backend: word & FROM_BACKEND != 0, port: word as u16 })
    }

    /// This is expected from now on.
    pub fn set_expecting(&self, expecting: Expecting) {
        let opener = if expecting.from_backend { FROM_BACKEND } else { 0 };
        self.expecting.store(EXPECTING | opener | u32::from(expecting.port), Relaxed);
    }

    /// The control connection that has announced this one, and its ports.
    pub(super) fn master(&self) -> (Life, u32) {
        let life = Life { number: self.master_number.load(Relaxed), id: self.master_id.load(Relaxed) };
        (life, self.master_ports.load(Relaxed))
    }

    /// Who has announced this connection, which nobody else knows yet.
    pub fn set_master(&self, expectation: &Expectation) {
        let Expectation { master, control, .. } = expectation;
        let ports = u32::from(control.source.port()) << 16 | u32::from(control.destination.port());
        self.master_number.store(master.number, Relaxed);
        self.master_id.store(master.id, Relaxed);
        self.master_ports.store(ports, Relaxed);
    }
}

impl Stream {
    /// Whether a line is known to begin with this number.
    pub fn is_line_begin(&self, sequence: u32) -> bool {
        self.line_begins.iter().any(|begin| begin.load(Relaxed) == MARK | u64::from(sequence))
    }

    /// Whether a byte with this number was never sent on.
    pub fn is_new(&self, sequence: u32) -> bool {
        let sent = self.sent.load(Relaxed);
        sent & MARK == 0 || !is_behind(sent as u32, sequence)
    }

    /// Everything before `end` was sent on; a line begins there, or not.
    pub fn note_sent(&self, end: u32, begins_line: bool) {
        if self.is_new(end) {
            self.sent.store(MARK | u64::from(end), Relaxed);
        }
        if begins_line && !self.is_line_begin(end) {
            let [first, second] = &self.line_begins;
            let (one, other) = (first.load(Relaxed), second.load(Relaxed));
            let keeps_first = one & MARK != 0 && (other & MARK == 0 || is_behind(one as u32, other as u32));
            if keeps_first { second } else { first }.store(MARK | u64::from(end), Relaxed);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_one_owner_and_begins_anew() {
        let records = Extensions::new().unwrap();
        assert!(records.find(7).is_none());
        let first = records.attach(7).unwrap();
        first.set_expecting(Expecting { from_backend: true, port: 20 });
        first.stream(Direction::Reply).note_sent(1000, true);
        first.stream(Direction::Reply).edits.push((1000, 5), 1, (1, 1), 0).unwrap();
        let id = records.find(7).unwrap().id();
        records.release(7);
        assert!(records.find(7).is_none());
        let second = records.attach(7).unwrap();
        assert_ne!(second.id(), id, "another life");
        assert_eq!(second.expecting(), None);
        assert!(!second.stream(Direction::Reply).is_line_begin(1000) && second.stream(Direction::Reply).is_new(0));
        assert_eq!(second.stream(Direction::Reply).edits.offset_at(2000), 0);
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let records = Extensions::new().unwrap();
        // Numbers that lead to the same places.
        let numbers: Vec<u32> = (0..17).map(|at| 5 + at * (RECORDS / PLACES) as u32).collect();
        let attached: Vec<bool> = numbers.iter().map(|number| records.attach(*number).is_some()).collect();
        assert_eq!(attached, [vec![true; 16], vec![false]].concat());
        records.release(numbers[3]);
        assert!(records.attach(numbers[16]).is_some());
        assert!(numbers.iter().enumerate().all(|(at, number)| records.find(*number).is_some() == (at != 3)));
    }

    #[test]
    fn the_last_two_line_begins_are_known() {
        let stream = Stream::default();
        let known = |numbers: [u32; 4]| numbers.map(|number| stream.is_line_begin(number));
        assert_eq!(known([0; 4]), [false; 4], "nothing is known at first");
        stream.note_sent(u32::MAX - 1, true);
        stream.note_sent(10, true);
        stream.note_sent(15, false);
        assert_eq!(known([u32::MAX - 1, 10, 15, 0]), [true, true, false, false]);
        stream.note_sent(20, true);
        stream.note_sent(20, true);
        assert_eq!(known([u32::MAX - 1, 10, 20, 0]), [false, true, true, false]);
        assert_eq!([19, 20, 21].map(|number| stream.is_new(number)), [false, true, true]);
    }

    #[test]
    fn one_thread_at_a_time_replaces_text() {
        let record = Extension::default();
        assert_eq!(record.claim(|| record.claim(|| 1)), Some(None));
        assert_eq!(record.claim(|| 2), Some(2));
    }
}
