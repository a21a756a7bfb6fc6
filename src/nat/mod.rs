//! Network address translation: the choice of a port, the rewrite of a packet, ICMP errors.
