//! A tuple: what identifies one direction of a connection.

use super::TupleView;
use super::family::Family;
use super::hash::HashKey;
use std::net::SocketAddr;

/// Addresses, ports and protocol of one direction. Compared and hashed as a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<F: Family> {
    /// Source and destination address.
    pub addresses: F::Addresses,
    /// Source port in the upper half, destination port in the lower.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl<F: Family> Tuple<F> {
    /// From two socket addresses; `None` when one is of the other family.
    pub fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let addresses = F::from_addresses(source.ip(), destination.ip())?;
        Some(Self { addresses, ports: u32::from(source.port()) << 16 | u32::from(destination.port()), protocol })
    }

    /// The tuple of packets in the other direction, were there no NAT (`nf_ct_invert_tuple`).
    #[inline(always)]
    pub fn inverted(&self) -> Self {
        Self { addresses: F::turned(self.addresses), ports: self.ports.rotate_left(16), protocol: self.protocol }
    }

    /// The hash under which the index has it.
    #[inline(always)]
    pub fn hash(&self, key: &HashKey) -> u64 {
        F::hash(key, self.addresses, self.ports, self.protocol)
    }

    /// Source port.
    pub fn source_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// Destination port.
    pub fn destination_port(&self) -> u16 {
        self.ports as u16
    }

    /// For lists.
    pub fn view(&self) -> TupleView {
        let (source, destination) = F::addresses(self.addresses);
        TupleView {
            source: SocketAddr::new(source, self.source_port()),
            destination: SocketAddr::new(destination, self.destination_port()),
        }
    }
}
