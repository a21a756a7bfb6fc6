//! A connection that is being made, without waiting.

use super::Failure;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// From the kernel, with a source address that the kernel chooses: the answers come back to it, not to the datapath.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    established: bool,
}

/// What is known of the way to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The source has to be asked for before a SYN leaves.
    Unknown,
    /// The last probe had a good source: it is enough to look at the socket's, which costs a fifth.
    Known,
}

impl Connection {
    /// Starts to connect. Readiness is told under `token`. `is_own`: whether an address is weir's.
    pub(super) fn start(
        registry: &Registry,
        token: Token,
        (address, way): (SocketAddr, Way),
        is_own: impl Fn(&IpAddr) -> bool,
    ) -> Result<Self, Failure> {
        if way == Way::Unknown {
            host_source(address, &is_own)?;
        }
        let mut stream = TcpStream::connect(address).map_err(Failure::of_connect)?;
        let source = stream.local_addr().map_err(Failure::Local)?.ip();
        if is_own(&source) {
            return Err(Failure::OwnSource(source));
        }
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).map_err(Failure::Local)?;
        Ok(Self { stream, established: false })
    }

    /// Whether the handshake is over. Asked after an event, which may be one of another socket that had the token before.
    pub(super) fn is_established(&mut self) -> Result<bool, Failure> {
        if self.established {
            return Ok(true);
        }
        match self.stream.peer_addr() {
            Ok(_) => self.established = true,
            // Not yet, or not any more: only then is there an error to ask for.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                if let Some(error) = self.stream.take_error().map_err(Failure::Broken)? {
                    return Err(Failure::Connect(error));
                }
            }
            Err(error) => return Err(Failure::Connect(error)),
        }
        Ok(self.established)
    }

    /// Whether the handshake was over at the last event.
    pub(super) fn was_established(&self) -> bool {
        self.established
    }

    /// What a probe that takes too long has waited for.
    pub(super) fn awaited(&self) -> &'static str {
        if self.established { "answer" } else { "connection" }
    }

    /// Ends it with RST instead of FIN: a probe every second must not leave a socket in TIME_WAIT every second.
    pub(super) fn reset(self) {
        // A failure leaves the socket in TIME_WAIT, no more.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Refuses a way to `address` on which the kernel would take one of weir's addresses as the source.
pub(super) fn host_source(address: SocketAddr, is_own: impl Fn(&IpAddr) -> bool) -> Result<(), Failure> {
    let source = source_toward(address).map_err(Failure::of_connect)?;
    if is_own(&source) { Err(Failure::OwnSource(source)) } else { Ok(()) }
}

/// The source address that the kernel would choose. Connecting a UDP socket asks for it and sends nothing.
fn source_toward(address: SocketAddr) -> io::Result<IpAddr> {
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip())
}
