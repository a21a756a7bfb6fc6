//! What becomes of the connections of a backend that takes no new ones: the contract of a drain.

use std::time::Duration;

/// `drain` of a pool. Without a deadline connections go on until they end: who says nothing loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// From when a backend was removed or drained to when nothing of it is left; `None`: connections go on until they end.
    pub deadline: Option<Duration>,
    /// The same from when its health checks failed.
    pub failed_deadline: Option<Duration>,
    /// Connections that have an end of their own: TCP, SCTP, DCCP.
    pub tcp: AtDeadline,
    /// Those that have none: UDP, GRE, echoes.
    pub udp: Datagrams,
}

/// What becomes of a TCP connection at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtDeadline {
    /// It ends, and both ends are told by a RST.
    #[default]
    Reset,
    /// It goes on until it ends.
    Wait,
}

impl AtDeadline {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, AtDeadline)] = &[("rst", AtDeadline::Reset), ("wait", AtDeadline::Wait)];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reset => "rst",
            Self::Wait => "wait",
        }
    }
}

/// What becomes of UDP while its backend drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Datagrams {
    /// It stays until it is silent, at most until the deadline: a session loses as little as can be.
    #[default]
    Expire,
    /// It moves to another backend with its next datagram, at once: each datagram stands for itself.
    Rehash,
}

impl Datagrams {
    /// The names in the config.
    pub const NAMES: &'static [(&'static str, Datagrams)] = &[("rehash", Datagrams::Rehash), ("expire", Datagrams::Expire)];

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rehash => "rehash",
            Self::Expire => "expire",
        }
    }
}
