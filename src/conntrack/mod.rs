//! Connection tracking: tuples in two directions, entries, the lock-free table, states, timeouts, expiry.
//!
//! A connection is *new* while one worker alone knows it, and *confirmed* when its first packet leaves: then both its tuples are in the
//! index, and packets of either direction find it on any worker. It ends when it is silent for the timeout of its state or is killed:
//! *dying*, no packet finds it; the control thread takes it out of the index and frees it when nobody can be looking at it any more.

pub mod ftp;
pub mod l4proto;
pub mod seqadj;

mod account;
mod agenda;
mod atomic;
mod conncount;
mod cull;
mod departed;
mod early_drop;
mod entry;
mod event;
mod expect;
mod expire;
mod extension;
mod family;
mod floor;
mod fragment;
mod free_list;
mod hash;
mod ignored_syns;
mod index;
mod limbo;
mod orphan;
mod policy;
pub(crate) mod prefetch;
mod quiescence;
mod rate;
#[cfg(not(feature = "loom"))]
mod region;
#[cfg(feature = "loom")]
#[path = "region_modelled.rs"]
mod region;
mod table;
mod table_bytes;
mod template;
mod timeout;
mod tuple;
mod view;

pub use account::{Account, AccountView, Handshake};
pub use conncount::{ConnCount, Exceeded, Source, SourceLimits, SourceSettings};
pub use cull::{Court, Culled, Cursor, Glimpse, Parting, Sentence};
pub use early_drop::{Room, Spared};
pub use entry::{Direction, Entry, LAST_HOP, Owner, Side, State};
pub use event::{DestroyReason, Event, EventKind, Heard, Listener, Teller};
pub use expect::{Announced, EXPECT_TIMEOUT, Expectation, Expectations, MAX_EXPECTATIONS};
pub use expire::Swept;
pub use extension::{Expecting, Extension, Life, Stream};
pub use family::{Family, V4, V6};
pub use floor::Floor;
pub use fragment::{Datagram, Decision, FragmentLimits, Fragments, Known, Passed};
pub use free_list::Hoard;
pub use hash::{HashKey, LANES, Lanes, Words};
pub use l4proto::TcpState;
pub use policy::TimeoutPolicy;
pub use rate::{Rate, SharedBucket};
pub use table::{Confirmed, Found, Guess, Reserved, Table, Unconfirmed};
pub use table_bytes::TableBytes;
pub use template::{Persistent, Remembered, Templates};
pub use timeout::{MAX_TIMEOUT, Micros, Millis, Now, Timeouts, belongs_to};
pub use tuple::Tuple;
pub use view::{ConnectionView, TupleView};

use crossbeam_utils::CachePadded;
use event::Hub;
use expire::Sweep;
use quiescence::{Quiescence, Reader};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const TCP: u8 = 6;

/// All tracked connections, of both families; shared by every thread.
#[derive(Debug)]
pub struct Conntrack {
    v4: Table<V4>,
    v6: Table<V6>,
    fragments: Fragments,
    expectations: Expectations,
    conncount: ConnCount,
    templates: Templates,
    capacity: usize,
    quiescence: Arc<Quiescence>,
    events: Arc<Hub>,
    /// Of all threads without one of their own.
    teller: Teller,
    opened: CachePadded<AtomicU64>,
    closed: CachePadded<AtomicU64>,
    /// The control thread's; locked by nobody else, so never waited for.
    sweeps: Mutex<Sweeps>,
}

#[derive(Debug)]
struct Sweeps {
    reader: Reader,
    teller: Teller,
    v4: Sweep,
    v6: Sweep,
    in_v6: bool,
}

/// What one worker needs to walk and fill the tables.
#[derive(Debug)]
pub struct Walker {
    reader: Reader,
    /// Free IPv4 entries in hand.
    pub hoard_v4: Hoard,
    /// Free IPv6 entries in hand.
    pub hoard_v6: Hoard,
}

