//! The program on one interface: loaded, attached, fed.

use super::XdpError;
use super::maps::Maps;
use super::program::{attach_program, load_program, program_named};
use super::targets::{Entries, Targets};
use aya::Ebpf;
use aya::programs::Xdp;
use aya::programs::links::FdLink;
use std::fmt;
use std::os::fd::BorrowedFd;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));
const PROGRAM: &str = "weir_steer";

/// Where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel allocates anything.
    Native,
    /// In the network stack, for drivers without XDP: slower, and a veth pair loses redirected frames in it.
    Generic,
}

impl AttachMode {
    /// The name in logs and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Frames that the program judged since it was attached, over all queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SteerCounters {
    /// Steered to a socket of weir.
    pub redirected: u64,
    /// Weir's, but no socket is set for the queue they came in on: left to the kernel.
    pub unserved: u64,
    /// The kernel's.
    pub passed: u64,
}

/// The steering program on one interface. Detached when dropped, and by the kernel when the process dies.
pub struct Steering {
    interface: String,
    mode: AttachMode,
    maps: Maps,
    _link: FdLink,
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steering").field("interface", &self.interface).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Steering {
    /// Loads the program and attaches it to `interface`. Nothing is steered before [`Steering::apply`] and [`Steering::set_socket`].
    ///
    /// There is no fall-back: who wants generic mode after native failed asks again, see [`XdpError::is_about_native_mode`].
    pub fn attach(interface: &str, mode: AttachMode) -> Result<Self, XdpError> {
        let mut ebpf = load()?;
        let maps = Maps::new(&mut ebpf)?;
        let program = program(&mut ebpf)?;
        let link = attach_program(program, interface, mode)?;
        Ok(Self { interface: interface.to_owned(), mode, maps, _link: link })
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The mode that it was attached in.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// Steers what comes in on `queue` (below [`super::MAX_QUEUES`]) to this AF_XDP socket, which is bound to that queue. The kernel
    /// takes the socket out of the map when it is closed.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), XdpError> {
        self.maps.set_socket(queue, socket)
    }

    /// Makes `targets` what is steered. What stays from the targets before is steered without a gap. Too many targets change nothing;
    /// after any other error the next `apply` starts from what had been reached.
    pub fn apply(&mut self, targets: &Targets) -> Result<(), XdpError> {
        self.maps.apply(Entries::new(targets)?)
    }

    /// What the program counted.
    pub fn counters(&self) -> Result<SteerCounters, XdpError> {
        self.maps.counters()
    }
}

/// Loads the program into the kernel, attached to nothing.
pub(super) fn load() -> Result<Ebpf, XdpError> {
    load_program::<0>(OBJECT, PROGRAM, None)
}

pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, XdpError> {
    program_named(ebpf, PROGRAM)
}
