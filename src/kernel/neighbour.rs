//! Neighbours: link addresses that the kernel learned by ARP and neighbour discovery, or was given.

use super::{Netlink, NetlinkError};
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{self, NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// An entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface.
    pub index: u32,
    /// Whose link address it is.
    pub address: IpAddr,
    /// `None` while it is not known.
    pub mac: Option<[u8; 6]>,
    /// What the kernel thinks of it.
    pub state: NeighbourState,
}

/// What the kernel thinks of a neighbour's link address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Being asked for.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Not confirmed for a while; used nevertheless.
    Stale,
    /// Used while stale; will be asked again soon.
    Delay,
    /// Being asked again.
    Probe,
    /// Nobody answered.
    Failed,
    /// Needs no resolution.
    Noarp,
    /// Set by the administrator.
    Permanent,
    /// Anything else.
    None,
}

impl Neighbour {
    pub(super) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        if message.header.flags.contains(NeighbourFlags::Proxy) {
            return None; // an address that the host answers for, not one to send to
        }
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
                _ => {}
            }
        }
        let state = match message.header.state {
            neighbour::NeighbourState::Incomplete => NeighbourState::Incomplete,
            neighbour::NeighbourState::Reachable => NeighbourState::Reachable,
            neighbour::NeighbourState::Stale => NeighbourState::Stale,
            neighbour::NeighbourState::Delay => NeighbourState::Delay,
            neighbour::NeighbourState::Probe => NeighbourState::Probe,
            neighbour::NeighbourState::Failed => NeighbourState::Failed,
            neighbour::NeighbourState::Noarp => NeighbourState::Noarp,
            neighbour::NeighbourState::Permanent => NeighbourState::Permanent,
            _ => NeighbourState::None,
        };
        Some(Self { index: message.header.ifindex, address: address?, mac, state })
    }

    /// The link address, if frames may be sent to it now.
    pub fn resolved(&self) -> Option<[u8; 6]> {
        use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        let usable = matches!(self.state, Reachable | Stale | Delay | Probe | Noarp | Permanent);
        self.mac.filter(|mac| usable && *mac != [0; 6])
    }
}

impl Netlink {
    /// The neighbour tables of both families.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, NetlinkError> {
        let mut neighbours = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            let request = RouteNetlinkMessage::GetNeighbour(request);
            neighbours.extend(self.list("list the neighbours", request, |message| match message {
                RouteNetlinkMessage::NewNeighbour(message) => Neighbour::from_message(&message),
                _ => None,
            })?);
        }
        Ok(neighbours)
    }

    /// Makes the kernel find out the link address of a neighbour as if it had a packet for it, and keep the entry fresh.
    /// The outcome comes as an [`super::Event::Neighbour`].
    pub fn resolve(&mut self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        let (family, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(address)),
        };
        message.header.family = family;
        message.header.ifindex = index;
        // NTF_USE: "use" the entry, which starts ARP or neighbour discovery unless it is known to be reachable.
        message.header.flags = NeighbourFlags::Use;
        message.attributes = vec![NeighbourAttribute::Destination(destination)];
        let action = format!("resolve {address} on interface {index}");
        self.change(&action, RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
    }
}
