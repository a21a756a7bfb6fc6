//! Connections of what kind are compared.

use super::world::Family;
use std::net::SocketAddr;
use weir::service::Protocol;

/// A protocol over an address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
}

impl Subject {
    pub(crate) fn is_echo(self) -> bool {
        matches!(self.protocol, Protocol::Icmp | Protocol::Icmpv6)
    }

    /// What the client sends to. A service of echoes has no port.
    pub(crate) fn vip(self) -> SocketAddr {
        if self.is_echo() { self.family.any_port_vip(0) } else { self.family.vip() }
    }

    pub(crate) fn backend(self) -> SocketAddr {
        let mut backend = self.family.backend();
        if self.is_echo() {
            backend.set_port(0);
        }
        backend
    }

    /// What the backend sends to: the SNAT address, and the port or identifier that was chosen for the client.
    pub(crate) fn snat(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.family.snat(), port)
    }

    /// The port or identifier of the sender of an IP packet.
    pub(crate) fn source_port(self, packet: &[u8]) -> u16 {
        let transport = if self.family == Family::V4 { usize::from(packet[0] & 0xf) * 4 } else { 40 };
        let at = transport + if self.is_echo() { 4 } else { 0 };
        u16::from_be_bytes([packet[at], packet[at + 1]])
    }
}
