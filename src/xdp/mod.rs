//! The XDP program: what is steered to weir and what stays with the kernel.
//!
//! `steer.bpf.c` decides; this room loads it, attaches it to an interface, and keeps its maps in step with the config. Each interface has
//! its own program and maps. The attachment is a bpf_link that is not pinned: when the process ends, however it ends, the kernel
//! detaches the program and has all traffic back.

mod error;
mod maps;
mod program;
mod steering;
mod targets;
#[cfg(test)]
mod tests;

pub use error::XdpError;
pub use program::{attach_program, load_program, program_named};
pub use steering::{AttachMode, SteerCounters, Steering};
pub use targets::{FIRST_DATA_PORT, Targets};

/// Queues of one interface that sockets can be set for, from 0: the size of the XSKMAP.
pub const MAX_QUEUES: u32 = 256;

/// Most (VIP, port, protocol) of one address family.
pub const MAX_SERVICES: usize = 16_384;

/// Most VIPs and SNAT addresses of one address family.
pub const MAX_ADDRESSES: usize = 4_096;
