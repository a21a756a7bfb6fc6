//! Network address translation: the choice of a port, the rewrite of a packet, ICMP errors.

pub mod icmp_error;
pub mod icmp_limit;

mod manip_pkt;
mod unique_tuple;

pub use manip_pkt::{Manip, manip_pkt, recompute_checksum};
pub use unique_tuple::{Allocation, unique_tuple};
