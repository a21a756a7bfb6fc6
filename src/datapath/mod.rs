//! The datapath: one function over a burst of frames. It opens no socket, reads no clock, takes no lock, logs nothing.

mod burst;
mod counters;
mod drop_reason;
mod next_hop;

pub use burst::{BURST, Fate, Frame, MAX_PORTS, PortId};
pub use counters::{Counter, Counters};
pub use drop_reason::{DROP_REASONS, DropReason};
pub use next_hop::{NEXT_HOPS, NextHop, NextHopId, NextHops, PortState, Route, Routes, Unreachable};

mod process;

pub use process::{Datapath, Lane};
