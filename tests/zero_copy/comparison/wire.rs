//! Frames in and out of a network card, past the kernel's protocols.
#![allow(unsafe_code)] // sockaddr_ll: socket2 has no safe constructor for it

use crate::support::Namespace;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io::{Read, Write};
use std::time::Duration;

/// A packet socket on one card.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    own: [u8; 6],
}

impl Wire {
    /// On `interface`, whose link address is `own`.
    pub(super) fn open(namespace: &Namespace, interface: &str, own: [u8; 6]) -> Self {
        let number = namespace.run(&format!("ip -o link show {interface}"));
        let index = number.split(':').next().and_then(|number| number.trim().parse().ok()).expect("the number of the interface");
        let socket = namespace.inside(|| {
            let every_protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
            let socket =
                Socket::new(Domain::from(libc::AF_PACKET), Type::from(libc::SOCK_RAW), Some(Protocol::from(every_protocol)));
            let socket = socket.expect("a packet socket");
            socket.bind(&address(index)).expect("bind to the interface");
            socket
        });
        Self { socket, own }
    }

    pub(super) fn send(&self, frame: &[u8]) {
        (&self.socket).write_all(frame).expect("a frame sent");
    }

    /// The next frame for this end that carries IP and is no business of the kernel's, within the time.
    pub(super) fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        let start = std::time::Instant::now();
        loop {
            let left = patience.checked_sub(start.elapsed()).filter(|left| !left.is_zero())?;
            self.socket.set_read_timeout(Some(left)).expect("a time-out");
            let mut frame = vec![0; 4096];
            let Ok(length) = (&self.socket).read(&mut frame) else { continue };
            frame.truncate(length);
            if frame.len() >= 34 && frame[..6] == self.own && is_told(&frame) {
                return Some(frame);
            }
        }
    }
}

/// IP, but no neighbour discovery.
fn is_told(frame: &[u8]) -> bool {
    match (frame[12], frame[13]) {
        (0x08, 0x00) => true,
        (0x86, 0xdd) => frame[20] != 58 || !(130..=143).contains(&frame[54]),
        _ => false,
    }
}

fn address(index: i32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is plain data that fits into the storage, and the storage is aligned for every socket address.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    // SAFETY: the storage holds a whole sockaddr_ll, whose size this is.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
