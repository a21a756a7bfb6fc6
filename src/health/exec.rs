//! The probe `type = "exec"`: a program of the user's; exit code 0 passes.
//!
//! It runs as weir does, with its privileges, in a process group of its own, in `/`, without input, its output thrown away. Its environment is
//! `PATH`, `WEIR_ADDRESS` and `WEIR_PORT`, and nothing else. When it ends or takes too long, whatever is left of its group is killed.
//!
//! It is started by posix_spawn(3), never by fork(2): that would copy the page tables of the connection table.

use super::Failure;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Programs that run at a time; others wait for their turn.
pub(super) const AT_ONCE: usize = 32;

/// A program that runs. Dropping it kills it; then nobody waits for its end, so that is for when weir itself ends.
#[derive(Debug)]
pub(super) struct Script {
    child: Child,
    /// Readable once it has ended.
    end: OwnedFd,
    reaped: bool,
}

impl Script {
    /// Starts it. Its end is told under `token`.
    pub(super) fn start(registry: &Registry, token: Token, command: &[String], address: SocketAddr) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().ok_or_else(|| Failure::Local(std::io::ErrorKind::NotFound.into()))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("WEIR_ADDRESS", address.ip().to_string()).env("WEIR_PORT", address.port().to_string());
        command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(Failure::Local)?;
        // It is not reaped before this file is closed, so the number is still its.
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::NONBLOCK).map_err(|error| Failure::Local(error.into()));
        let script = match end {
            Ok(end) => Self { child, end, reaped: false },
            Err(failure) => {
                kill(&child);
                return Err(failure);
            }
        };
        registry.register(&mut SourceFd(&script.end.as_raw_fd()), token, Interest::READABLE).map_err(Failure::Local)?;
        Ok(script)
    }

    /// After an event: `Some` when it has ended.
    pub(super) fn advance(&mut self) -> Option<Result<(), Failure>> {
        self.reap().map(judge)
    }

    /// Whether it has ended and is gone. To be asked again and again of one that was killed.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        if !has_ended(&self.end) {
            return None;
        }
        // Whoever it left behind, while its number is still its: it is not reaped yet.
        kill(&self.child);
        let status = self.child.try_wait().ok().flatten()?;
        self.reaped = true;
        Some(status)
    }

    /// Kills it with its group.
    pub(super) fn kill(&self) {
        if !self.reaped {
            kill(&self.child);
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.kill();
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

fn kill(child: &Child) {
    // Gone already: that is what was wanted.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

fn judge(status: ExitStatus) -> Result<(), Failure> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Exit(code)),
        (None, signal) => Err(Failure::Signal(signal.unwrap_or_default())),
    }
}
