//! Frames as the datapath sees them: bytes, where they came in, and what shall become of them.

use super::DropReason;
use std::net::IpAddr;

/// Most frames in one call of [`super::process`].
pub const BURST: usize = 64;

/// Index of an interface in the config, the same for all workers. At most [`MAX_PORTS`] of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortId(pub u8);

/// Interfaces that one daemon may serve; a next hop has four bits for its port.
pub const MAX_PORTS: usize = 16;

/// One frame on its way. The bytes belong to the port that lent them.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The whole room; the frame is the first [`Frame::length`] bytes of it, beginning with the Ethernet header.
    pub buffer: &'a mut [u8],
    /// Bytes of the frame, without FCS. The datapath may change it (VLAN tag, ICMP error).
    pub length: usize,
    /// Where it came in.
    pub port: PortId,
    /// What shall become of it; set by the datapath.
    pub fate: Fate,
}

impl<'a> Frame<'a> {
    /// A frame that came in at `port`.
    pub fn new(buffer: &'a mut [u8], length: usize, port: PortId) -> Self {
        Self { buffer, length, port, fate: Fate::Undecided }
    }

    /// The bytes of the frame.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not processed yet.
    Undecided,
    /// Send it, as it now is, out of this port.
    Transmit(PortId),
    /// It ends here, for this reason.
    Drop(DropReason),
    /// Untouched; process it again once this neighbour is resolved, or drop it as unresolved after a bounded wait.
    Wait(PortId, IpAddr),
    /// Untouched; a fragment: process it again once the first one of its datagram came, or drop it after a bounded wait.
    Gather,
}
