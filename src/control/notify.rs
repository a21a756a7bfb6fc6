//! What the service manager is told (sd_notify(3)), without waiting for it: one that does not read must not hold up the control thread, which
//! `sd_notify::notify` would let it.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use tracing::warn;

/// To the service manager, if there is one.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, states) {
        warn!("the service manager could not be told at {}: {error}", socket.display());
    }
}

fn send(to: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = match to.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(to)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let tell = || send(path.as_os_str(), &[NotifyState::Reloading, NotifyState::MonotonicUsec(7)]);
        // Its queue has an end: a socket that waits would never come back from it.
        let error = (0..1_000_000).find_map(|_| tell().err()).expect("a full queue");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut text = [0; 64];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"RELOADING=1\nMONOTONIC_USEC=7\n");
        tell().unwrap();
    }

    #[test]
    fn a_manager_may_have_an_abstract_address() {
        let name = format!("weir-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), &[NotifyState::Ready]).unwrap();
        let mut text = [0; 64];
        let length = manager.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1\n");
        assert!(send(OsStr::new("/nowhere/at/all"), &[NotifyState::Ready]).is_err());
    }
}
