//! What is answered about the table as a whole: what happens in it, and who fills it.

use super::Connection;
use serde::{Deserialize, Serialize};

/// Something that happened to a connection, or to the stream of what happens to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionEvent {
    /// `new`, `update`, `assured` or `destroy`; or `lost`: events before the next one are missing, because the client was too slow.
    #[serde(rename = "type")]
    pub kind: String,
    /// When, in milliseconds since 1970-01-01 UTC: the same for all who listen.
    pub time_ms: u64,
    /// Why, if it was destroyed: `timeout`, `closed`, `reset`, `early_drop`, `deleted`, `drained`, `unserved`, `backend_removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The connection behind the packet that changed it; none of `lost`.
    #[serde(flatten)]
    pub connection: Option<Connection>,
}

impl ConnectionEvent {
    /// The type of what says that events are missing.
    pub const LOST: &str = "lost";

    /// So many are missing.
    pub fn lost(count: u64, time_ms: u64) -> Self {
        Self { kind: Self::LOST.to_owned(), time_ms, reason: None, count: Some(count), connection: None }
    }
}

/// Who fills the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// Connections that were counted.
    pub connections: u64,
    /// Those of them of which packets in one direction only were seen.
    pub unreplied: u64,
    /// Room in the table, of each family.
    pub capacity: u64,
    /// Clients, or prefixes of them, by connections.
    pub clients: Vec<Share>,
    /// Services.
    pub services: Vec<Share>,
    /// Backends.
    pub backends: Vec<Share>,
}

/// One of those who fill the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// An address, a prefix, or a name.
    pub name: String,
    /// Connections; never more than there are.
    pub connections: u64,
    /// Of all that were counted, in percent.
    pub percent: f64,
    /// Those of them of which packets in one direction only were seen.
    pub unreplied: u64,
    /// Connections that may be missing above: not 0 only for clients, when there are very many.
    pub may_be_more: u64,
}
