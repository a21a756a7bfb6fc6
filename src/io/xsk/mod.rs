//! Ports over AF_XDP.
//!
//! All sockets of a worker share one UMEM: a frame received on one interface is sent on another by moving its descriptor. The
//! XDP program is attached, and the sockets are entered in its XSKMAP, by the control thread ([`XskPorts::sockets`]).

mod bell;
mod config;
mod error;
mod open;
mod options;
mod ports;
mod socket;
mod statistics;
mod umem;

pub use bell::Bell;
pub use config::{Attached, Binding, BusyPoll, Got, HugePages, Mode, Settings};
pub use error::XskError;
pub use open::{frame_size_for, largest_packet};
pub use ports::{SocketInfo, XskPorts};
pub use statistics::{Link, SocketStatistics};
