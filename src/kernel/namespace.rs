//! Network namespaces for tests: each test makes its own and touches nothing outside of them. They vanish with the last reference.
#![allow(unsafe_code)] // unshare and setns

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::thread;

/// A network namespace, with loopback up.
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new one; `None`, with the reason printed, where the test may not make one.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: takes nothing and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            println!("SKIP: not root, so no network namespace can be made");
            return None;
        }
        let namespace = thread::scope(|scope| {
            let made = scope.spawn(|| {
                // SAFETY: changes this thread alone, which ends right after.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", std::io::Error::last_os_error());
                Self(File::open("/proc/thread-self/ns/net").unwrap())
            });
            made.join().unwrap()
        });
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// Runs `action` on a thread that is in the namespace. What it opens there stays there.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: changes this thread alone; the descriptor is that of a network namespace.
                let result = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
                action()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` with these arguments in the namespace; it must succeed.
    pub(crate) fn ip(&self, arguments: &str) {
        let output = self.run(|| Command::new("ip").args(arguments.split_whitespace()).output().unwrap());
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A veth pair: `name` here and `peer_name` in `peer`, both up.
    pub(crate) fn veth(&self, name: &str, peer: &Namespace, peer_name: &str, options: &str) {
        let peer_path = format!("/proc/{}/fd/{}", std::process::id(), peer.0.as_raw_fd());
        self.ip(&format!("link add {name} {options} type veth peer name {peer_name} {options} netns {peer_path}"));
        self.ip(&format!("link set {name} up"));
        peer.ip(&format!("link set {peer_name} up"));
    }
}
