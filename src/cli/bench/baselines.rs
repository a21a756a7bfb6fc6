//! The same established connections in weir's table and in what others would take: who a packet belongs to, what its other side is, and when it
//! was last seen.

use super::flows::{BACKENDS, FIRST_BACKEND, FIRST_SNAT, PORT, VIP, client};
use crate::conntrack::{
    Confirmed, Conntrack, Direction, Guess, LANES, Millis, Owner, Reserved, State, Table, TableBytes, Tables, TcpState, Tuple,
    V4, Walker,
};
use crate::datapath::BURST;
use anyhow::{Context, ensure};
use dashmap::DashMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What is looked up: the two words that weir hashes, addresses and ports above the protocol. The maps hash them with the standard library's
/// hasher, which is SipHash-1-3 under a random key as weir's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

impl Key {
    fn of(tuple: &Tuple<V4>) -> Self {
        Self(tuple.addresses, u64::from(tuple.ports) << 8 | u64::from(tuple.protocol))
    }

    fn tuple(self) -> Tuple<V4> {
        Tuple { addresses: self.0, ports: (self.1 >> 8) as u32, protocol: self.1 as u8 }
    }
}

/// A table with established connections.
pub(super) trait Established {
    /// Finds the connection of each packet, reads what the packet's addresses become, and notes that it was seen. How many were found, and a
    /// sum that depends on all that was read.
    fn touch(&mut self, burst: &[Key; BURST], now: Millis) -> (usize, u64);
}

/// What packets of connection number `flow` look like as they come from the client, and from the backend.
pub(super) fn keys(flow: usize) -> [Key; 2] {
    let (address, port) = client(flow);
    let (backend, number) = (flow as u32 % u32::from(BACKENDS), flow as u32 / u32::from(BACKENDS));
    let (snat, snat_port) = (FIRST_SNAT + number / SNAT_PORTS, 1024 + number % SNAT_PORTS);
    let key = |source: u32, destination: u32, ports: (u32, u32)| {
        Key(u64::from(source) << 32 | u64::from(destination), u64::from(ports.0 << 16 | ports.1) << 8 | 6)
    };
    [key(address, VIP, (port.into(), PORT.into())), key(FIRST_BACKEND + backend, snat, (8443, snat_port))]
}

const SNAT_PORTS: u32 = 64_512;

/// weir's own table, asked as the datapath asks it: in passes over the burst, sixteen lines at a time.
pub(super) struct Weir {
    conntrack: Arc<Conntrack>,
    walker: Walker,
}

/// As in the datapath.
const GROUP: usize = 16;

impl Weir {
    pub(super) fn new(flows: usize) -> anyhow::Result<Self> {
        let conntrack = Conntrack::new(flows)?.populated()?;
        let mut walker = conntrack.walker().context("no place for a worker in a new table")?;
        let (table, state): (&Table<V4>, _) = (conntrack.table(), State::new(6, TcpState::Established));
        let visit = walker.enter();
        for flow in 0..flows {
            let [original, reply] = keys(flow).map(Key::tuple);
            let hash = table.hash(&original);
            let opened = table.open(visit.hoard_v4, &original, hash, Owner::default(), state, Millis(1)).context("no room")?;
            ensure!(table.reserve(&opened, &reply) == Reserved::Taken, "a reply tuple is in use");
            ensure!(matches!(table.confirm(opened), Confirmed::Placed(_)), "a connection is there already");
        }
        drop(visit);
        Ok(Self { conntrack: Arc::new(conntrack), walker })
    }

    /// For a floor of the same size.
    pub(super) fn bytes(&self) -> TableBytes {
        Tables::<V4>::table(&*self.conntrack).bytes()
    }
}

