//! What a running daemon answers: JSON objects, one a line.

use super::{ConnectionEvent, Draining, Override, Service, Sources, Top, Worker};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`super::Request::Status`].
    Status(Box<Status>),
    /// One of a list.
    Connection(Connection),
    /// One of a list.
    Expectation(Expectation),
    /// A list is over; nothing follows.
    End {
        /// Lines of the list.
        count: u64,
    },
    /// To [`super::Request::ConnectionCount`].
    Count {
        /// Connections that match.
        count: u64,
    },
    /// To [`super::Request::ConnectionTop`].
    Top(Box<Top>),
    /// Something happened to a connection, or events are missing.
    Event(Box<ConnectionEvent>),
    /// Nothing happened, and the daemon is still there.
    Idle {},
    /// To [`super::Request::Drops`].
    Drops(Vec<Drop>),
    /// To [`super::Request::Reload`].
    Reloaded {
        /// What was done, one sentence a step; empty when the file changes nothing.
        plan: Vec<String>,
        /// The generation in force.
        generation: u64,
    },
    /// To [`super::Request::Plan`].
    Planned(Plan),
    /// To [`super::Request::Drain`], [`super::Request::Undrain`] and [`super::Request::Weight`].
    Done {
        /// What was done.
        sentence: String,
        /// To whom: the address that was meant.
        backend: SocketAddr,
    },
    /// To [`super::Request::Left`].
    Left {
        /// Connections; 0, too, where nobody knows this backend any more.
        connections: u32,
        /// It takes no new connections, for it is drained or removed.
        leaving: bool,
    },
    /// To [`super::Request::Diff`].
    Diff {
        /// What was set at run time.
        overrides: Vec<Override>,
        /// Whether a reload of the file drops that.
        drops: bool,
        /// What a reload of the file would change, one sentence a step.
        file: Vec<String>,
    },
    /// To [`super::Request::Explain`].
    Explained(Explanation),
    /// The request was refused; nothing was changed.
    Error {
        /// Why, perhaps over several lines.
        message: String,
    },
}

/// What a reload of a config would do at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order; empty: the config means what is in force.
    pub steps: Vec<PlannedStep>,
    /// All connections.
    pub connections: Fates,
    /// More connections would be reset than the config in force allows: only with force.
    pub refused: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// In a sentence.
    pub step: String,
    /// Connections that it is felt by.
    pub connections: Fates,
}

/// Connections by what becomes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// They go on as before.
    pub kept: u64,
    /// Their backend takes no new ones: they have until the deadline of its pool.
    pub drained: u64,
    /// Their next datagram goes to another backend.
    pub moved: u64,
    /// They end at once: nobody serves their VIP any more.
    pub reset: u64,
}

/// The daemon at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the package.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Since READY.
    pub uptime_seconds: u64,
    /// The file.
    pub config: String,
    /// Counts the reloads that changed something, from 1.
    pub generation: u64,
    /// In the order of the config.
    pub interfaces: Vec<Interface>,
    /// One a core.
    pub workers: Vec<Worker>,
    /// In the order of the config.
    pub services: Vec<Service>,
    /// In the order of the config.
    pub pools: Vec<Pool>,
    /// Backends that take no new connections and were drained by an operator, or still have some.
    #[serde(default)]
    pub draining: Vec<Draining>,
    /// The table.
    pub connections: Connections,
    /// Sources that are counted, and clients that are remembered.
    #[serde(default)]
    pub sources: Sources,
    /// Neighbours that weir knows of.
    pub next_hops: Vec<Neighbour>,
}

/// An interface that weir serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Of the kernel.
    pub name: String,
    /// Carrier and administratively up.
    pub up: bool,
    /// Its link address.
    pub mac: String,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// How the XDP program is attached: `native` or `generic`.
    pub attached: String,
    /// Whether replies that come in here come to the worker of their connection, in words; with one worker nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replies: Option<String>,
    /// One socket each.
    pub queues: Vec<Queue>,
    /// Frames that the XDP program gave to weir.
    pub redirected: u64,
    /// Frames that it left to the kernel.
    pub passed: u64,
}

/// One queue of an interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Its number.
    pub queue: u32,
    /// Index of the worker that serves it.
    pub worker: u32,
    /// What was got: `zero-copy`, `copy` or `generic`.
    pub mode: String,
    /// Frames that the kernel dropped at this socket: RX ring full, invalid, or, where it copies them, fill ring empty.
    pub ring_drops: u64,
    /// Times that the kernel found no frame to receive into. With zero-copy no frame is lost by that itself: the card goes on with those
    /// on its own ring, and counts what it misses when they are used up.
    pub fill_ring_empty: u64,
    /// Frames received; this and all below as of at most a second ago.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that are with the kernel to be received into.
    pub filling: u64,
    /// Frames that are on their way out.
    pub in_flight: u64,
}

