//! Connection tracking: tuples in two directions, entries, the lock-free table, states, timeouts, expiry.
//!
//! A connection is *new* while one worker alone knows it, and *confirmed* when its first packet leaves: then both its tuples are in the
//! index, and packets of either direction find it on any worker. It ends when it is silent for the timeout of its state or is killed:
//! *dying*, no packet finds it; the control thread takes it out of the index and frees it when nobody can be looking at it any more.

pub mod l4proto;

mod account;
mod entry;
mod expire;
mod family;
mod floor;
mod free_list;
mod hash;
mod index;
pub(crate) mod prefetch;
mod quiescence;
mod region;
mod table;
mod timeout;
mod tuple;
mod view;

pub use account::{Account, AccountView, Handshake};
pub use entry::{Direction, Entry, Owner, State};
pub use expire::Swept;
pub use family::{Family, V4, V6};
pub use floor::Floor;
pub use free_list::Hoard;
pub use hash::{HashKey, LANES, Words};
pub use l4proto::TcpState;
pub use table::{Confirmed, Found, Guess, Reserved, Table, TableBytes, Unconfirmed};
pub use timeout::{MAX_TIMEOUT, Micros, Millis, Now, Timeouts};
pub use tuple::Tuple;
pub use view::{ConnectionView, TupleView};

use crossbeam_utils::CachePadded;
use expire::Sweep;
use quiescence::{Quiescence, Reader};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

const TCP: u8 = 6;

/// All tracked connections, of both families; shared by every thread.
#[derive(Debug)]
pub struct Conntrack {
    v4: Table<V4>,
    v6: Table<V6>,
    capacity: usize,
    quiescence: Arc<Quiescence>,
    opened: CachePadded<AtomicU64>,
    closed: CachePadded<AtomicU64>,
    /// The control thread's; locked by nobody else, so never waited for.
    sweeps: Mutex<Sweeps>,
}

#[derive(Debug, Default)]
struct Sweeps {
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
        Visit { _inside: self.reader.enter(), hoard_v4: &mut self.hoard_v4, hoard_v6: &mut self.hoard_v6 }
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
        Ok(Self {
            v4: Table::new(max_connections, key)?,
            v6: Table::new(max_connections, key)?,
            capacity: max_connections,
            quiescence: Quiescence::new(),
            opened: CachePadded::default(),
            closed: CachePadded::default(),
            sweeps: Mutex::default(),
        })
    }

    /// With an account of each connection: packets, bytes, times. Costs a cache line more for each, in memory and for every packet.
    pub fn with_accounts(mut self) -> io::Result<Self> {
        self.v4.keep_accounts()?;
        self.v6.keep_accounts()?;
        Ok(self)
    }

    /// Bytes of memory of both tables when every page of them is in use.
    pub fn bytes(&self) -> usize {
        self.v4.bytes().total() + self.v6.bytes().total()
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

    /// A worker tells how many connections it has confirmed, once a burst.
    #[inline]
    pub fn opened(&self, connections: u64) {
        if connections > 0 {
            self.opened.fetch_add(connections, Relaxed);
        }
    }

    /// The means to walk the tables, for one thread; `None` when 128 threads already have them.
    pub fn walker(&self) -> Option<Walker> {
        Some(Walker { reader: self.quiescence.reader()?, hoard_v4: Hoard::default(), hoard_v6: Hoard::default() })
    }

    /// Calls `each` with a copy of every live connection, while workers go on. A connection that lives from the beginning of the
    /// call to its end is seen exactly once.
    pub fn for_each(&self, timeouts: &Timeouts, each: &mut dyn FnMut(&ConnectionView)) {
        self.for_each_of(&self.v4, timeouts, each);
        self.for_each_of(&self.v6, timeouts, each);
    }

    fn for_each_of<F: Family>(&self, table: &Table<F>, timeouts: &Timeouts, each: &mut dyn FnMut(&ConnectionView)) {
        /// Entries looked at in one visit: short, so that a slow receiver of the list holds up no freeing.
        const STEP: usize = 1024;
        let Some(reader) = self.quiescence.reader() else { return };
        let mut views = Vec::new();
        for first in table.numbers().step_by(STEP) {
            let inside = reader.enter();
            let end = first.saturating_add(STEP as u32).min(table.numbers().end);
            let live = (first..end).filter(|number| table.entry(*number).state().is_live());
            views.extend(live.map(|number| expire::view(table, number, timeouts)));
            drop(inside);
            views.drain(..).for_each(|view| each(&view));
        }
    }

    /// The live connection that a packet of `protocol` from `source` to `destination` belongs to, and its direction.
    pub fn find(
        &self,
        protocol: u8,
        source: SocketAddr,
        destination: SocketAddr,
        timeouts: &Timeouts,
    ) -> Option<(ConnectionView, Direction)> {
        let reader = self.quiescence.reader()?;
        let _inside = reader.enter();
        find_in(&self.v4, protocol, source, destination, timeouts)
            .or_else(|| find_in(&self.v6, protocol, source, destination, timeouts))
    }

    /// Ends the connection that has this original tuple. `false`: there is none.
    pub fn delete(&self, protocol: u8, source: SocketAddr, destination: SocketAddr) -> bool {
        let Some(reader) = self.quiescence.reader() else { return false };
        let _inside = reader.enter();
        delete_in(&self.v4, protocol, source, destination) || delete_in(&self.v6, protocol, source, destination)
    }

    /// One step of expiry, the control thread's alone: looks at up to `budget` entries, removes those whose time is over,
    /// frees what no worker can see any more, and calls `closed` once for every connection that left.
    pub fn sweep(&self, now: Millis, timeouts: &Timeouts, budget: usize, closed: &mut dyn FnMut(&ConnectionView)) -> Swept {
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = (now, timeouts);
        let mut swept = if sweeps.in_v6 {
            sweeps.v6.step(&self.v6, &self.quiescence, clock, budget, closed)
        } else {
            sweeps.v4.step(&self.v4, &self.quiescence, clock, budget, closed)
        };
        self.closed.fetch_add(swept.expired as u64, Relaxed);
        if swept.wrapped {
            sweeps.in_v6 = !sweeps.in_v6;
            swept.wrapped = !sweeps.in_v6;
        }
        swept
    }
}

fn find_in<F: Family>(
    table: &Table<F>,
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
    timeouts: &Timeouts,
) -> Option<(ConnectionView, Direction)> {
    let tuple = Tuple::new(protocol, source, destination)?;
    let found = table.look_up(table.hash(&tuple), &tuple)?;
    Some((expire::view(table, Table::number(&found), timeouts), found.direction))
}

fn delete_in<F: Family>(table: &Table<F>, protocol: u8, source: SocketAddr, destination: SocketAddr) -> bool {
    let Some(tuple) = Tuple::new(protocol, source, destination) else { return false };
    let found = table.look_up(table.hash(&tuple), &tuple);
    found.is_some_and(|found| found.direction == Direction::Original && table.kill(found.entry))
}

/// Milliseconds of silence that a connection in this state may last.
pub fn timeout_of(state: State, timeouts: &Timeouts) -> u32 {
    l4proto::timeouts(state, timeouts)
}

#[cfg(test)]
mod tests;
