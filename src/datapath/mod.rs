//! The datapath: one function over a burst of frames. It opens no socket, reads no clock, takes no lock, logs nothing.
//!
//! A packet's way: [`process`](Datapath::process) → `express`, or whatever does not fit there: `passage` → `prerouting` → `forward` →
//! `postrouting` → `link`; ICMP errors go by `related`, fragments by `defrag`, what ends here by `answer`.

mod admission;
mod answer;
mod burst;
mod closed;
mod counters;
mod defrag;
mod drop_reason;
mod expected;
mod express;
mod forward;
mod handshake;
mod helped;
mod hook;
mod link;
mod local_in;
mod local_out;
mod next_hop;
mod passage;
mod postrouting;
mod preview;
mod prerouting;
mod process;
mod related;
mod tally;
mod tracked;
mod tuples;
mod verdict;

pub use burst::{BURST, Fate, Frame, MAX_PORTS, PortId};
pub use closed::connection_closed;
pub use counters::{Counter, Counters};
pub use drop_reason::{DROP_REASONS, DropReason};
pub use hook::{Handler, Hook, Hooks, Packet, priority};
pub use next_hop::{Local, NEXT_HOPS, NextHop, NextHopId, NextHops, PortState, Route, Routes, Unreachable};

pub use preview::{Next, Preview, Why};
pub use process::{Datapath, Lane};
pub use verdict::Verdict;
