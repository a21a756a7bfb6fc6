//! Why no traffic is made.

use crate::io::xsk::XskError;
use crate::kernel::{ChannelsError, Lacking, LinkError, NamespaceError, NetlinkError};
use crate::xdp::XdpError;
use std::io;
use std::net::IpAddr;

/// Why no traffic is made.
#[derive(Debug, thiserror::Error)]
pub enum PktgenError {
    /// The program at an end.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// The socket of the AF_XDP sender.
    #[error(transparent)]
    Xsk(#[from] XskError),
    /// The interface.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The interface's queues.
    #[error(transparent)]
    Channels(#[from] ChannelsError),
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel's tables.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Privileges.
    #[error(transparent)]
    Lacking(#[from] Lacking),
    /// Nobody answers for the address that packets are sent to.
    #[error(
        "no link address of {hop}, which packets to {vip} go to from interface {interface}: nobody answers there; name one with --to MAC"
    )]
    Unresolved {
        /// Where packets shall go.
        vip: IpAddr,
        /// By whom.
        hop: IpAddr,
        /// From where.
        interface: String,
    },
    /// No route.
    #[error("interface {interface}: no route to {vip} leads out of it; name who shall get the packets with --to MAC")]
    NoRoute {
        /// Where packets shall go.
        vip: IpAddr,
        /// From where.
        interface: String,
    },
    /// Live frames are refused.
    #[error("the kernel refuses XDP live frames: {0} (Linux 5.18 or newer has them); --sender af-xdp needs less")]
    LiveFrames(io::Error),
    /// The kernel's generator is not there.
    #[error(
        "this kernel has no pktgen here ({path}: {source}): `modprobe pktgen` loads it where it was built (CONFIG_NET_PKTGEN); --sender live-frames and --sender af-xdp need no module"
    )]
    NoKernelGenerator {
        /// Where it would be.
        path: String,
        /// What was found instead.
        source: io::Error,
    },
    /// The kernel's generator took a command badly.
    #[error("the kernel's pktgen refuses \"{command}\": {source}")]
    KernelRefuses {
        /// Which.
        command: String,
        /// How.
        source: io::Error,
    },
    /// The kernel's generator cannot do what was asked.
    #[error("the kernel's pktgen cannot send {what}; --sender live-frames and --sender af-xdp can")]
    KernelCannot {
        /// What was asked.
        what: &'static str,
    },
    /// An interface went while packets were sent.
    #[error("interface {interface} is gone: {how} while packets were sent")]
    Gone {
        /// Its name.
        interface: String,
        /// What happened to it.
        how: &'static str,
    },
    /// Anything of the system.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// What was asked for does not go together.
    #[error("{0}")]
    Plan(String),
}
