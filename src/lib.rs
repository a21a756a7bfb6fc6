//! weir: an L4 load balancer on AF_XDP with connection tracking and full-NAT in user space.
//!
//! The rooms stand in levels; imports only point down (`tests/architecture.rs` holds that).

pub mod admin; // L5: the admin socket's language
pub mod cli;
pub mod config; // L5: from TOML to what the daemon needs
pub mod conntrack; // L1: tuples, entries, the lock-free table, states, timeouts, expiry
pub mod control; // L5: the control thread
pub mod datapath; // L3: one function over a burst of frames
pub mod health; // L4: is a backend up
pub mod io; // L3: where frames come from and go to
pub mod kernel; // L3: netlink, ethtool, affinity, privileges
pub mod nat; // L2: the choice of a port, the rewrite of a packet, ICMP errors
pub mod packet; // L0: views of headers, parsing, checksums
pub mod pktgen; // L4: traffic with known numbers, and what arrives of it
pub mod schedule; // L1: which member of a pool gets the next connection
pub mod service; // L1: services, pools, backends and the snapshot of them that workers read
pub mod worker; // L4: the poll loop of one core
pub mod xdp; // L3: the program in the kernel that steers frames to us // L6: one file a subcommand
