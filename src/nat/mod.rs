//! Network address translation: the choice of a port, the rewrite of a packet, ICMP errors.

pub mod icmp_error;
pub mod icmp_limit;

mod icmp_reply;
mod manip_pkt;
mod unique_tuple;

pub use icmp_reply::icmp_reply_translation;
pub use manip_pkt::{Manip, manip_pkt, recompute_checksum};
pub use unique_tuple::{Allocation, unique_tuple};
