//! Which destination ports bring a packet to which worker, at one interface: 64 ports at a time, in one load.
//!
//! Toeplitz is linear: the place of a packet in the indirection table is that of the same packet to port 0, exclusive or what the upper ten
//! bits of the port give, exclusive or what the lower six do. So for each place that the first of 64 ports may have, a word says which of
//! the 64 come to a worker.

use crate::packet::rss::Rss;
use crate::packet::toeplitz::{Hashed, Toeplitz};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Words of 64 ports.
pub(super) const WORDS: usize = 1 << 10;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// How one interface spreads what it receives over the workers.
#[derive(Debug)]
pub struct Spread {
    toeplitz: Toeplitz,
    tcp_v4: Option<Pattern>,
    udp_v4: Option<Pattern>,
    tcp_v6: Option<Pattern>,
    udp_v6: Option<Pattern>,
}

/// Packets of one protocol over one family.
#[derive(Debug)]
pub(super) struct Pattern {
    hashed: Hashed,
    /// What the upper ten bits of a port change of the place.
    upper: Box<[u32]>,
    /// By worker, and then by place of the first of 64 ports: those of the 64 that come to it, the first one the lowest bit.
    at_home: Box<[u64]>,
    /// By worker: whether any entry of the table leads to it.
    has_home: Box<[bool]>,
    /// Entries of the indirection table, a power of two.
    places: usize,
}

impl Spread {
    /// `worker_of` says who serves a queue, below `workers`; `None`: nobody does.
    pub fn new(rss: &Rss, workers: usize, worker_of: impl Fn(u32) -> Option<usize>) -> Self {
        let owners: Vec<Option<usize>> = rss.table.iter().map(|queue| worker_of(*queue)).collect();
        let pattern = |address: IpAddr, hashed: Option<Hashed>| Some(Pattern::new(rss, address, hashed?, workers, &owners));
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Self {
            toeplitz: rss.toeplitz.clone(),
            tcp_v4: pattern(v4, rss.tcp_v4),
            udp_v4: pattern(v4, rss.udp_v4),
            tcp_v6: pattern(v6, rss.tcp_v6),
            udp_v6: pattern(v6, rss.udp_v6),
        }
    }

    /// That of a protocol, by its number, if packets of it can be foretold.
    pub(super) fn pattern(&self, is_ipv4: bool, protocol: u8) -> Option<&Pattern> {
        match (is_ipv4, protocol) {
            (true, TCP) => self.tcp_v4.as_ref(),
            (true, UDP) => self.udp_v4.as_ref(),
            (false, TCP) => self.tcp_v6.as_ref(),
            (false, UDP) => self.udp_v6.as_ref(),
            _ => None,
        }
    }

    /// The hash of what two addresses alone give; 0 for two families, which no packet has.
    pub(super) fn hash_addresses(&self, source: IpAddr, destination: IpAddr) -> u32 {
        let (source, destination) = (SocketAddr::new(source, 0), SocketAddr::new(destination, 0));
        self.toeplitz.hash(source, destination, Hashed::Addresses).unwrap_or(0)
    }

    /// The hash of packets from `source` to port 0 of an address, whose addresses give `addresses`.
    #[inline]
    pub(super) fn hash_to_port_0(&self, pattern: &Pattern, addresses: u32, source: SocketAddr) -> u32 {
        match pattern.hashed {
            Hashed::Addresses => addresses,
            Hashed::AddressesAndPorts => addresses ^ self.toeplitz.source_port(source),
        }
    }
}

impl Pattern {
    fn new(rss: &Rss, address: IpAddr, hashed: Hashed, workers: usize, owners: &[Option<usize>]) -> Self {
        let places = owners.len();
        // What only the addresses decide no port changes.
        let of_port = |port: u16| match hashed {
            Hashed::Addresses => 0,
            Hashed::AddressesAndPorts => rss.toeplitz.destination_port(SocketAddr::new(address, port)),
        };
        let lower: [usize; 64] = std::array::from_fn(|port| of_port(port as u16) as usize);
        let mut at_home = vec![0u64; workers * places].into_boxed_slice();
        for place in 0..places {
            for (bit, lower) in lower.iter().enumerate() {
                if let Some(worker) = owners[(place ^ lower) & (places - 1)] {
                    at_home[worker * places + place] |= 1 << bit;
                }
            }
        }
        let has_home = (0..workers).map(|worker| owners.contains(&Some(worker))).collect();
        Self { hashed, has_home, upper: (0..WORDS).map(|word| of_port((word * 64) as u16)).collect(), at_home, places }
    }

    /// Whether any packet with such a hash to port 0 comes to this worker.
    #[inline(always)]
    pub(super) fn has_home(&self, worker: usize, to_port_0: u32) -> bool {
        match self.hashed {
            Hashed::Addresses => self.at_home(worker, to_port_0, 0) != 0,
            Hashed::AddressesAndPorts => self.has_home[worker],
        }
    }

    /// Of 64 ports, those to which packets come to this worker; `to_port_0` is the hash of such a packet to port 0.
    #[inline(always)]
    pub(super) fn at_home(&self, worker: usize, to_port_0: u32, word: usize) -> u64 {
        let place = (to_port_0 ^ self.upper[word]) as usize & (self.places - 1);
        self.at_home[worker * self.places + place]
    }
}
