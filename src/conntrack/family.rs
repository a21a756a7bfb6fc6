//! IPv4 and IPv6 as the table sees them: how addresses are kept, compared, turned round and hashed.

use super::atomic::{AtomicU64, Ordering::Relaxed};
use super::hash::HashKey;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One address family. The table exists once for each, so that an IPv4 entry is one cache line.
pub trait Family: Copy + Debug + Default + Send + Sync + 'static {
    /// Source and destination address, as they read on the wire.
    type Addresses: Copy + Eq + Debug + Send + Sync;
    /// Memory that holds them.
    type Cell: Cell<Self::Addresses> + Debug + Default + Send + Sync;
    /// Bytes of padding that bring an entry to whole cache lines.
    type Padding: Debug + Default + Send + Sync;

    /// Source and destination exchanged.
    fn turned(addresses: Self::Addresses) -> Self::Addresses;
    /// Source and destination, for lists.
    fn addresses(addresses: Self::Addresses) -> (IpAddr, IpAddr);
    /// From source and destination; `None` when one is of the other family.
    fn from_addresses(source: IpAddr, destination: IpAddr) -> Option<Self::Addresses>;
    /// Hash of a tuple.
    fn hash(key: &HashKey, addresses: Self::Addresses, ports: u32, protocol: u8) -> u64;
}

/// Addresses in shared memory. `Relaxed`: an entry is published by the index slot that names it (see [`super::index`]).
pub trait Cell<A> {
    /// Reads.
    fn load(&self) -> A;
    /// Whether these are what stands there.
    fn holds(&self, addresses: &A) -> bool;
    /// Writes; only while no one else uses the entry.
    fn store(&self, addresses: A);
}

/// IPv4.
#[derive(Debug, Clone, Copy, Default)]
pub struct V4;

/// IPv6.
#[derive(Debug, Clone, Copy, Default)]
pub struct V6;

impl Family for V4 {
    type Addresses = u64;
    type Cell = AtomicU64;
    type Padding = ();

    #[inline(always)]
    fn turned(addresses: u64) -> u64 {
        addresses.rotate_left(32)
    }

    fn addresses(addresses: u64) -> (IpAddr, IpAddr) {
        (Ipv4Addr::from_bits((addresses >> 32) as u32).into(), Ipv4Addr::from_bits(addresses as u32).into())
    }

    fn from_addresses(source: IpAddr, destination: IpAddr) -> Option<u64> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()))
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn hash(key: &HashKey, addresses: u64, ports: u32, protocol: u8) -> u64 {
        key.hash([addresses, u64::from(ports) << 8 | u64::from(protocol)])
    }
}

impl Family for V6 {
    type Addresses = [u64; 4];
    type Cell = [AtomicU64; 4];
    type Padding = [u64; 2];

    #[inline(always)]
    fn turned([s0, s1, d0, d1]: [u64; 4]) -> [u64; 4] {
        [d0, d1, s0, s1]
    }

    fn addresses([s0, s1, d0, d1]: [u64; 4]) -> (IpAddr, IpAddr) {
        let address = |upper: u64, lower: u64| IpAddr::V6(Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)));
        (address(s0, s1), address(d0, d1))
    }

    fn from_addresses(source: IpAddr, destination: IpAddr) -> Option<[u64; 4]> {
        let halves = |address: Ipv6Addr| ((address.to_bits() >> 64) as u64, address.to_bits() as u64);
        match (source, destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ((s0, s1), (d0, d1)) = (halves(source), halves(destination));
                Some([s0, s1, d0, d1])
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn hash(key: &HashKey, [s0, s1, d0, d1]: [u64; 4], ports: u32, protocol: u8) -> u64 {
        key.hash([s0, s1, d0, d1, u64::from(ports) << 8 | u64::from(protocol)])
    }
}

impl Cell<u64> for AtomicU64 {
    #[inline(always)]
    fn load(&self) -> u64 {
        AtomicU64::load(self, Relaxed)
    }

    #[inline(always)]
    fn holds(&self, addresses: &u64) -> bool {
        Cell::load(self) == *addresses
    }

    fn store(&self, addresses: u64) {
        AtomicU64::store(self, addresses, Relaxed);
    }
}

impl Cell<[u64; 4]> for [AtomicU64; 4] {
    #[inline(always)]
    fn load(&self) -> [u64; 4] {
        [self[0].load(Relaxed), self[1].load(Relaxed), self[2].load(Relaxed), self[3].load(Relaxed)]
    }

    /// Word by word: arrays are compared in memory, so these would be written to the stack and read back in pieces of twice the width, which
    /// waits until the stores have retired.
    #[inline(always)]
    fn holds(&self, addresses: &[u64; 4]) -> bool {
        self.iter().zip(addresses).fold(0, |different, (cell, word)| different | (cell.load(Relaxed) ^ word)) == 0
    }

    fn store(&self, addresses: [u64; 4]) {
        for (cell, word) in self.iter().zip(addresses) {
            cell.store(word, Relaxed);
        }
    }
}
