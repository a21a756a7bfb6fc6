//! Socket options of AF_XDP sockets and the two calls that make the kernel work, which xsk-rs leaves out or hides errors of.
#![allow(unsafe_code)] // getsockopt, setsockopt, sendto, recvfrom, poll and dup on raw descriptors

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// From linux/if_xdp.h; libc has no names for them.
const XDP_OPTIONS: libc::c_int = 8;
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// From asm-generic/socket.h.
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

/// Whether the socket was bound in zero-copy mode.
pub(super) fn is_zero_copy(fd: RawFd) -> io::Result<bool> {
    let mut options = 0u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: both pointers are to locals that live through the call, and `length` is the size of the first.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_XDP, XDP_OPTIONS, (&raw mut options).cast(), &raw mut length) };
    if done == 0 { Ok(options & XDP_OPTIONS_ZEROCOPY != 0) } else { Err(io::Error::last_os_error()) }
}

/// How many frames one `sendto` may send in copy mode (32 unless set; kernels before 6.17 do not know the option).
pub(super) fn set_tx_budget(fd: RawFd, frames: u32) -> io::Result<()> {
    set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, frames)
}

/// Another descriptor of the same socket.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the caller owns the socket, so it is open during this call.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

/// No program that weir starts gets the socket: as long as any process has it open, its queue stays bound. libxdp opens it without saying so.
pub(super) fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: the caller owns the socket, so it is open during this call.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?)
}

/// How long a call may poll the driver.
pub(super) fn set_busy_poll(fd: RawFd, microseconds: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds)
}

/// Polling goes before interrupts.
pub(super) fn set_prefer_busy_poll(fd: RawFd) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)
}

/// How many packets a call may take.
pub(super) fn set_busy_poll_budget(fd: RawFd, packets: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, packets)
}

/// The NAPI that the socket's calls poll, by its number; 0: none is known, and nothing is polled.
pub(super) fn napi(fd: RawFd) -> io::Result<u32> {
    let (mut value, mut length) = (0u32, size_of::<u32>() as libc::socklen_t);
    // SAFETY: the value lives through the call and `length` is its size.
    let done =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID, (&raw mut value).cast(), &raw mut length) };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the value lives through the call and `length` is its size.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the kernel send what is on the TX ring, as much as it is willing to.
pub(super) fn kick_tx(fd: RawFd) -> io::Result<()> {
    // SAFETY: an empty buffer may be null.
    let sent = unsafe { libc::sendto(fd, std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the driver look at the fill ring, and polls it where busy polling is on.
pub(super) fn kick_rx(fd: RawFd) -> io::Result<()> {
    let no_address = std::ptr::null_mut();
    // SAFETY: an empty buffer may be null, and no address is asked for.
    let got = unsafe { libc::recvfrom(fd, std::ptr::null_mut(), 0, libc::MSG_DONTWAIT, no_address, std::ptr::null_mut()) };
    if got >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Wakes the driver, for zero-copy with SO_PREFER_BUSY_POLL: `sendto` then only polls for received frames (`xsk_no_wakeup`), and drivers that send from
/// elsewhere, such as virtio_net, would send nothing. `poll(2)` wakes them all the same (`xsk_poll`).
pub(super) fn wake(fd: RawFd) -> io::Result<()> {
    poll(&mut [libc::pollfd { fd, events: 0, revents: 0 }], 0).map(drop)
}

/// `poll(2)`; an interrupted call is one that found nothing.
pub(super) fn poll(fds: &mut [libc::pollfd], milliseconds: libc::c_int) -> io::Result<usize> {
    // SAFETY: pointer and length are of one slice that lives through the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) };
    match usize::try_from(ready) {
        Ok(ready) => Ok(ready),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        },
    }
}