/// Backends that serve the same thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// In the config.
    pub name: String,
    /// In the order of the config.
    pub backends: Vec<Backend>,
}

/// One server of one pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Where connections are sent.
    pub address: SocketAddr,
    /// As configured, or as set at run time.
    pub weight: u32,
    /// What schedulers go by: the weight × slow start × what its agent asks for, in hundredths where it is divided.
    #[serde(default)]
    pub effective_weight: f64,
    /// The configured one, if another one was set at run time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_weight: Option<u32>,
    /// An operator drains it.
    #[serde(default)]
    pub drained: bool,
    /// `up`, `down`, `ejected` (packets speak against it), or `unchecked` where the pool has no health check.
    pub health: String,
    /// Whether it takes connections: also one that is not up, so that there are `min_up`.
    #[serde(default)]
    pub serves: bool,
    /// What the last check found, or why it is ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Tracked now.
    pub connections: u32,
    /// As many as it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Confirmed since the daemon started.
    pub total_connections: u64,
}

/// How full the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Confirmed now.
    pub count: u64,
    /// Ended, of both families, and their places not free yet.
    #[serde(default)]
    pub ending: u64,
    /// Room, of each family.
    pub capacity: u64,
    /// Bytes of memory when all of it is in use.
    pub bytes: u64,
    /// Bytes of the notes of which SNAT ports are taken, where ports are chosen by a card's RSS; 0 where none are.
    #[serde(default)]
    pub port_bytes: u64,
    /// Expected now, of both families.
    #[serde(default)]
    pub expected: u64,
}

/// A neighbour on the link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Where it is; none while it is not resolved.
    pub interface: Option<String>,
    /// 802.1Q VLAN id, 0 without.
    pub vlan: u16,
    /// Its link address; none while it is not resolved.
    pub mac: Option<String>,
}

/// One tracked connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// `tcp`, `udp`, `sctp`, `dccp`, `gre`, `icmp` or `icmpv6`.
    pub protocol: String,
    /// State of TCP, SCTP and DCCP by the kernel's name; none for other protocols.
    pub state: Option<String>,
    /// Client; its port is the identifier of an echo.
    pub source: SocketAddr,
    /// VIP.
    pub destination: SocketAddr,
    /// Backend.
    pub backend: SocketAddr,
    /// Source address and port toward the backend.
    pub snat: SocketAddr,
    /// Name of the service, `-` when it is in no config any more.
    pub service: String,
    /// The key of a GRE tunnel that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// The status bits by the kernel's names.
    #[serde(default)]
    pub status: Vec<String>,
    /// Packets in both directions were seen.
    pub seen_reply: bool,
    /// Not given up first when the table is full.
    pub assured: bool,
    /// What was counted, with `accounting = true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// The control connection that has announced it, if it is EXPECTED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<Control>,
    /// Milliseconds until it is removed if nothing more comes; 0: within a second.
    pub expires_in: u32,
}

/// A control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Client.
    pub source: SocketAddr,
    /// VIP.
    pub destination: SocketAddr,
}

/// A connection that is expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// `tcp`
    pub protocol: String,
    /// Who opens it, from any port: the client, or the backend.
    pub source: IpAddr,
    /// Where it comes to: the VIP, or a SNAT address.
    pub destination: SocketAddr,
    /// Where it is sent on to: the backend, or the client.
    pub target: SocketAddr,
    /// Who has announced it.
    pub master: Control,
    /// Name of the service.
    pub service: String,
    /// Milliseconds for which it is still expected.
    pub expires_in: u32,
}

/// What was counted about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Packets client → backend.
    pub packets: u64,
    /// IP bytes client → backend.
    pub bytes: u64,
    /// Packets backend → client.
    pub reply_packets: u64,
    /// IP bytes backend → client.
    pub reply_bytes: u64,
    /// Milliseconds since it was opened.
    pub duration: u32,
    /// Microseconds from the client's SYN to the backend's SYN/ACK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_rtt: Option<u32>,
    /// Microseconds from the backend's SYN/ACK to the client's ACK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_rtt: Option<u32>,
}

/// A drop reason and how often it was the reason, over all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The stable label.
    pub reason: String,
    /// Frames.
    pub count: u64,
    /// For a human.
    pub sentence: String,
}

/// What would happen to a packet, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Steps in the order in which the datapath takes them, one sentence each.
    pub steps: Vec<String>,
    /// `forward`, or the label of the drop reason, or `pass` for what stays with the kernel.
    pub verdict: String,
    /// Name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// Its source on the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snat: Option<SocketAddr>,
    /// Address of the next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<IpAddr>,
    /// Outgoing interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}
