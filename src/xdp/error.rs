//! Why the program is not steering.

use super::{AttachMode, MAX_QUEUES};
use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use std::error::Error;
use std::io;

/// Why the program could not be loaded, attached or fed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// No interface has this name.
    #[error("interface {0}: there is none of this name")]
    NoInterface(String),
    /// Another XDP program is on the interface.
    #[error("interface {interface}: another XDP program is attached{}; `ip link show {interface}` shows it, `ip link set {interface} xdp off` removes one that no link holds", of_id(.program))]
    Occupied {
        /// Where.
        interface: String,
        /// The kernel's id of that program, when it is known.
        program: Option<u32>,
    },
    /// The process may not do this.
    #[error(
        "no privilege to {action}: CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN for the last two) are needed; run as root or grant them"
    )]
    NoPrivilege {
        /// What was refused.
        action: &'static str,
    },
    /// Frames may be larger than native mode takes in one buffer.
    #[error(
        "interface {interface}: its MTU (for veth: its peer's) is too large for native XDP, frames must fit into one page; about 3500 is allowed: ip link set … mtu 1500"
    )]
    MtuTooLarge {
        /// Where.
        interface: String,
    },
    /// The driver has no XDP.
    #[error("interface {interface}: its driver has no native XDP; mode = \"generic\" works everywhere, slower")]
    NoNativeMode {
        /// Where.
        interface: String,
    },
    /// The kernel gave no bpf_link.
    #[error("interface {interface}: the kernel refused a bpf_link for {} mode (Linux 5.9 or newer has them)", mode.name())]
    NoLink {
        /// Where.
        interface: String,
        /// As asked for.
        mode: AttachMode,
    },
    /// Any other refusal to attach.
    #[error("interface {interface}: XDP in {} mode: {reason}", mode.name())]
    Attach {
        /// Where.
        interface: String,
        /// As asked for.
        mode: AttachMode,
        /// The kernel's error.
        reason: String,
        /// Its number.
        errno: Option<i32>,
    },
    /// The kernel's verifier refused the program.
    #[error("the kernel refused the XDP program: {reason}; the end of the verifier's log:\n{log}")]
    Refused {
        /// The kernel's error.
        reason: String,
        /// The last lines of the log.
        log: String,
    },
    /// The program could not be loaded for another reason.
    #[error("the XDP program cannot be loaded: {0}")]
    Load(String),
    /// The object file is not the one that this code was written for.
    #[error("the XDP object has no program {0}")]
    NoProgram(&'static str),
    /// The object file is not the one that this code was written for.
    #[error("the XDP object has no map {0}")]
    NoMap(&'static str),
    /// A queue number beyond the XSKMAP.
    #[error("queue {queue}: only queues 0 to {} can be served", MAX_QUEUES - 1)]
    QueueTooHigh {
        /// The queue.
        queue: u32,
    },
    /// More targets than the maps hold.
    #[error("{count} {what} of one address family; {limit} are allowed")]
    TooMany {
        /// Services or addresses.
        what: &'static str,
        /// That many.
        count: usize,
        /// At most that many.
        limit: usize,
    },
    /// A map could not be read or changed.
    #[error("cannot {action} a map of the XDP program: {source}{}", cause(.source))]
    Map {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: MapError,
    },
}

impl XdpError {
    /// Generic mode may work where this error came from native mode.
    pub fn is_about_native_mode(&self) -> bool {
        match self {
            Self::NoNativeMode { .. } | Self::MtuTooLarge { .. } => true,
            Self::NoLink { mode, .. } | Self::Attach { mode, .. } => *mode == AttachMode::Native,
            _ => false,
        }
    }
}

fn of_id(program: &Option<u32>) -> String {
    program.map(|id| format!(" (id {id})")).unwrap_or_default()
}

/// aya's errors keep what the kernel said in their source.
fn cause(error: &dyn Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}

/// The errno at the end of a chain of errors.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}

pub(super) fn load(error: EbpfError) -> XdpError {
    match errno(&error) {
        Some(libc::EPERM) => XdpError::NoPrivilege { action: "create the maps of the XDP program" },
        _ => XdpError::Load(format!("{error}{}", cause(&error))),
    }
}

pub(super) fn verify(error: ProgramError) -> XdpError {
    const LINES: usize = 12;
    match error {
        ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EPERM) => {
            XdpError::NoPrivilege { action: "load the XDP program" }
        }
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let log = lines[lines.len().saturating_sub(LINES)..].join("\n");
            XdpError::Refused { reason: io_error.to_string(), log }
        }
        other => XdpError::Load(format!("{other}{}", cause(&other))),
    }
}

pub(super) fn attach(interface: &str, mode: AttachMode, error: ProgramError) -> XdpError {
    let interface = interface.to_owned();
    if let ProgramError::UnknownInterface { .. } = error {
        return XdpError::NoInterface(interface);
    }
    let errno = errno(&error);
    match errno {
        // EEXIST: native mode asked for where a generic program is, or the other way round.
        Some(libc::EBUSY | libc::EEXIST) => {
            let program = crate::kernel::attached_program(&interface).ok().flatten();
            XdpError::Occupied { interface, program }
        }
        Some(libc::EPERM) => XdpError::NoPrivilege { action: "attach an XDP program" },
        Some(libc::ERANGE) => XdpError::MtuTooLarge { interface },
        Some(libc::EOPNOTSUPP) if mode == AttachMode::Native => XdpError::NoNativeMode { interface },
        _ => XdpError::Attach { interface, mode, reason: format!("{error}{}", cause(&error)), errno },
    }
}
