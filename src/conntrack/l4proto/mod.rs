//! One file a transport protocol: what its packets do to the state of a connection, and how long each state lasts.

pub mod tcp;
pub mod udp;

mod tcp_state;

pub use tcp_state::TcpState;
