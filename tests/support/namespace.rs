//! A network namespace without a name: it lives as long as this process holds its descriptor, or a program runs in it.

#![allow(unsafe_code)] // unshare, setns and prctl have no safe wrapper in the dependencies

use super::program::{Finished, run_with_input, run_within};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// One namespace, with `lo` up.
#[derive(Debug)]
pub struct Namespace {
    name: &'static str,
    descriptor: File,
}

impl Namespace {
    /// A new, empty namespace. `name` is for messages only.
    pub fn new(name: &'static str) -> Self {
        // A thread of its own: unshare moves the thread that calls it, and this one shall stay where it is.
        let descriptor = std::thread::spawn(|| {
            // SAFETY: takes no pointer; concerns the calling thread only, which ends right after.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "unshare(CLONE_NEWNET): {}", io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").expect("the namespace just made")
        })
        .join()
        .expect("a new network namespace");
        let namespace = Self { name, descriptor };
        namespace.ip("link set lo up");
        namespace
    }

    /// What it is called in messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A path that `ip link ... netns` understands.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.descriptor.as_raw_fd())
    }

    /// A command that will run inside, and be killed when the thread that started it ends.
    pub fn command(&self, program: &str) -> Command {
        let descriptor = self.descriptor.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: only async-signal-safe system calls between fork and exec; the descriptor is open in the child, for the parent
        // holds it (`self` outlives the spawn, or setns fails and so does the spawn).
        unsafe {
            command.pre_exec(move || {
                enter(descriptor)?;
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            })
        };
        command
    }

    /// Runs `work` on a thread that is inside, and returns what it returned.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let descriptor = self.descriptor.as_raw_fd();
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                enter(descriptor).expect("setns");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread that is inside and goes on by itself.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let descriptor = self.descriptor.try_clone().expect("a copy of the namespace's descriptor");
        std::thread::spawn(move || {
            enter(descriptor.as_raw_fd()).expect("setns");
            drop(descriptor);
            work()
        })
    }

    /// Runs a command line inside (split at spaces, no quoting) that must succeed, and returns its output.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let finished = self.attempt(line);
        assert!(finished.success(), "in {}: {line}\n{finished}", self.name);
        finished.stdout
    }

    /// Runs a command line inside that may fail.
    pub fn attempt(&self, line: &str) -> Finished {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a command line"));
        command.args(words);
        run_within(command, Duration::from_secs(40))
    }

    /// `ip` with these arguments, inside; several lines are several commands, of which each must succeed.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]);
        let finished = run_with_input(command, lines, Duration::from_secs(40));
        assert!(finished.success(), "in {}: ip {lines}\n{finished}", self.name);
    }

    /// Writes sysctls such as `net/ipv4/ip_forward=1`.
    #[track_caller]
    pub fn sysctl(&self, settings: &[&str]) {
        self.inside(|| {
            for setting in settings {
                let (key, value) = setting.split_once('=').expect("key=value");
                // /proc/sys/net shows the namespace of the thread that looks.
                std::fs::write(format!("/proc/sys/{key}"), value).unwrap_or_else(|error| panic!("{setting}: {error}"));
            }
        });
    }
}

/// Moves the calling thread (or forked child) into a namespace.
fn enter(descriptor: i32) -> io::Result<()> {
    // SAFETY: takes no pointer; a bad descriptor is an error, not undefined.
    match unsafe { libc::setns(descriptor, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the program of `command` believe that the kernel has no sockets of this family: `socket` fails with EAFNOSUPPORT.
pub fn without_socket_family(command: &mut Command, family: i32) {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // Offsets into `struct seccomp_data`: the number of the call, the lower half of its first argument (little endian).
    const CALL: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    let step = |code: u32, k: u32, otherwise: u8| libc::sock_filter { code: code as u16, jt: 0, jf: otherwise, k };
    let filter = [
        step(LOAD, CALL, 0),
        step(IF_EQUAL, libc::SYS_socket as u32, 3),
        step(LOAD, FIRST_ARGUMENT, 0),
        step(IF_EQUAL, family as u32, 1),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ];
    // SAFETY: only system calls between fork and exec; `filter` moves into the closure, so the pointer in `program` is good.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            let allowed = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0;
            if allowed { Ok(()) } else { Err(io::Error::last_os_error()) }
        })
    };
}