/// While it lives, nothing that its owner found is used for another connection. A worker drops it at the end of each burst.
#[derive(Debug)]
pub struct Visit<'a> {
    _inside: quiescence::Inside<'a>,
    /// Free IPv4 entries in hand.
    pub hoard_v4: &'a mut Hoard,
    /// Free IPv6 entries in hand.
    pub hoard_v6: &'a mut Hoard,
}

impl Walker {
    /// Begins a burst.
    #[inline]
    pub fn enter(&mut self) -> Visit<'_> {
        if self.hoard_v4.limbo.is_waiting() || self.hoard_v6.limbo.is_waiting() {
            self.settle_evicted();
        }
        Visit { _inside: self.reader.enter(), hoard_v4: &mut self.hoard_v4, hoard_v6: &mut self.hoard_v6 }
    }
}

impl Walker {
    /// Between two bursts of a full table: what was evicted may be used again if nobody looks at it any more.
    #[cold]
    #[inline(never)]
    fn settle_evicted(&mut self) {
        let quiescence = self.reader.quiescence();
        let (now, oldest) = (quiescence.retire(), quiescence.oldest());
        self.hoard_v4.limbo.settle(now, oldest);
        self.hoard_v6.limbo.settle(now, oldest);
    }
}

/// Which table a family's connections are in.
pub trait Tables<F: Family> {
    /// The table.
    fn table(&self) -> &Table<F>;
}

impl Tables<V4> for Conntrack {
    #[inline(always)]
    fn table(&self) -> &Table<V4> {
        &self.v4
    }
}

impl Tables<V6> for Conntrack {
    #[inline(always)]
    fn table(&self) -> &Table<V6> {
        &self.v6
    }
}

impl Conntrack {
    /// Room for `max_connections` of each family (1 to [`Table::MAX_CONNECTIONS`]); memory is touched only as connections come.
    pub fn new(max_connections: usize) -> io::Result<Self> {
        Self::with_key(max_connections, HashKey::random())
    }

    /// As [`Conntrack::new`], with a given hash key: replays come out the same each time.
    pub fn with_key(max_connections: usize, key: HashKey) -> io::Result<Self> {
        let (quiescence, events) = (Quiescence::new(), Hub::new());
        // The first of many places: it is free.
        let reader = quiescence.reader().ok_or(io::ErrorKind::QuotaExceeded)?;
        let sweeps = Sweeps { reader, teller: events.teller(), v4: Sweep::default(), v6: Sweep::default(), in_v6: false };
        Ok(Self {
            v4: Table::new(max_connections, key)?,
            v6: Table::new(max_connections, key)?,
            fragments: Fragments::new(FragmentLimits::default(), key),
            expectations: Expectations::default(),
            conncount: ConnCount::default(),
            templates: Templates::new(SourceSettings::default().templates),
            capacity: max_connections,
            quiescence,
            teller: events.teller(),
            events,
            opened: CachePadded::default(),
            closed: CachePadded::default(),
            sweeps: Mutex::new(sweeps),
        })
    }

    /// With an account of each connection: packets, bytes, times. Costs a cache line more for each, in memory and for every packet.
    pub fn with_accounts(mut self) -> io::Result<Self> {
        self.v4.keep_accounts()?;
        self.v6.keep_accounts()?;
        Ok(self)
    }

    /// With all memory taken now, so that no worker waits for a page of it.
    ///
    /// # Errors
    /// When there is not so much memory; when the kernel cannot do it (Linux before 5.14).
    pub fn populated(self) -> io::Result<Self> {
        self.v4.populate()?;
        self.v6.populate()?;
        Ok(self)
    }

    /// With other room for fragments than [`FragmentLimits::default`].
    pub fn with_fragments(mut self, limits: FragmentLimits) -> Self {
        self.fragments = Fragments::new(limits, *self.v4.key());
        self
    }

    /// The datagrams that are on their way in pieces.
    pub fn fragments(&self) -> &Fragments {
        &self.fragments
    }

    /// What control connections have announced.
    pub fn expectations(&self) -> &Expectations {
        &self.expectations
    }

    /// What is expected from `source` at `destination`, unless its control connection has ended. The caller is inside.
    pub fn find_expectation(&self, source: IpAddr, destination: SocketAddr, now: Millis) -> Option<Expectation> {
        self.expectations.find(source, destination, now).filter(|found| self.has_master(found))
    }

