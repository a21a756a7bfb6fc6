//! What is answered about services: where they are, what they may have, and what became of the rest.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What clients connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// In the config.
    pub name: String,
    /// Its address.
    pub vip: IpAddr,
    /// None: every port.
    pub port: Option<u16>,
    /// `tcp`, `udp`, `sctp`, `dccp`, `gre`, `icmp` or `icmpv6`.
    pub protocol: String,
    /// Who chooses the backend.
    pub scheduler: String,
    /// Who is chosen from.
    pub pool: String,
    /// Who is chosen from when nobody of the pool can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// Connections now, without those at the backup pool.
    #[serde(default)]
    pub connections: u32,
    /// Connections that went to the backup pool.
    #[serde(default)]
    pub at_backup: u64,
    /// Connections that went where their client's last one did.
    #[serde(default)]
    pub persisted: u64,
    /// Its limits, and that of all backends of its pool.
    #[serde(default)]
    pub limits: Vec<ServiceLimit>,
    /// What becomes of what is over one: `drop`, `reject` or `backup`.
    #[serde(default)]
    pub over_limit: String,
    /// Backends of the pool that are up and have weight.
    #[serde(default)]
    pub up: usize,
    /// As many must be for the VIP to be announced; 0: it always is.
    #[serde(default)]
    pub quorum: usize,
    /// Whether the VIP is announced: one of its services has its quorum.
    #[serde(default)]
    pub announced: bool,
}

/// A limit of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLimit {
    /// `connections`, `rate`, `source_connections`, `source_rate`, or `backends`.
    pub limit: String,
    /// Connections, or new ones a second; none where backends have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u32>,
    /// New connections that it stood in the way of.
    pub struck: u64,
}

/// What is known of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sources {
    /// Sources that limits count now.
    pub limited: u64,
    /// Room for them.
    pub limited_capacity: u64,
    /// Connections that were let through without a limit of their source, because there was no room.
    pub uncounted: u64,
    /// Clients that persist now.
    pub persistent: u64,
    /// Room for them.
    pub persistent_capacity: u64,
    /// Connections of clients that were not remembered, because there was no room.
    pub not_remembered: u64,
}
