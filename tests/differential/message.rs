//! A packet, as both machines get it.

use super::packet::{Packet, udp};
use super::segment::{Segment, Side};
use super::transports::{reply, request, sctp};
use std::net::SocketAddr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) from: Side,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Tcp(Segment),
    Datagram,
    /// An echo, or the reply to one.
    Echo {
        reply: bool,
    },
    Sctp {
        tag: u32,
        chunks: Vec<Vec<u8>>,
    },
}

impl Message {
    /// The IP packet.
    pub(crate) fn packet(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let bytes = |packet: Packet| packet.with_ttl(super::TTL).frame().split_off(14);
        match &self.what {
            What::Tcp(segment) => segment.packet(from, to),
            What::Datagram => bytes(udp(from, to)),
            What::Echo { reply: false } => bytes(request(with_identifier(from, to), to)),
            What::Echo { reply: true } => bytes(reply(from, with_identifier(to, from))),
            What::Sctp { tag, chunks } => bytes(sctp(from, to, *tag, chunks)),
        }
    }
}

/// Of the two ends of an echo one has the identifier: who asks. An echo in the wrong direction has that of the other one.
fn with_identifier(mut own: SocketAddr, other: SocketAddr) -> SocketAddr {
    own.set_port(own.port().max(other.port()));
    own
}
