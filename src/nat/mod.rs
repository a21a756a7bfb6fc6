//! Network address translation: the choice of a port, the rewrite of a packet, ICMP errors.

pub mod icmp_error;
pub mod icmp_limit;
