//! Programs with a deadline, and waiting for conditions.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Looks at `probe` until it gives something; panics when `limit` has passed.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        sleep(LOOK);
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// `None`: it was killed at its deadline.
    pub status: Option<ExitStatus>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// It ended by itself, with exit code 0.
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// Its exit code, if it ended by itself.
    pub fn code(&self) -> Option<i32> {
        self.status?.code()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "{status}")?,
            None => writeln!(f, "killed at its deadline")?,
        }
        write!(f, "stdout: {}\nstderr: {}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// Runs a command to its end, or kills it when `limit` has passed.
#[track_caller]
pub fn run_within(command: Command, limit: Duration) -> Finished {
    run_with_input(command, "", limit)
}

/// The same, with something to read that fits into a pipe (64 KiB).
#[track_caller]
pub fn run_with_input(mut command: Command, input: &str, limit: Duration) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // Who ends without reading says why by its status.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let read_out = std::thread::spawn(move || read_all(&mut out));
    let read_err = std::thread::spawn(move || read_all(&mut err));
    let status = wait_for(&mut child, limit);
    if status.is_none() {
        end(&mut child);
    }
    Finished { status, stdout: read_out.join().expect("reader"), stderr: read_err.join().expect("reader") }
}

fn read_all(source: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // A pipe that breaks ends the output: what was read until then is what there is.
    let _ = source.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sleeps until it has ended, rather than look again and again: in an emulator every look is dear.
fn wait_for(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Some(status) = child.try_wait().expect("wait for a child") {
        return Some(status);
    }
    // Its number is its own until it has been waited for.
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a descriptor of a child");
    let limit = Timespec::try_from(limit).expect("a limit");
    retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit))).expect("poll");
    child.try_wait().expect("wait for a child")
}

fn end(child: &mut Child) {
    // It may have ended by itself in between; either way it is gone after wait.
    let _ = child.kill();
    let _ = child.wait();
}

/// A program that runs until it is dropped, its output in a file.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `command`; both its outputs are appended to `log`.
    #[track_caller]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file =
            File::options().create(true).append(true).open(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let copy = file.try_clone().expect("a second descriptor of the log");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success(), "kill -s {signal} {}: {status}", self.child.id());
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits for its end; `None` (and killed) when `limit` has passed.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = wait_for(&mut self.child, limit);
        if status.is_none() {
            end(&mut self.child);
        }
        status
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
