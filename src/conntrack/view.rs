//! What lists and the control thread see of a connection: a copy, taken while workers go on.

use super::{AccountView, Millis, State, TcpState};
use std::net::SocketAddr;

/// One direction's addresses and ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TupleView {
    /// Sender of this direction's packets.
    pub source: SocketAddr,
    /// Where they are sent.
    pub destination: SocketAddr,
}

/// A copy of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// IP protocol number.
    pub protocol: u8,
    /// Client → VIP.
    pub original: TupleView,
    /// Backend → SNAT address.
    pub reply: TupleView,
    /// TCP state; `None` for other protocols.
    pub tcp_state: Option<TcpState>,
    /// The state by the kernel's name; `None` for protocols without states.
    pub state: Option<&'static str>,
    /// The key of a GRE tunnel that has one.
    pub key: Option<u32>,
    /// The state word.
    pub bits: State,
    /// Packets were seen in both directions.
    pub seen_reply: bool,
    /// Not given up first when the table is full.
    pub assured: bool,
    /// Index of the service.
    pub service: u16,
    /// Index of the backend.
    pub backend: u16,
    /// What was counted, if accounts are kept.
    pub account: Option<AccountView>,
    /// The control connection that has announced it, client → VIP, if it is EXPECTED.
    pub master: Option<TupleView>,
    /// When the last packet was seen.
    pub last_seen: Millis,
    /// Milliseconds of silence after which it is removed in its present state.
    pub timeout: u32,
}

impl ConnectionView {
    /// Client and VIP, whoever opened it.
    pub fn outside(&self) -> TupleView {
        if self.bits.has(State::FROM_BACKEND) { self.reply } else { self.original }
    }

    /// Backend and SNAT address, whoever opened it.
    pub fn inside(&self) -> TupleView {
        if self.bits.has(State::FROM_BACKEND) { self.original } else { self.reply }
    }

    /// The names of its status bits (`enum ip_conntrack_status`).
    pub fn status(&self) -> impl Iterator<Item = &'static str> {
        // What is translated is what the replies are addressed to instead of the client, and come from instead of the VIP.
        let translated = [
            ("SRC_NAT", self.reply.destination != self.original.source),
            ("DST_NAT", self.reply.source != self.original.destination),
        ];
        let bits = State::STATUS.map(|(bit, name)| (name, self.bits.has(bit)));
        bits.into_iter().chain(translated).filter(|(_, set)| *set).map(|(name, _)| name)
    }
}

/// A UDP connection of which nothing but its tuple is known, for tests.
#[cfg(test)]
pub(super) fn blank(tuple: TupleView) -> ConnectionView {
    ConnectionView {
        protocol: 17,
        original: tuple,
        reply: tuple,
        tcp_state: None,
        state: None,
        key: None,
        bits: State::default(),
        seen_reply: false,
        assured: false,
        service: 0,
        backend: 0,
        account: None,
        master: None,
        last_seen: Millis(0),
        timeout: 0,
    }
}
