//! The choice of a source address and port toward a backend (`nf_nat_l4proto_unique_tuple`).
//!
//! What must be unique is the whole reply tuple, so every backend has all ports of all SNAT addresses to itself. A port is taken
//! exactly when the table has its reply tuple: there is no other record of it that counts. Candidates are tried in a circle from where the last choice
//! for this backend ended, so that a port that came free is used again as late as possible and the backend's own TIME_WAIT is over.

use super::home_port::Search;
use super::homes::Home;
use crate::conntrack::l4proto::{self, Wish};
use crate::conntrack::{Direction, Family, Millis, Reserved, Table, Tuple, Unconfirmed};
use crate::service::{Backend, SnatPool};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::slice::from_ref;

/// What became of the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// The connection has its reply tuple.
    Taken,
    /// It has one whose replies come in at another worker, because none at home was free.
    Away,
    /// Every address and port toward this backend is taken.
    Exhausted,
    /// The table has no room.
    TableFull,
}

/// After the whole circle was tried in vain, new connections are refused without trying for this long, in milliseconds: the search
/// costs about a millisecond, and a flood of SYNs to an exhausted backend must not stop the worker.
pub(super) const PAUSE: u32 = 20;

/// Candidates whose index lines are asked for ahead of the first one that is tried.
const AHEAD: u32 = 2;

/// Source addresses and ports to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Toward IPv4 backends.
    pub v4: &'a [Ipv4Addr],
    /// Toward IPv6 backends.
    pub v6: &'a [Ipv6Addr],
    /// Of each address.
    pub ports: &'a RangeInclusive<u16>,
}

impl<'a> From<&'a SnatPool> for Sources<'a> {
    fn from(pool: &'a SnatPool) -> Self {
        Self { v4: &pool.v4, v6: &pool.v6, ports: &pool.ports }
    }
}

impl<'a> Sources<'a> {
    /// Whether an address is the one at this place of those of its family; or the only one.
    pub(super) fn is_at(&self, place: usize, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => has_at(self.v4, place, &address),
            IpAddr::V6(address) => has_at(self.v6, place, &address),
        }
    }

    /// One address.
    pub fn only(address: &'a IpAddr, ports: &'a RangeInclusive<u16>) -> Self {
        match address {
            IpAddr::V4(address) => Self { v4: from_ref(address), v6: &[], ports },
            IpAddr::V6(address) => Self { v4: &[], v6: from_ref(address), ports },
        }
    }
}

fn has_at<T: PartialEq>(list: &[T], place: usize, one: &T) -> bool {
    match list {
        [only] => only == one,
        several => several.get(place) == Some(one),
    }
}

/// Gives `connection` the reply tuple of packets from `target` to `address` at the first of `ports` that is free.
pub fn first_free_tuple<F: Family>(
    table: &Table<F>,
    connection: &Unconfirmed<'_, F>,
    target: SocketAddr,
    address: IpAddr,
    mut ports: impl Iterator<Item = u16>,
) -> Allocation {
    let protocol = connection.entry.state().protocol();
    let tried = ports.find_map(|port| {
        let reply = Tuple::new(protocol, target, SocketAddr::new(address, port))?;
        match table.reserve(connection, &reply) {
            Reserved::Taken => Some(Allocation::Taken),
            Reserved::InUse => None,
            Reserved::Full => Some(Allocation::TableFull),
        }
    });
    tried.unwrap_or(Allocation::Exhausted)
}

/// Gives `connection` a reply tuple: packets from `target` (the backend) to a SNAT address and port that are free; of those at home, as long
/// as there are some.
pub fn unique_tuple<F: Family>(
    table: &Table<F>,
    connection: &Unconfirmed<'_, F>,
    (backend, target): (&Backend, SocketAddr),
    (snat, home): (Sources<'_>, Option<Home<'_>>),
    now: Millis,
) -> Allocation {
    let Some(home) = home else { return anywhere(table, connection, (backend, target), snat, now) };
    if backend.ports_exhausted((connection.entry.state().protocol(), target.port()), now, PAUSE) {
        return Allocation::Exhausted;
    }
    let search = Search { table, connection, target, snat, home: &home, number: home.turn().next(), now };
    if let Some(found) = search.at_home() {
        return found;
    }
    let found = search.away().unwrap_or_else(|| {
        let found = anywhere(table, connection, (backend, target), snat, now);
        if found == Allocation::Taken {
            home.note_taken(&connection.entry.tuple(Direction::Reply).view());
        }
        found
    });
    if found == Allocation::Taken { Allocation::Away } else { found }
}

/// The first that is free of all.
fn anywhere<F: Family>(
    table: &Table<F>,
    connection: &Unconfirmed<'_, F>,
    (backend, target): (&Backend, SocketAddr),
    snat: Sources<'_>,
    now: Millis,
) -> Allocation {
    let protocol = connection.entry.state().protocol();
    let original = connection.entry.tuple(Direction::Original).ports;
    let wish = Wish { original, target: target.port(), ports: snat.ports.clone() };
    let candidates = Candidates { backend: target, protocol, snat, choices: l4proto::choices(protocol, &wish), wish };
    let count = candidates.count();
    let toward = (protocol, target.port());
    // Where there is one choice an address, it says nothing about other connections that all of them are taken.
    let is_range = candidates.choices > 1;
    if count == 0 || is_range && backend.ports_exhausted(toward, now, PAUSE) {
        return Allocation::Exhausted;
    }
    // Each search goes round by itself: what other workers try meanwhile, perhaps for another protocol, is not tried for this connection.
    let first = backend.next_port_candidate() % count;
    for tried in 0..count {
        let number = around(first, tried, count);
        let Some(reply) = candidates.tuple::<F>(number) else { return Allocation::Exhausted };
        if let Some(later) = candidates.tuple::<F>(around(number, AHEAD, count)) {
            table.prefetch_tuple(&later);
        }
        match table.reserve(connection, &reply) {
            Reserved::Taken => {
                backend.skip_port_candidates(tried);
                return Allocation::Taken;
            }
            Reserved::InUse => {}
            Reserved::Full => return Allocation::TableFull,
        }
    }
    if is_range {
        backend.set_ports_exhausted(toward, now);
    }
    Allocation::Exhausted
}

/// The candidate `further` behind `number` in the circle of `count`.
fn around(number: u32, further: u32, count: u32) -> u32 {
    ((u64::from(number) + u64::from(further)) % u64::from(count)) as u32
}

/// All (address, port) pairs toward one backend, numbered; of protocols without ports, what they have instead.
struct Candidates<'a> {
    backend: SocketAddr,
    protocol: u8,
    snat: Sources<'a>,
    choices: u32,
    wish: Wish,
}

impl Candidates<'_> {
    fn addresses(&self) -> u32 {
        (if self.backend.is_ipv4() { self.snat.v4.len() } else { self.snat.v6.len() }) as u32
    }

    fn count(&self) -> u32 {
        self.addresses().saturating_mul(self.choices)
    }

    /// Neighbouring numbers differ in the address first: consecutive connections spread over all of them.
    fn tuple<F: Family>(&self, number: u32) -> Option<Tuple<F>> {
        let addresses = self.addresses();
        let (choice, at) = (number / addresses, (number % addresses) as usize);
        let address: IpAddr =
            if self.backend.is_ipv4() { (*self.snat.v4.get(at)?).into() } else { (*self.snat.v6.get(at)?).into() };
        let addresses = F::from_addresses(self.backend.ip(), address)?;
        Some(Tuple { addresses, ports: l4proto::unique_tuple(self.protocol, &self.wish, choice)?, protocol: self.protocol })
    }
}
