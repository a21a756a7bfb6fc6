//! Homes: where the queues of the cards are known beforehand, each worker takes SNAT ports whose replies come in at its own queues.
//!
//! The control thread makes them anew when the config, a card's key or its table changes, and swaps them whole. What is taken of the ports
//! ([`TakenPorts`]) and where searches go on ([`Turns`]) is handed on from one to the next.

use super::spread::{Pattern, Spread, TCP, UDP};
use super::taken_ports::TakenPorts;
use super::turns::{Turn, Turns};
use crate::conntrack::{ConnectionView, TupleView};
use crate::service::{BackendId, SnatPool};
use foldhash::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Most bitmaps of ports, 8 KiB and 128 bytes a worker each; toward backends beyond that ports are found by trying.
pub const MAPS: usize = 8192;

/// Protocols whose ports cards hash.
const PROTOCOLS: [u8; 2] = [TCP, UDP];

/// Of all interfaces and backends.
#[derive(Debug, Default)]
pub struct Homes {
    workers: usize,
    /// By interface; `None`: it cannot be foretold.
    spreads: Vec<Option<Arc<Spread>>>,
    /// By [`BackendId`]; `None`: no service leads there.
    toward: Vec<Option<Toward>>,
    /// By target, not by backend: two pools may have the same one, and who ends a connection knows no more than its tuple.
    maps: HashMap<Key, Arc<TakenPorts>>,
    unmapped: usize,
}

/// A backend's address and port, a SNAT address, and the place of a protocol in [`PROTOCOLS`].
type Key = (SocketAddr, IpAddr, usize);

/// Toward one backend.
#[derive(Debug)]
pub(super) struct Toward {
    target: SocketAddr,
    /// In the order of the config.
    pub(super) sources: Box<[Source]>,
    turns: Arc<Turns>,
}

/// Connections from one SNAT address to one backend.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) address: IpAddr,
    /// By interface: the hash of what the two addresses give.
    hashes: Box<[u32]>,
    /// By interface and protocol: the hash of packets from the backend's own port to port 0.
    own_hashes: Box<[[u32; 2]]>,
    /// By protocol, see [`PROTOCOLS`].
    taken: [Option<Arc<TakenPorts>>; 2],
}

/// A backend and which protocols services have there: TCP, UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Its id.
    pub backend: BackendId,
    /// Its address.
    pub target: SocketAddr,
    /// Whether some service of TCP leads there, and of UDP.
    pub protocols: [bool; 2],
}

/// Where one worker may look for a port for one connection.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    pub(super) worker: usize,
    pub(super) toward: &'a Toward,
    pub(super) pattern: &'a Pattern,
    homes: &'a Homes,
    spread: &'a Spread,
    interface: usize,
    protocol: u8,
    /// The connection goes to the backend's own port: the place of its protocol in [`PROTOCOLS`].
    own: Option<usize>,
}

impl Homes {
    /// For so many workers. `spreads` are by interface; of `before` what is taken is kept.
    pub fn new(
        workers: usize,
        spreads: Vec<Option<Arc<Spread>>>,
        snat: &SnatPool,
        served: &[Served],
        before: Option<&Self>,
    ) -> Self {
        let mut homes = Self { workers, spreads, ..Self::default() };
        for one in served {
            let at = usize::from(one.backend.0);
            let toward = homes.toward(one, snat, before);
            if homes.toward.len() <= at {
                homes.toward.resize_with(at + 1, || None);
            }
            homes.toward[at] = Some(toward);
        }
        homes
    }

    fn toward(&mut self, served: &Served, snat: &SnatPool, before: Option<&Self>) -> Toward {
        let Served { backend, target, protocols } = *served;
        let addresses = snat.addresses().filter(|address| address.is_ipv4() == target.is_ipv4());
        let sources = addresses.map(|address| {
            let hash =
                |spread: &Option<Arc<Spread>>| spread.as_ref().map_or(0, |spread| spread.hash_addresses(target.ip(), address));
            let hashes: Box<[u32]> = self.spreads.iter().map(hash).collect();
            let own_hashes =
                self.spreads.iter().zip(&hashes).map(|(spread, hash)| own_hashes(spread.as_deref(), *hash, target)).collect();
            let taken = [0, 1].map(|at| if protocols[at] { self.map((target, address, at), snat, before) } else { None });
            Source { address, hashes, own_hashes, taken }
        });
        let sources = sources.collect();
        let known = before.and_then(|before| before.toward.get(usize::from(backend.0))?.as_ref());
        let turns = known.filter(|known| known.turns.workers() == self.workers).map(|known| Arc::clone(&known.turns));
        Toward { target, sources, turns: turns.unwrap_or_else(|| Arc::new(Turns::new(self.workers, &snat.ports))) }
    }