impl Established for Weir {
    fn touch(&mut self, burst: &[Key; BURST], now: Millis) -> (usize, u64) {
        let table: &Table<V4> = self.conntrack.table();
        let _visit = self.walker.enter();
        let mut hashes = [0; BURST];
        for (keys, hashes) in burst.chunks_exact(GROUP).zip(hashes.chunks_exact_mut(GROUP)) {
            for (keys, hashes) in keys.as_chunks::<LANES>().0.iter().zip(hashes.as_chunks_mut::<LANES>().0) {
                table.key().hash_lanes([&keys.map(|key| key.0), &keys.map(|key| key.1)], hashes);
            }
            hashes.iter().for_each(|hash| table.prefetch_bucket(*hash));
        }
        let mut guesses = [Guess::default(); BURST];
        for (hashes, guesses) in hashes.chunks_exact(GROUP).zip(guesses.chunks_exact_mut(GROUP)) {
            for (hash, guess) in hashes.iter().zip(guesses.iter_mut()) {
                *guess = table.guess(*hash);
            }
            guesses.iter().for_each(|guess| table.prefetch_entry(*guess));
        }
        let (mut count, mut sum) = (0, 0u64);
        for ((key, hash), guess) in burst.iter().zip(hashes).zip(guesses) {
            if let Some(found) = table.find(hash, guess, &key.tuple()) {
                sum = sum.wrapping_add(Key::of(&found.entry.tuple(found.direction.turned())).sum());
                found.entry.touch(now);
                count += 1;
            }
        }
        (count, sum)
    }
}

impl Key {
    fn sum(self) -> u64 {
        self.0.wrapping_add(self.1)
    }
}

/// What a map leads to: a cache line for each connection, as in weir. The maps hold its number and the packet's direction.
#[repr(align(64))]
struct Connection {
    keys: [Key; 2],
    /// Relaxed, always: it publishes nothing.
    last_seen: AtomicU32,
}

/// The connections of all maps.
pub(super) struct Connections(Vec<Connection>);

impl Connections {
    pub(super) fn new(flows: usize) -> Self {
        Self((0..flows).map(|flow| Connection { keys: keys(flow), last_seen: AtomicU32::new(1) }).collect())
    }

    /// Both keys of each, and what a map has under it.
    fn items(&self) -> impl Iterator<Item = (Key, u32)> {
        let numbered = self.0.iter().zip(0u32..);
        numbered.flat_map(|(connection, number)| {
            [Direction::Original, Direction::Reply]
                .map(|direction| (connection.keys[direction as usize], number << 1 | direction as u32))
        })
    }

    /// Both of what each packet led to.
    fn touch(&self, found: impl Iterator<Item = Option<u32>>, now: Millis) -> (usize, u64) {
        let (mut count, mut sum) = (0, 0u64);
        for handle in found.flatten() {
            let connection = &self.0[(handle >> 1) as usize];
            sum = sum.wrapping_add(connection.keys[(handle & 1 ^ 1) as usize].sum());
            connection.last_seen.store(now.0, Relaxed);
            count += 1;
        }
        (count, sum)
    }
}

/// A map of many locks.
pub(super) struct Dash(DashMap<Key, u32>, Arc<Connections>);

impl Dash {
    pub(super) fn new(connections: &Arc<Connections>) -> Self {
        let map = DashMap::with_capacity(2 * connections.0.len());
        for (key, handle) in connections.items() {
            map.insert(key, handle);
        }
        Self(map, Arc::clone(connections))
    }
}

impl Established for Dash {
    fn touch(&mut self, burst: &[Key; BURST], now: Millis) -> (usize, u64) {
        self.1.touch(burst.iter().map(|key| self.0.get(key).map(|handle| *handle)), now)
    }
}

/// A map without locks; pinned once a burst.
pub(super) struct Papaya(papaya::HashMap<Key, u32>, Arc<Connections>);

impl Papaya {
    pub(super) fn new(connections: &Arc<Connections>) -> Self {
        let map = papaya::HashMap::with_capacity(2 * connections.0.len());
        let pinned = map.pin();
        for (key, handle) in connections.items() {
            pinned.insert(key, handle);
        }
        drop(pinned);
        Self(map, Arc::clone(connections))
    }
}

impl Established for Papaya {
    fn touch(&mut self, burst: &[Key; BURST], now: Millis) -> (usize, u64) {
        let pinned = self.0.pin();
        self.1.touch(burst.iter().map(|key| pinned.get(key).copied()), now)
    }
}

/// A map behind one lock; locked once a burst.
pub(super) struct Locked(Mutex<HashMap<Key, u32>>, Arc<Connections>);

impl Locked {
    pub(super) fn new(connections: &Arc<Connections>) -> Self {
        let mut map = HashMap::with_capacity(2 * connections.0.len());
        map.extend(connections.items());
        Self(Mutex::new(map), Arc::clone(connections))
    }
}

impl Established for Locked {
    fn touch(&mut self, burst: &[Key; BURST], now: Millis) -> (usize, u64) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.1.touch(burst.iter().map(|key| map.get(key).copied()), now)
    }
}
