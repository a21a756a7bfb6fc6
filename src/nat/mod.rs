//! Network address translation: the choice of a port, the rewrite of a packet, ICMP errors.

pub mod ftp;
pub mod icmp_error;
pub mod icmp_limit;
pub mod tcp_reset;

mod home_port;
mod homes;
mod icmp_reply;
mod mangle;
mod manip_pkt;
mod seq_adjust;
mod spread;
mod taken_ports;
mod turns;
mod unique_tuple;

pub use homes::{Home, Homes, MAPS, Served};
pub use icmp_reply::icmp_reply_translation;
pub use mangle::mangle_tcp;
pub use manip_pkt::{Manip, manip_pkt, recompute_checksum};
pub use seq_adjust::seq_adjust;
pub use spread::Spread;
pub use unique_tuple::{Allocation, Sources, first_free_tuple, unique_tuple};