    /// All that is expected by connections that live.
    pub fn list_expectations(&self) -> Vec<Expectation> {
        let Some(reader) = self.quiescence.reader() else { return Vec::new() };
        let mut expected = self.expectations.list();
        let _inside = reader.enter();
        expected.retain(|expectation| self.has_master(expectation));
        expected
    }

    /// What is expected from `source` at `destination`, for who only asks.
    pub fn expects(&self, source: IpAddr, destination: SocketAddr) -> Option<Expectation> {
        self.list_expectations().into_iter().find(|expected| (expected.source, expected.destination) == (source, destination))
    }

    fn has_master(&self, expectation: &Expectation) -> bool {
        let master = expectation.master;
        if expectation.source.is_ipv4() { self.v4.is_alive(master) } else { self.v6.is_alive(master) }
    }

    /// Bytes of memory of both tables when every page of them is in use, and of the table of fragmented datagrams.
    pub fn bytes(&self) -> usize {
        self.v4.bytes().total() + self.v6.bytes().total() + self.fragments.bytes()
    }

    /// Connections of each family that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Connections that are confirmed now, of both families.
    pub fn count(&self) -> usize {
        let closed = self.closed.load(Relaxed);
        self.opened.load(Relaxed).saturating_sub(closed) as usize
    }

    /// Places of connections that have ended and are not free yet, of both families.
    pub fn ending(&self) -> usize {
        self.v4.departed.count() + self.v6.departed.count()
    }

    /// A worker tells how many connections it has confirmed, once a burst.
    #[inline]
    pub fn opened(&self, connections: u64) {
        if connections > 0 {
            self.opened.fetch_add(connections, Relaxed);
        }
    }

    /// A worker tells how many connections it has ended, once a burst.
    #[inline]
    pub fn ended(&self, connections: u64) {
        if connections > 0 {
            self.closed.fetch_add(connections, Relaxed);
        }
    }

    /// Where a worker tells what happens to connections.
    pub fn teller(&self) -> Teller {
        self.events.teller()
    }

    /// From now on everything that happens to connections can be heard; `None`: eight listen already.
    pub fn listen(&self) -> Option<Listener> {
        self.events.listen()
    }

    /// The means to walk the tables, for one thread; `None` when 127 threads already have them.
    pub fn walker(&self) -> Option<Walker> {
        Some(Walker { reader: self.quiescence.reader()?, hoard_v4: Hoard::default(), hoard_v6: Hoard::default() })
    }

    /// Calls `each` with a copy of every live connection, while workers go on. A connection that lives from the beginning of the
    /// call to its end is seen exactly once.
    pub fn for_each(&self, timeouts: &TimeoutPolicy, each: &mut dyn FnMut(&ConnectionView)) {
        walk(&self.v4, &self.quiescence, &mut |number| self.v4.view(number, timeouts), each);
        walk(&self.v6, &self.quiescence, &mut |number| self.v6.view(number, timeouts), each);
    }

    /// The live connection that a packet of `protocol` from `source` to `destination` belongs to, and its direction.
    pub fn find(
        &self,
        protocol: u8,
        source: SocketAddr,
        destination: SocketAddr,
        timeouts: &TimeoutPolicy,
    ) -> Option<(ConnectionView, Direction)> {
        let reader = self.quiescence.reader()?;
        let _inside = reader.enter();
        find_in(&self.v4, protocol, source, destination, timeouts)
            .or_else(|| find_in(&self.v6, protocol, source, destination, timeouts))
    }

    /// Ends the connection that a packet of its client has this tuple of. `false`: there is none.
    pub fn delete(&self, (protocol, source, destination): Flow, now: Millis, timeouts: &TimeoutPolicy) -> bool {
        let Some(reader) = self.quiescence.reader() else { return false };
        let _inside = reader.enter();
        self.delete_in(&self.v4, (protocol, source, destination), now, timeouts)
            || self.delete_in(&self.v6, (protocol, source, destination), now, timeouts)
    }

