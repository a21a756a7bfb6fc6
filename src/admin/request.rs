//! What may be asked of a running daemon: one JSON object on one line.

use super::ConnectionFilter;
use serde::{Deserialize, Serialize};
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
    /// Answered by [`super::Answer::Drops`].
    Drops {},
    /// Answered by [`super::Answer::Reloaded`] or an error.
    Reload {},
    /// Answered by [`super::Answer::Explained`].
    Explain {
        /// The packet.
        flow: Flow,
    },
}

/// A packet, as far as it decides where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Sender. Port 0: not said.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}
