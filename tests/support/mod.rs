//! The laboratory of the network tests: real programs in network namespaces, and weir between them.
//!
//! Nothing here touches the machine's own network. A namespace is held by a file descriptor of the test process alone, every
//! program started in it dies with the thread that started it, and every file lies in one directory under `target/tmp`. So there
//! is nothing to clean up after a panic, Ctrl-C or `kill -9`: the kernel does it.

mod backend;
mod cards;
mod config;
mod daemon;
mod datagram;
mod evidence;
mod ftp;
mod lab;
mod ledger;
mod load;
mod namespace;
mod program;
mod requirement;
mod router;
mod session;
mod tag;
mod traffic;
mod transfer;

pub use backend::Backend;
pub use cards::{has_carrier, plug};
pub use config::{Config, Family};
pub use daemon::Daemon;
pub use datagram::{DatagramServer, ask_by_datagram};
pub use ftp::{FtpSession, start_vsftpd};
pub use lab::{Lab, Layout, run};
pub use load::{Load, Outcome, answers, failures};
pub use namespace::{Namespace, without_socket_family};
pub use program::{Background, Finished, run_within, wait_until};
pub use router::{Behind, NARROW, put_behind};
pub use session::converse;
pub use tag::{Mapping, map_queues, tag_frames};
pub use traffic::{curl, iperf3, ping, spread_of_requests};
pub use transfer::transfer;
