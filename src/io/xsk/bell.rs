//! What ends a worker's sleep though no frame has come: an eventfd among the sockets that it polls.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Rung by anybody, heard by the worker that sleeps or is about to; one that is awake is not disturbed.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent one.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the sleep, or the next one before it begins.
    pub fn ring(&self) {
        // It fails only where the counter is full, and then the bell has been rung.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Heard: the next sleep may last.
    pub(super) fn hush(&self) {
        // It fails only where nobody has rung.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::xsk::options::poll;

    #[test]
    fn rung_once_or_often_it_is_heard_once() {
        let bell = Bell::new().unwrap();
        let heard = || poll(&mut [libc::pollfd { fd: bell.fd(), events: libc::POLLIN, revents: 0 }], 0).unwrap();
        assert_eq!(heard(), 0);
        (0..1000).for_each(|_| bell.ring());
        assert_eq!(heard(), 1);
        bell.hush();
        assert_eq!(heard(), 0);
        bell.hush();
    }
}
