//! A tuple: what identifies one direction of a connection.
//!
//! Two addresses, the protocol, and one word that the protocol makes of what else tells connections apart ([`l4proto::L4Proto::pkt_to_tuple`]): the
//! ports, where there are any.

use super::TupleView;
use super::family::Family;
use super::hash::HashKey;
use super::l4proto;
use std::net::SocketAddr;

/// Addresses, ports and protocol of one direction. Compared and hashed as a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<F: Family> {
    /// Source and destination address.
    pub addresses: F::Addresses,
    /// Source port in the upper half, destination port in the lower; of protocols without ports, what they have instead.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl<F: Family> Tuple<F> {
    /// From two socket addresses, as [`Tuple::view`] shows them; `None` when one is of the other family.
    pub fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let addresses = F::from_addresses(source.ip(), destination.ip())?;
        Some(Self { addresses, ports: l4proto::word(protocol, source.port(), destination.port()), protocol })
    }

    /// The tuple of packets in the other direction, were there no NAT (`nf_ct_invert_tuple`).
    pub fn inverted(&self) -> Self {
        Self {
            addresses: F::turned(self.addresses),
            ports: l4proto::invert_tuple(self.protocol, self.ports),
            protocol: self.protocol,
        }
    }

    /// The hash under which the index has it.
    #[inline(always)]
    pub fn hash(&self, key: &HashKey) -> u64 {
        F::hash(key, self.addresses, self.ports, self.protocol)
    }

    /// For lists.
    pub fn view(&self) -> TupleView {
        let (source, destination) = F::addresses(self.addresses);
        let (source_port, destination_port) = l4proto::shown(self.protocol, self.ports);
        TupleView { source: SocketAddr::new(source, source_port), destination: SocketAddr::new(destination, destination_port) }
    }
}
