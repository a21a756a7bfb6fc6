//! The ethtool ioctl: one call for many requests, each with a structure of its own.
#![allow(unsafe_code)] // the ioctl takes a pointer to a structure that only its first field tells

use std::io;
use std::os::fd::AsRawFd as _;

/// A structure of <linux/ethtool.h> whose first field is the command.
///
/// # Safety
/// It must be `repr(C)`, plain data, and at least as large as what the kernel copies for the commands that it is used with.
pub(super) unsafe trait Request {}

/// Asks the driver of an interface of this thread's namespace; the answer is in `request`. A driver that cannot answer: EOPNOTSUPP.
pub(super) fn ioctl<T: Request>(interface: &str, request: &mut T) -> io::Result<()> {
    // Any socket will do: the ioctl is about the interface, in the socket's network namespace.
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    // SAFETY: all zeros is a valid ifreq.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: the name is terminated, and `Request` says that the data is as large as the kernel takes it for; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut ifreq) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
