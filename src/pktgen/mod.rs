//! Traffic with known numbers, and what arrives of it.
//!
//! Every packet carries a stamp ([`stamp`]): the run, its sequence number and the time. A [`Sender`] sends out of one interface, at a [`pace`];
//! an [`End`] on the same or another interface counts and times what comes, in the kernel, and sends it back where it shall. [`Bench`] has
//! both and makes [`Trial`]s; [`search`] looks for the highest rate without loss. Nothing is sent out of any other interface, and everything
//! is taken down with the process, however it ends.

mod arrived;
mod bench;
mod end;
mod error;
mod frame;
mod kernel;
mod live;
mod next_hop;
pub mod pace;
mod plan;
pub mod search;
pub mod stamp;
mod standing;
mod watch;
mod xsk;

pub use arrived::{Arrived, Times};
pub use bench::{Bench, Row, Setup, Trial};
pub use end::End;
pub use error::PktgenError;
pub use next_hop::next_hop;
pub use plan::{Plan, Protocol, Sizes};

use pace::Profile;
use watch::Watch;

/// An interface, and the network namespace that it is in; `None` is that of the calling thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As `ip netns add` or a path names it.
    pub namespace: Option<String>,
    /// The interface's name.
    pub interface: String,
}

impl Place {
    /// Runs `work` on a thread that is in the namespace. What it opens stays there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T, PktgenError> + Send) -> Result<T, PktgenError> {
        let entered = || {
            self.enter()?;
            work()
        };
        std::thread::scope(|scope| scope.spawn(entered).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn enter(&self) -> Result<(), PktgenError> {
        match &self.namespace {
            Some(name) => Ok(crate::kernel::enter_namespace(name)?),
            None => Ok(()),
        }
    }
}

/// Which of the ways to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// XDP live frames: BPF_PROG_RUN makes and redirects frames in the kernel (Linux 5.18).
    LiveFrames,
    /// The TX ring of an AF_XDP socket.
    AfXdp,
    /// The kernel's pktgen module.
    Kernel,
}

/// What to send now.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// How fast, how long.
    pub profile: Profile,
    /// At most so many frames.
    pub limit: u64,
    /// Nanoseconds after which it is given up.
    pub deadline: u64,
    /// Of its stamps.
    pub tag: u32,
    /// TCP flags.
    pub flags: u8,
    /// One flow after the other and in the smallest frames, to open them; else flows at random and the plan's sizes.
    pub opening: bool,
}

impl Order {
    /// The nanoseconds that so many frames were due in, of whose bursts the last left `last` after the first: until the next one would have
    /// been due. Where not all were sent it is no less than `elapsed`, when that was given up.
    fn spent(&self, frames: u64, last: u64, elapsed: u64) -> u64 {
        let due = last + self.profile.share(frames, last);
        if frames < self.limit { due.max(elapsed) } else { due }
    }
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Bytes of them, without FCS.
    pub bytes: u64,
    /// Nanoseconds that they were due in, by the sender's clock: that many frames in that time were offered.
    pub nanos: u64,
}

/// Sends out of one interface.
trait Sender: Send {
    /// Sends until the order is carried out or the watch says that it is over.
    fn send(&mut self, order: &Order, watch: &Watch) -> Result<Sent, PktgenError>;
}

/// The monotonic clock, in nanoseconds: that of `bpf_ktime_get_ns`.
fn now() -> u64 {
    clock(rustix::time::ClockId::Monotonic)
}

fn clock(id: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(id);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests;
