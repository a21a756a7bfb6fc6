//! Changes as the kernel tells them, on a socket that never blocks.

use super::netlink::messages;
use super::{Address, Link, Neighbour, NetlinkError};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface is new, or something about it is.
    Link(Link),
    /// An interface is gone.
    LinkGone(Link),
    /// An address was added, or something about it changed.
    Address(Address),
    /// An address was removed.
    AddressGone(Address),
    /// Some route changed.
    Routes,
    /// A neighbour is new, or its state or link address is.
    Neighbour(Neighbour),
    /// The kernel forgot a neighbour.
    NeighbourGone(Neighbour),
    /// More happened than the socket could hold: everything must be listed anew.
    Overrun,
}

/// RTNLGRP_*: links, neighbours, IPv4 addresses and routes, IPv6 addresses and routes.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// Bytes of events that may wait, as far as net.core.rmem_max allows.
const RECEIVE_BUFFER: u32 = 1 << 20;

/// Hears of changes. Readable (for poll, epoll, mio's `SourceFd`) when there are any.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Monitor {
    /// Listens from now on, in the network namespace of the calling thread. What was before must be listed after this.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
            socket.bind_auto()?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        open().map(|socket| Self { socket }).map_err(|source| NetlinkError::new("listen for changes", source))
    }

    /// All that changed since the last call, in order; nothing if nothing did.
    pub fn events(&mut self) -> Result<Vec<Event>, NetlinkError> {
        let mut events = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, sender)) if sender.port_number() == 0 => events.extend(decode(&datagram)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => events.push(Event::Overrun),
                Err(source) => return Err(NetlinkError::new("hear of changes", source)),
            }
        }
    }
}

fn decode(datagram: &[u8]) -> Vec<Event> {
    // What cannot be decoded may have mattered: look at everything again.
    messages(datagram).filter_map(|message| message.map_or(Some(Event::Overrun), |message| event(message.payload))).collect()
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    use RouteNetlinkMessage::{DelAddress, DelLink, DelNeighbour, DelRoute, NewAddress, NewLink, NewNeighbour, NewRoute};
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    match message {
        // A bridge tells of its members in the same words; a link that leaves a bridge is not gone.
        NewLink(message) | DelLink(message) if message.header.interface_family == AddressFamily::Bridge => None,
        NewLink(message) => Some(Event::Link(Link::from_message(&message))),
        DelLink(message) => Some(Event::LinkGone(Link::from_message(&message))),
        NewAddress(message) => Address::from_message(&message).map(Event::Address),
        DelAddress(message) => Address::from_message(&message).map(Event::AddressGone),
        NewRoute(_) | DelRoute(_) => Some(Event::Routes),
        NewNeighbour(message) => Neighbour::from_message(&message).map(Event::Neighbour),
        DelNeighbour(message) => Neighbour::from_message(&message).map(Event::NeighbourGone),
        _ => None,
    }
}