    fn delete_in<F: Family>(&self, table: &Table<F>, flow: Flow, now: Millis, timeouts: &TimeoutPolicy) -> bool {
        let (protocol, source, destination) = flow;
        let Some(tuple) = Tuple::new(protocol, source, destination) else { return false };
        let from_client =
            |found: &Found<'_, F>| (found.direction == Direction::Reply) == found.entry.state().has(State::FROM_BACKEND);
        let found = table.look_up(table.hash(&tuple), &tuple).filter(from_client);
        found.is_some_and(|found| self.end(table, found.number(), (DestroyReason::Deleted, now, timeouts)))
    }

    /// Ends every connection for which `doomed` says yes, while workers go on. How many there were.
    pub fn end_where(
        &self,
        reason: DestroyReason,
        now: Millis,
        timeouts: &TimeoutPolicy,
        doomed: &mut dyn FnMut(&ConnectionView) -> bool,
    ) -> u64 {
        let why = (reason, now, timeouts);
        let mut ended = 0;
        let mut count = |was_one: &bool| ended += u64::from(*was_one);
        let mut end_v4 = |number| doomed(&self.v4.view(number, timeouts)) && self.end(&self.v4, number, why);
        walk(&self.v4, &self.quiescence, &mut end_v4, &mut count);
        let mut end_v6 = |number| doomed(&self.v6.view(number, timeouts)) && self.end(&self.v6, number, why);
        walk(&self.v6, &self.quiescence, &mut end_v6, &mut count);
        ended
    }

    /// `false`: someone else did.
    fn end<F: Family>(&self, table: &Table<F>, number: u32, why: (DestroyReason, Millis, &TimeoutPolicy)) -> bool {
        let (reason, now, timeouts) = why;
        let ended = table.kill_number(number);
        if ended {
            self.ended(1);
            if self.teller.is_heard() {
                self.teller.tell(EventKind::Destroy(reason), now, table.view(number, timeouts));
            }
        }
        ended
    }
}

fn find_in<F: Family>(
    table: &Table<F>,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
    timeouts: &TimeoutPolicy,
) -> Option<(ConnectionView, Direction)> {
    let tuple = Tuple::new(protocol, source, destination)?;
    let found = table.look_up(table.hash(&tuple), &tuple)?;
    Some((table.view(found.number(), timeouts), found.direction))
}

/// Shows every live entry to `look`, while workers go on, and what it makes of them to `each`.
fn walk<F: Family, T>(table: &Table<F>, quiescence: &Arc<Quiescence>, look: &mut dyn FnMut(u32) -> T, each: &mut dyn FnMut(&T)) {
    /// Entries looked at in one visit: short, so that a slow receiver of the list holds up no freeing.
    const STEP: usize = 512;
    let Some(reader) = quiescence.reader() else { return };
    let mut seen = Vec::with_capacity(STEP);
    for first in table.numbers().step_by(STEP) {
        let inside = reader.enter();
        let end = first.saturating_add(STEP as u32).min(table.numbers().end);
        let live = (first..end).filter(|number| table.entry(*number).state().is_live());
        seen.extend(live.map(&mut *look));
        drop(inside);
        seen.drain(..).for_each(|seen| each(&seen));
    }
}

/// Protocol, source and destination of a packet.
pub type Flow = (u8, SocketAddr, SocketAddr);

/// Why a connection in this state leaves when nobody made it leave.
pub fn natural_end(state: State) -> DestroyReason {
    match state.tcp() {
        TcpState::TimeWait if state.protocol() == TCP => DestroyReason::Closed,
        TcpState::Close if state.protocol() == TCP => DestroyReason::Reset,
        _ if state.protocol() != TCP && l4proto::can_early_drop(state) => DestroyReason::Closed,
        _ => DestroyReason::Timeout,
    }
}

/// Milliseconds of silence that a connection in this state may last.
pub fn timeout_of<F: Family>(entry: &Entry<F>, state: State, timeouts: &TimeoutPolicy) -> u32 {
    l4proto::timeouts(entry, state, timeouts.of(entry.owner().service))
}

#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;

#[cfg(all(test, feature = "loom"))]
mod loom_models;
