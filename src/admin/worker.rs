//! What an answer says about a worker.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One worker and what it has counted since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// From 0.
    pub index: u32,
    /// The core that it is pinned to.
    pub cpu: u32,
    /// Frames received.
    pub rx: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Frames answered here instead of forwarded.
    pub answered: u64,
    /// ICMP errors about packets of known connections, sent on.
    pub related: u64,
    /// Frames sent without a received one.
    pub originated: u64,
    /// Frames that wait for a neighbour now.
    pub waiting: u64,
    /// Connections confirmed.
    pub new_connections: u64,
    /// Of them, those whose SNAT port lets replies come in at another worker, because no port at home was free or it has none; only where the queues of the
    /// cards are known beforehand.
    #[serde(default)]
    pub homeless: u64,
    /// Connections whose first reply came in here.
    #[serde(default)]
    pub first_replies: u64,
    /// Of them, those that this worker has opened.
    #[serde(default)]
    pub first_replies_at_home: u64,
    /// Packets of known connections.
    pub established: u64,
    /// Connections that gave way to new ones because the table was full.
    #[serde(default)]
    pub early_drops: u64,
    /// Connections that helpers have announced.
    #[serde(default)]
    pub expectations: u64,
    /// Those of them that were opened.
    #[serde(default)]
    pub expected: u64,
    /// Announcements that were not believed.
    #[serde(default)]
    pub refused_expectations: u64,
    /// How long bursts took.
    #[serde(default)]
    pub bursts: Bursts,
    /// Drops by reason; reasons that never happened are left out.
    pub drops: BTreeMap<String, u64>,
    /// rx + originated − tx − waiting − Σ drops: 0 at any quiet moment.
    pub conservation: i64,
}

/// How long bursts took since the start, from the RX ring until the kernel was told of them on the TX ring. In nanoseconds, each to within a
/// sixteenth; a second and more is told as a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bursts {
    /// How many there were.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// What 1 of 100 took longer than.
    pub p99: u64,
    /// What 1 of 1,000 took longer than.
    pub p99_9: u64,
    /// The longest.
    pub max: u64,
}
