//! How a network card spreads received packets over its queues: receive side scaling, the hash's lowest bits looked up in a table.

use super::toeplitz::{Hashed, Toeplitz};

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
