//! How a network card spreads received packets over its queues: receive side scaling, the hash's lowest bits looked up in a table.

use super::toeplitz::{Hashed, Toeplitz};
use std::net::SocketAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What decides to which queue a card gives a packet of TCP or UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rss {
    /// The hash under the card's key.
    pub toeplitz: Toeplitz,
    /// Queues, by the lowest bits of the hash; their number is a power of two.
    pub table: Box<[u32]>,
    /// What is hashed of TCP over IPv4; `None`: something that the hash of addresses and ports does not tell.
    pub tcp_v4: Option<Hashed>,
    /// Of UDP over IPv4.
    pub udp_v4: Option<Hashed>,
    /// Of TCP over IPv6.
    pub tcp_v6: Option<Hashed>,
    /// Of UDP over IPv6.
    pub udp_v6: Option<Hashed>,
}

impl Rss {
    /// What is hashed of packets of TCP or UDP, by IP protocol number, over a family; `None` also for other protocols.
    pub fn hashed(&self, is_ipv4: bool, protocol: u8) -> Option<Hashed> {
        match (is_ipv4, protocol) {
            (true, TCP) => self.tcp_v4,
            (true, UDP) => self.udp_v4,
            (false, TCP) => self.tcp_v6,
            (false, UDP) => self.udp_v6,
            _ => None,
        }
    }

    /// The queue of a packet, if it can be foretold.
    pub fn queue_of(&self, protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
        let hashed = self.hashed(source.is_ipv4(), protocol)?;
        Some(self.queue(self.toeplitz.hash(source, destination, hashed)?))
    }

    /// The queue of a packet with this hash.
    pub fn queue(&self, hash: u32) -> u32 {
        self.table[hash as usize & (self.table.len() - 1)]
    }
}
