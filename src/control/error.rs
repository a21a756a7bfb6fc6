//! Why the daemon did not start, or stopped by itself.

use super::StateError;
use super::registry::OutOfIds;
use super::workers::OpenError;
use crate::config::ConfigReport;
use crate::kernel::{ChannelsError, Lacking, LinkError, NetlinkError};
use crate::worker;
use crate::xdp::XdpError;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// A start that failed; everything that was done is undone.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigReport),
    /// Reloads have used up the numbers of backends or services.
    #[error(transparent)]
    OutOfIds(#[from] OutOfIds),
    /// The process may not do what is needed, or the kernel can not.
    #[error(transparent)]
    Lacking(#[from] Lacking),
    /// Another daemon, or no state file.
    #[error(transparent)]
    State(#[from] StateError),
    /// An interface is missing or down.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The queues of an interface.
    #[error(transparent)]
    Channels(#[from] ChannelsError),
    /// The config wants more queues than there are.
    #[error(
        "interface {interface}: queues = {wanted} in the config, but it has {has} (ethtool -L {interface} combined N changes that)"
    )]
    TooFewQueues {
        /// Its name.
        interface: String,
        /// In the config.
        wanted: u32,
        /// In the kernel.
        has: u32,
    },
    /// The XDP program.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// A worker or its sockets.
    #[error(transparent)]
    Worker(worker::StartError<OpenError>),
    /// The table has 128 places for threads.
    #[error("more workers than the connection table has places for: 120 are allowed; set interface.queues")]
    TooManyWorkers,
    /// The cores.
    #[error("cannot find out which CPUs may be used: {0}")]
    Cpus(io::Error),
    /// A core that is not there or not allowed.
    #[error("worker.cpus: CPU {cpu} is not one that this process may use; allowed: {allowed:?}")]
    NoSuchCpu {
        /// In the config.
        cpu: usize,
        /// Those that may be used.
        allowed: Vec<usize>,
    },
    /// Links, addresses, routes, neighbours.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// weir takes all TCP and UDP packets to its SNAT addresses, so the host would lose them.
    #[error(
        "SNAT address {address} is already an address of the host, on interface {interface}, which could not be reached at it any \
         more: give weir an address of its own in snat.addresses"
    )]
    SnatTaken {
        /// In the config.
        address: IpAddr,
        /// Which has it.
        interface: String,
    },
    /// For gratuitous ARP and unsolicited neighbour advertisements.
    #[error("no packet socket to announce addresses from: {0}")]
    Announcer(io::Error),
    /// The memory for the connection table.
    #[error("no memory for a connection table of {max_connections} connections a family: {error}")]
    Table {
        /// In the config.
        max_connections: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// The admin socket.
    #[error("admin socket {}: {error}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The loop itself.
    #[error("control thread: {0}")]
    Loop(io::Error),
    /// An interface was removed while weir served it; its sockets and its program went with it.
    #[error("interface {0} was removed; weir must be started again once it is back")]
    InterfaceGone(String),
    /// A worker panicked.
    #[error("worker {id} died: {why}")]
    WorkerDied {
        /// From 0.
        id: usize,
        /// Its last words.
        why: String,
    },
}