    fn map(&mut self, key: Key, snat: &SnatPool, before: Option<&Self>) -> Option<Arc<TakenPorts>> {
        if let Some(map) = self.maps.get(&key) {
            return Some(Arc::clone(map));
        }
        if self.maps.len() == MAPS {
            self.unmapped += 1;
            return None;
        }
        let known = before.and_then(|before| before.maps.get(&key)).filter(|known| known.workers() == self.workers);
        let map = known.map_or_else(|| Arc::new(TakenPorts::new(self.workers, &snat.ports)), Arc::clone);
        self.maps.insert(key, Arc::clone(&map));
        Some(map)
    }

    /// Bytes of memory of the notes of taken ports: 8 KiB, and 128 bytes a worker, for each backend, SNAT address and protocol, up to [`MAPS`].
    pub fn bytes(&self) -> usize {
        self.maps.values().map(|map| map.bytes()).sum()
    }

    /// Combinations of backend, SNAT address and protocol beyond [`MAPS`].
    pub fn unmapped(&self) -> usize {
        self.unmapped
    }

    /// Where this worker looks for a port toward `target`, an address and port of a backend, for a packet that leaves by an interface. `None`:
    /// where replies come in is not known.
    #[inline]
    pub fn find(
        &self,
        worker: usize,
        backend: BackendId,
        target: SocketAddr,
        protocol: u8,
        interface: usize,
    ) -> Option<Home<'_>> {
        let toward = self.toward.get(usize::from(backend.0))?.as_ref().filter(|toward| toward.target.ip() == target.ip())?;
        let spread = self.spreads.get(interface)?.as_deref()?;
        let pattern = spread.pattern(target.is_ipv4(), protocol)?;
        let own = place(protocol).filter(|_| toward.target.port() == target.port());
        let home = Home { worker, toward, pattern, homes: self, spread, interface, protocol, own };
        (worker < self.workers).then_some(home)
    }

    /// A connection has left the table, or is about to: its port may be taken.
    pub fn release(&self, connection: &ConnectionView) {
        self.release_reply(connection.protocol, &connection.reply);
    }

    /// As [`Homes::release`], by the tuple backend → SNAT address.
    pub fn release_reply(&self, protocol: u8, reply: &TupleView) {
        if let Some(taken) = self.taken(protocol, reply) {
            taken.release(reply.destination.port());
        }
    }

    /// The port of a tuple backend → SNAT address is taken, so that nobody tries it.
    pub fn note_taken(&self, protocol: u8, reply: &TupleView) {
        if let Some(taken) = self.taken(protocol, reply) {
            taken.claim(reply.destination.port());
        }
    }

    fn taken(&self, protocol: u8, reply: &TupleView) -> Option<&Arc<TakenPorts>> {
        self.maps.get(&(reply.source, reply.destination.ip(), place(protocol)?))
    }
}

fn own_hashes(spread: Option<&Spread>, addresses: u32, target: SocketAddr) -> [u32; 2] {
    let hash = |protocol: u8| Some(spread?.hash_to_port_0(spread?.pattern(target.is_ipv4(), protocol)?, addresses, target));
    PROTOCOLS.map(|protocol| hash(protocol).unwrap_or(0))
}

/// That of a protocol in [`PROTOCOLS`].
#[inline(always)]
fn place(protocol: u8) -> Option<usize> {
    PROTOCOLS.iter().position(|known| *known == protocol)
}

impl Home<'_> {
    /// Where this worker's searches toward this backend go on.
    #[inline]
    pub(super) fn turn(&self) -> &Turn {
        self.toward.turns.of(self.worker)
    }

    /// The hash of a reply of `target` to port 0 of a SNAT address.
    #[inline]
    pub(super) fn hash_to_port_0(&self, source: &Source, target: SocketAddr) -> u32 {
        match self.own {
            Some(protocol) => source.own_hashes[self.interface][protocol],
            None => self.spread.hash_to_port_0(self.pattern, source.hashes[self.interface], target),
        }
    }

    /// Notes a port that was found without looking at what is taken.
    pub(super) fn note_taken(&self, reply: &TupleView) {
        self.homes.note_taken(self.protocol, reply);
    }

    /// What is known to be taken of a SNAT address; `None`: nothing is, for services on every port.
    #[inline]
    pub(super) fn taken<'a>(&self, source: &'a Source) -> Option<&'a TakenPorts> {
        source.taken[self.own?].as_deref()
    }
}
