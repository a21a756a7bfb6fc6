//! What may be asked of a running daemon: one JSON object on one line.

use super::ConnectionFilter;
use crate::conntrack::l4proto;
use crate::service::{Protocol, Shown};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// A request. On the wire: `{"command":"status"}`. Requests without keys have braces all the same: only so does serde refuse unknown keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Answered by [`super::Answer::Status`].
    Status {},
    /// Answered by one [`super::Answer::Connection`] each, then [`super::Answer::End`].
    ConnectionList {
        /// Which ones.
        #[serde(default)]
        filter: ConnectionFilter,
        /// At most so many; none given: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Answered by one [`super::Answer::Expectation`] each, then [`super::Answer::End`].
    ExpectationList {},
    /// Answered by [`super::Answer::Count`].
    ConnectionCount {
        /// Which ones.
        #[serde(default)]
        filter: ConnectionFilter,
    },
    /// Answered by one [`super::Answer::Connection`], or an error when there is none.
    ConnectionShow {
        /// The packet that the connection is looked for with, in either direction.
        flow: Flow,
    },
    /// Ends a connection, without a word to either side. Answered by [`super::Answer::Count`], or an error when there is none.
    ConnectionDelete {
        /// A packet of the connection in original direction, client → VIP.
        flow: Flow,
    },
    /// Ends all that match, without a word to either side. Answered by [`super::Answer::Count`].
    ConnectionFlush {
        /// Which ones. It must be given: nobody ends all connections by forgetting a key.
        filter: ConnectionFilter,
    },
    /// Answered by [`super::Answer::Top`].
    ConnectionTop {
        /// Which connections are counted.
        #[serde(default)]
        filter: ConnectionFilter,
        /// Of clients, services and backends the largest so many each.
        #[serde(default = "Request::default_top")]
        limit: u16,
        /// Clients of one IPv4 prefix of this length are counted together; 0 to 32.
        #[serde(default = "Request::default_prefix_v4")]
        prefix_v4: u8,
        /// The same for IPv6; 0 to 128.
        #[serde(default = "Request::default_prefix_v6")]
        prefix_v6: u8,
    },
    /// Answered by one [`super::Answer::Event`] each, also where some are missing, and [`super::Answer::Idle`] at first and once a
    /// second in which nothing else comes, until the client leaves.
    ConnectionEvents {
        /// Of which connections.
        #[serde(default)]
        filter: ConnectionFilter,
        /// Which kinds, by name; none given: all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds: Vec<String>,
    },
    /// Answered by [`super::Answer::Drops`].
    Drops {},
    /// Answered by [`super::Answer::Reloaded`] or an error.
    Reload {
        /// Also if more connections are reset than the config allows.
        #[serde(default)]
        force: bool,
    },
    /// What a config would do. Answered by [`super::Answer::Planned`], or an error that says why it would be refused.
    Plan {
        /// How messages name it.
        name: String,
        /// Its text.
        config: String,
    },
    /// A backend takes no new connections from now on. Answered by [`super::Answer::Done`] or an error.
    Drain {
        /// In the config.
        pool: String,
        /// Its address; with its port unless the pool has one backend with this address.
        backend: String,
    },
    /// It takes new connections again. Answered by [`super::Answer::Done`] or an error.
    Undrain {
        /// In the config.
        pool: String,
        /// As for [`Request::Drain`].
        backend: String,
    },
    /// A backend has this weight from now on. Answered by [`super::Answer::Done`] or an error.
    Weight {
        /// In the config.
        pool: String,
        /// As for [`Request::Drain`].
        backend: String,
        /// 0 to 65535.
        weight: u32,
    },
    /// What a backend still has. Answered by [`super::Answer::Left`].
    Left {
        /// In the config, or in the one before.
        pool: String,
        /// As [`super::Answer::Done`] has it.
        backend: SocketAddr,
    },
    /// What the daemon does differs how from what its file says? Answered by [`super::Answer::Diff`] or an error.
    Diff {},
    /// Answered by [`super::Answer::Explained`].
    Explain {
        /// The packet.
        flow: Flow,
    },
}

impl Request {
    /// Which connections it is about, where that can be said.
    pub fn filter(&self) -> Option<&ConnectionFilter> {
        match self {
            Self::ConnectionList { filter, .. }
            | Self::ConnectionCount { filter }
            | Self::ConnectionFlush { filter }
            | Self::ConnectionTop { filter, .. }
            | Self::ConnectionEvents { filter, .. } => Some(filter),
            _ => None,
        }
    }

    /// How many clients, services and backends are named when nobody says how many.
    pub const fn default_top() -> u16 {
        10
    }

    /// Each IPv4 address is a client of its own.
    pub const fn default_prefix_v4() -> u8 {
        32
    }

    /// An IPv6 client has a /64 to itself (RFC 6177, section 2; RFC 7421).
    pub const fn default_prefix_v6() -> u8 {
        64
    }
}

/// A packet, as far as it decides where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Sender. Port 0: not said. Of echoes the identifier; of GRE the upper half of the key.
    pub source: SocketAddr,
    /// Receiver. Of GRE the lower half of the key.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

impl Flow {
    /// Sender and receiver as they are shown: of GRE, the key stands in the place of ports.
    pub fn ends(&self) -> (Shown, Shown) {
        let (mut source, mut destination) = (self.source, self.destination);
        if self.protocol == Protocol::Gre.number() {
            source.set_port(0);
            destination.set_port(0);
        }
        (Shown(source), Shown(destination))
    }

    /// The key of a GRE tunnel that has one.
    pub fn key(&self) -> Option<u32> {
        l4proto::key(self.protocol, l4proto::word(self.protocol, self.source.port(), self.destination.port()))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = self.ends();
        match Protocol::from_number(self.protocol) {
            Some(protocol) => write!(f, "{protocol} {source} -> {destination}")?,
            None => write!(f, "protocol {} {source} -> {destination}", self.protocol)?,
        }
        self.key().map_or(Ok(()), |key| write!(f, ", key {key}"))
    }
}
