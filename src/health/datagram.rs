//! A connected datagram socket, without waiting: one question, and what comes back. An ICMP error comes back as an error of the socket.

use super::Failure;
use super::connection::host_source;
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};

/// Bytes of an answer that are looked at.
const LONGEST_ANSWER: usize = 4096;

/// A question that was asked.
#[derive(Debug)]
pub(super) struct Question {
    socket: UdpSocket,
}

impl Question {
    /// Asks over UDP. Readiness is told under `token`.
    pub(super) fn ask(
        registry: &Registry,
        token: Token,
        address: SocketAddr,
        is_own: impl Fn(&IpAddr) -> bool,
        question: &[u8],
    ) -> Result<Self, Failure> {
        host_source(address, is_own)?;
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(Failure::Local)?;
        Self::begin(registry, token, socket, address, question)
    }

    /// Sends a raw ICMP or ICMPv6 message; the port of `address` says nothing.
    pub(super) fn ask_icmp(
        registry: &Registry,
        token: Token,
        address: IpAddr,
        is_own: impl Fn(&IpAddr) -> bool,
        message: &[u8],
    ) -> Result<Self, Failure> {
        let address = SocketAddr::new(address, 0);
        host_source(SocketAddr::new(address.ip(), 9), is_own)?;
        let protocol = if address.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let socket =
            Socket::new(Domain::for_address(address), Type::from(libc::SOCK_RAW), Some(protocol)).map_err(Failure::Local)?;
        Self::begin(registry, token, socket, address, message)
    }

    fn begin(registry: &Registry, token: Token, socket: Socket, address: SocketAddr, question: &[u8]) -> Result<Self, Failure> {
        socket.set_nonblocking(true).map_err(Failure::Local)?;
        socket.connect(&address.into()).map_err(Failure::of_datagram)?;
        let mut socket = UdpSocket::from_std(socket.into());
        registry.register(&mut socket, token, Interest::READABLE).map_err(Failure::Local)?;
        socket.send(question).map_err(Failure::of_datagram)?;
        Ok(Self { socket })
    }

    /// After an event: shows every datagram that has come to `judge`, until it says something of one.
    pub(super) fn answers<T>(&self, mut judge: impl FnMut(&[u8]) -> Option<Result<T, Failure>>) -> Option<Result<T, Failure>> {
        let mut buffer = [0; LONGEST_ANSWER];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let judged = judge(&buffer[..length]);
                    if judged.is_some() {
                        return judged;
                    }
                }
                Err(error) if super::is_passing(&error) => return None,
                Err(error) => return Some(Err(Failure::Unreachable(error))),
            }
        }
    }
}
