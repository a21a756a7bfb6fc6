//! What is answered about backends that take no new connections, and about what was set at run time.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A backend that takes no new connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draining {
    /// In the config, or in the one before.
    pub pool: String,
    /// Where connections are sent.
    pub backend: SocketAddr,
    /// `removed`, `drained` or `failed`.
    pub cause: String,
    /// Since then.
    pub seconds: u64,
    /// Until the deadline, rounded up; 0: it is over. None: there is no deadline.
    pub seconds_left: Option<u64>,
    /// What becomes of TCP then: `rst` or `wait`.
    pub tcp: String,
    /// What becomes of UDP: `rehash` or `expire`.
    pub udp: String,
    /// Those that are left.
    pub connections: u32,
}

/// What an operator has set for a backend at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// In the config.
    pub pool: String,
    /// Where connections are sent.
    pub backend: SocketAddr,
    /// For how long it has been drained, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_seconds: Option<u64>,
    /// The weight, if it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The configured one.
    pub file_weight: u32,
}
