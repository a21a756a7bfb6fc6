//! What a worker's sockets are asked to be, and what they became.

use crate::datapath::PortId;
use std::fmt;

/// How an interface shall be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Zero-copy, else copy, else generic.
    #[default]
    Auto,
    /// Zero-copy or not at all.
    ZeroCopy,
    /// Native XDP with a copy, although zero-copy might be had.
    Copy,
    /// Generic XDP: the kernel builds an skb first. For drivers without native XDP.
    Generic,
}

/// How the XDP program is attached to an interface; whoever attaches it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the kernel's generic receive path.
    Generic,
}

/// What a socket got: read back from the kernel, not concluded from what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// The card reads and writes the frames.
    ZeroCopy,
    /// The driver hands frames over, the kernel copies them.
    Copy,
    /// The kernel copies them out of an skb.
    Generic,
}

impl Got {
    /// As the config and the lists call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One queue of one interface, to be served by this worker.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The interface's index in the config. A worker may serve several queues of one port; it sends through the first of them.
    pub port: PortId,
    /// Its name.
    pub interface: String,
    /// RX and TX queue, from 0.
    pub queue: u32,
    /// Largest IP packet that the interface carries, in bytes: a frame must hold it.
    pub mtu: u32,
    /// What is asked for.
    pub mode: Mode,
    /// How the XDP program is attached there.
    pub attached: Attached,
}

/// The kernel polls the driver from the worker's own system calls, instead of from interrupts on whichever core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyPoll {
    /// Microseconds that one call may poll (`SO_BUSY_POLL`).
    pub microseconds: u32,
    /// Packets that one call may take (`SO_BUSY_POLL_BUDGET`), 1 to 65535.
    pub budget: u32,
}

impl Default for BusyPoll {
    /// The values of the kernel's AF_XDP documentation: 20 µs, 64 packets.
    fn default() -> Self {
        Self { microseconds: 20, budget: 64 }
    }
}

/// Whether the UMEM is asked for in huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// Where enough of them are reserved; ordinary pages otherwise.
    #[default]
    IfReserved,
    /// Ordinary pages.
    Never,
}

/// Sizes and settings of a worker's sockets.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a frame, 2048 or 4096; `None` takes the smaller one that holds the largest MTU.
    pub frame_size: Option<u32>,
    /// Entries of each RX ring, a power of two. The fill ring has twice as many, so that it holds enough for a full RX ring and
    /// as much again on the driver's own ring: it never runs dry while the worker is late.
    pub rx_ring: u32,
    /// Entries of each TX ring, a power of two; also the most frames on their way out of one queue.
    pub tx_ring: u32,
    /// `None`: interrupts.
    pub busy_poll: Option<BusyPoll>,
    /// Pages of the UMEM.
    pub huge_pages: HugePages,
}

impl Default for Settings {
    fn default() -> Self {
        Self { frame_size: None, rx_ring: 2048, tx_ring: 2048, busy_poll: None, huge_pages: HugePages::IfReserved }
    }
}
