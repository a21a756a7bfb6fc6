//! Homes: where the queues of the cards are known beforehand, each worker takes SNAT ports whose replies come in at its own queues.
//!
//! The control thread makes them anew when the config, a card's key or its table changes, and swaps them whole. What is taken of the ports
//! ([`TakenPorts`]) goes on from one to the next.

use super::spread::{Pattern, Spread};
use super::taken_ports::TakenPorts;
use crate::conntrack::{ConnectionView, TupleView};
use crate::service::{BackendId, SnatPool};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Most bitmaps of ports, 8 KiB each; toward backends beyond that ports are found by trying.
pub const MAPS: usize = 8192;

/// Protocols whose ports cards hash, in the order of [`Source::taken`].
const PROTOCOLS: [u8; 2] = [6, 17];

/// Of all interfaces and backends.
#[derive(Debug, Default)]
pub struct Homes {
    workers: usize,
    /// By interface; `None`: it cannot be foretold.
    spreads: Vec<Option<Arc<Spread>>>,
    /// By [`BackendId`]; `None`: no service leads there.
    toward: Vec<Option<Toward>>,
    maps: usize,
    unmapped: usize,
}

/// Toward one backend.
#[derive(Debug)]
pub(super) struct Toward {
    pub(super) target: SocketAddr,
    /// In the order of the config.
    pub(super) sources: Box<[Source]>,
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
    pub(super) spread: &'a Spread,
    pub(super) pattern: &'a Pattern,
    homes: &'a Homes,
    backend: BackendId,
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
            let toward = homes.toward(one, snat, before.and_then(|before| before.toward.get(at)?.as_ref()));
            if homes.toward.len() <= at {
                homes.toward.resize_with(at + 1, || None);
            }
            homes.toward[at] = Some(toward);
        }
        homes
    }

    fn toward(&mut self, served: &Served, snat: &SnatPool, before: Option<&Toward>) -> Toward {
        let Served { target, protocols, .. } = *served;
        let addresses: Vec<IpAddr> = snat.addresses().filter(|address| address.is_ipv4() == target.is_ipv4()).collect();
        let before = before.filter(|before| before.target == target);
        let source = |address: IpAddr| {
            let known = before.and_then(|before| before.sources.iter().find(|source| source.address == address));
            let hash =
                |spread: &Option<Arc<Spread>>| spread.as_ref().map_or(0, |spread| spread.hash_addresses(target.ip(), address));
            let hashes: Box<[u32]> = self.spreads.iter().map(hash).collect();
            let own_hashes =
                self.spreads.iter().zip(&hashes).map(|(spread, hash)| own_hashes(spread.as_deref(), *hash, target)).collect();
            let taken = [0, 1].map(|at| {
                let known = known.and_then(|known| known.taken[at].clone()).filter(|known| known.serves(self.workers));
                protocols[at].then(|| self.map(known, snat)).flatten()
            });
            Source { address, hashes, own_hashes, taken }
        };
        Toward { target, sources: addresses.into_iter().map(source).collect() }
    }

    fn map(&mut self, known: Option<Arc<TakenPorts>>, snat: &SnatPool) -> Option<Arc<TakenPorts>> {
        if self.maps == MAPS {
            self.unmapped += 1;
            return None;
        }
        self.maps += 1;
        Some(known.unwrap_or_else(|| Arc::new(TakenPorts::new(self.workers, &snat.ports))))
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
        (worker < self.workers).then_some(Home {
            worker,
            toward,
            spread,
            pattern,
            homes: self,
            backend,
            interface,
            protocol,
            own,
        })
    }

    /// A connection is no more in the table, or is about to leave it: its port may be taken.
    pub fn release(&self, connection: &ConnectionView) {
        self.release_reply(BackendId(connection.backend), connection.protocol, &connection.reply);
    }

    /// As [`Homes::release`], by the tuple backend → SNAT address.
    pub fn release_reply(&self, backend: BackendId, protocol: u8, reply: &TupleView) {
        if let Some(taken) = self.taken(backend, protocol, reply) {
            taken.release(reply.destination.port());
        }
    }

    /// The port of a tuple backend → SNAT address is taken, so that nobody tries it.
    pub fn note_taken(&self, backend: BackendId, protocol: u8, reply: &TupleView) {
        if let Some(taken) = self.taken(backend, protocol, reply) {
            taken.claim(reply.destination.port());
        }
    }

    fn taken(&self, backend: BackendId, protocol: u8, reply: &TupleView) -> Option<&TakenPorts> {
        let toward = self.toward.get(usize::from(backend.0))?.as_ref().filter(|toward| toward.target == reply.source)?;
        toward.sources.iter().find(|source| source.address == reply.destination.ip())?.taken(protocol)
    }
}

fn own_hashes(spread: Option<&Spread>, addresses: u32, target: SocketAddr) -> [u32; 2] {
    let hash = |protocol: u8| Some(spread?.hash_to_port_0(spread?.pattern(target.is_ipv4(), protocol)?, addresses, target));
    PROTOCOLS.map(|protocol| hash(protocol).unwrap_or(0))
}

impl Source {
    #[inline]
    pub(super) fn taken(&self, protocol: u8) -> Option<&TakenPorts> {
        self.taken[place(protocol)?].as_deref()
    }
}

/// That of a protocol in [`PROTOCOLS`].
#[inline(always)]
fn place(protocol: u8) -> Option<usize> {
    PROTOCOLS.iter().position(|known| *known == protocol)
}

impl Home<'_> {
    /// The hash of a reply of `target` to port 0 of a SNAT address.
    #[inline]
    pub(super) fn hash_to_port_0(&self, source: &Source, target: SocketAddr) -> u32 {
        match self.own {
            Some(protocol) => source.own_hashes[self.interface][protocol],
            None => self.spread.hash_to_port_0(self.pattern, source.hashes[self.interface], target),
        }
    }

    /// Notes a port that was found elsewhere.
    pub(super) fn note_taken(&self, reply: &TupleView) {
        self.homes.note_taken(self.backend, self.protocol, reply);
    }

    /// What is known to be taken of a SNAT address; `None`: nothing is, for services on every port.
    #[inline]
    pub(super) fn taken<'a>(&self, source: &'a Source) -> Option<&'a TakenPorts> {
        source.taken[self.own?].as_deref()
    }
}
