//! What the process must be allowed to do, and what the kernel must be able to: checked before anything is touched.
#![allow(unsafe_code)] // getrlimit

use socket2::{Domain, Socket, Type};
use std::{fs, io};

/// Something that weir needs and does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// Capabilities.
    #[error("no privilege: {} missing; run as root or grant {}: setcap, or AmbientCapabilities= in a systemd unit", is_or_are(.0), if .0.len() == 1 { "it" } else { "them" })]
    Capabilities(Vec<&'static str>),
    /// Locked memory for the frames.
    #[error(
        "no privilege: {needed} bytes of memory must be locked, the limit is {limit} and CAP_IPC_LOCK is missing; raise it with ulimit -l or LimitMEMLOCK="
    )]
    LockedMemory {
        /// Bytes that the rings and frames take.
        needed: u64,
        /// RLIMIT_MEMLOCK.
        limit: u64,
    },
    /// AF_XDP.
    #[error("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)")]
    AfXdp,
    /// The answer.
    #[error("cannot tell what is allowed: {0}")]
    Unknown(String),
}

fn is_or_are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

// Bits of <linux/capability.h>.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Checks what the daemon needs: addresses, rings and XDP (CAP_NET_ADMIN), AF_XDP and announcements (CAP_NET_RAW), maps and programs
/// (CAP_BPF, and CAP_PERFMON: without it the verifier allows no variable offset into a packet), and `locked_memory` bytes for the frames
/// (CAP_IPC_LOCK, or the limit).
pub fn check_privileges(locked_memory: u64) -> Result<(), Lacking> {
    let status = fs::read_to_string("/proc/thread-self/status").map_err(|error| Lacking::Unknown(error.to_string()))?;
    let held = effective(&status).ok_or_else(|| Lacking::Unknown("/proc/thread-self/status has no CapEff line".to_owned()))?;
    let limit = memlock_limit().map_err(|error| Lacking::Unknown(error.to_string()))?;
    check(held, limit, locked_memory)
}

/// The effective capabilities in the text of /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(bits.trim(), 16).ok()
}

fn check(held: u64, limit: u64, locked_memory: u64) -> Result<(), Lacking> {
    let has = |capability: u32| held >> capability & 1 == 1;
    let needed = [
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
        ("CAP_NET_RAW", has(NET_RAW)),
        // Both were split off in Linux 5.8.
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
    ];
    let mut missing: Vec<_> = needed.into_iter().filter(|(_, held)| !held).map(|(name, _)| name).collect();
    let too_little = !has(IPC_LOCK) && locked_memory > limit;
    if !missing.is_empty() {
        missing.extend(too_little.then_some("CAP_IPC_LOCK"));
        return Err(Lacking::Capabilities(missing));
    }
    if too_little {
        return Err(Lacking::LockedMemory { needed: locked_memory, limit });
    }
    Ok(())
}

fn memlock_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in the structure it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// Checks that the kernel has AF_XDP sockets.
pub fn check_af_xdp() -> Result<(), Lacking> {
    match Socket::new(Domain::from(libc::AF_XDP), Type::from(libc::SOCK_RAW), None) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Err(Lacking::AfXdp),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(Lacking::Capabilities(vec!["CAP_NET_RAW"])),
        Err(error) => Err(Lacking::Unknown(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 1 << NET_ADMIN | 1 << NET_RAW | 1 << PERFMON | 1 << BPF;

    #[test]
    fn capabilities_are_read_from_the_kernel_s_text() {
        assert_eq!(effective("Name:\tweir\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tweir\n"), None);
    }

    #[test]
    fn each_missing_capability_is_named() {
        assert_eq!(check(ALL, 0, 0), Ok(()));
        assert_eq!(check(ALL & !(1 << BPF | 1 << PERFMON) | 1 << SYS_ADMIN, 0, 0), Ok(()));
        let error = check(ALL & !(1 << NET_RAW), 0, 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no privilege: CAP_NET_RAW is missing; run as root or grant it: setcap, or AmbientCapabilities= in a systemd unit"
        );
        let with_memory = vec!["CAP_NET_RAW", "CAP_IPC_LOCK"];
        assert_eq!(check(ALL & !(1 << NET_RAW), 0, 4096), Err(Lacking::Capabilities(with_memory)), "all of them at once");
        assert_eq!(check(0, 0, 0), Err(Lacking::Capabilities(vec!["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"])));
    }

    #[test]
    fn locked_memory_needs_the_capability_or_the_limit() {
        assert_eq!(check(ALL, 4096, 4096), Ok(()));
        assert_eq!(check(ALL, 4095, 4096), Err(Lacking::LockedMemory { needed: 4096, limit: 4095 }));
        assert_eq!(check(ALL | 1 << IPC_LOCK, 0, 4096), Ok(()));
    }
}
