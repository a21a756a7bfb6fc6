//! Why sockets could not be had.

use std::io;
use thiserror::Error;

/// A start error of a worker's AF_XDP sockets; names the interface, the queue and what to do.
#[derive(Debug, Error)]
pub enum XskError {
    /// No frame can hold such a packet.
    #[error("interface {interface}: MTU {mtu} is above {usable}, the largest that fits a frame of {frame_size} bytes")]
    MtuTooBig {
        /// Its name.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The largest allowed.
        usable: u32,
        /// The frame size tried.
        frame_size: u32,
    },
    /// One worker's sockets share their memory and with it their mode.
    #[error(
        "interface {insists} insists on zero-copy and interface {refuses} on a copy: they share frames, so both must be of one mode"
    )]
    MixedModes {
        /// The interface with `zero-copy`.
        insists: String,
        /// The interface with `copy` or `generic`, or with a program attached in generic mode.
        refuses: String,
    },
    /// `mode = "zero-copy"` and the driver does not.
    #[error("interface {interface} queue {queue}: zero-copy was refused: {source}; {}", why_refused(source))]
    ZeroCopyRefused {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// `mode = "zero-copy"` of one interface, and the driver of another one does not.
    #[error(
        "interface {insists} asks for zero-copy, but interface {interface} queue {queue} refused it: {source}; {}; interfaces share frames, so all of them have it or none",
        why_refused(source)
    )]
    ZeroCopyShared {
        /// The interface with that mode.
        insists: String,
        /// The other one.
        interface: String,
        /// Its queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else has the queue.
    #[error(
        "interface {interface} queue {queue}: another program or socket holds it (EBUSY for {seconds} s); stop that program, `ss --xdp -p` names it"
    )]
    Busy {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// How long it was tried.
        seconds: u64,
    },
    /// Anything else at bind.
    #[error("interface {interface} queue {queue}: cannot bind an AF_XDP socket: {source}{}", hint(source))]
    Bind {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// No memory, no privilege, no AF_XDP.
    #[error("cannot register {bytes} bytes of memory for AF_XDP: {source}{}", hint(source))]
    Umem {
        /// Its size.
        bytes: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A bound socket that cannot be asked or set.
    #[error("interface {interface} queue {queue}: cannot set {option}: {source}")]
    Option {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// The socket option.
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A port without a queue could not be sent to.
    #[error("port {0} has no queue of its interface bound by this worker; every worker needs at least one of each interface")]
    MissingPort(u8),
    /// A size that the rings cannot have.
    #[error("{name} is {found}; it must be {allowed}")]
    Size {
        /// The setting.
        name: &'static str,
        /// What it is.
        found: u32,
        /// What it may be.
        allowed: &'static str,
    },
}

/// Drivers without zero-copy say EOPNOTSUPP; EINVAL comes from those that have it and cannot with this card or these settings.
fn why_refused(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            "the driver has it, but not for this card or its settings (virtio_net: the card must be a modern one behind an IOMMU, in QEMU \
             disable-legacy=on,iommu_platform=on)"
        }
        _ => "the driver has none, or the XDP program is not attached natively",
    }
}

/// What an error number mostly means here, as `bind(2)` and `socket(2)` of AF_XDP use it.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; CAP_NET_RAW and CAP_NET_ADMIN are needed",
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => "; this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)",
        Some(libc::ENODEV) => "; there is no such interface",
        Some(libc::ENETDOWN) => "; the interface is down",
        Some(libc::EINVAL) => "; the interface may have fewer queues than that",
        Some(libc::EOPNOTSUPP) => "; the driver does not support this mode",
        Some(libc::ENOMEM | libc::ENOBUFS) => "; not enough memory, or the limit of locked memory (ulimit -l) is too low",
        _ => "",
    }
}
