//! A netlink socket on which each request waits for its answer.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// The kernel did not do, or did not answer, what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("netlink: cannot {action}: {source}")]
pub struct NetlinkError {
    pub(super) action: String,
    /// The kernel's error, or that of the socket.
    pub source: io::Error,
}

impl NetlinkError {
    pub(super) fn new(action: &str, source: io::Error) -> Self {
        Self { action: action.to_owned(), source }
    }

    /// The kernel's error number.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// A blocking connection to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Listings that the kernel says changed while they were made are made again, this often before giving up.
const DUMP_ATTEMPTS: usize = 8;

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError::new("open a socket", source))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a change and waits until the kernel has made it.
    pub(super) fn change(&mut self, action: &str, request: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.exchange(request, flags | NLM_F_REQUEST | NLM_F_ACK, |_| ()).map_err(|source| NetlinkError::new(action, source))?;
        Ok(())
    }

    /// Asks for everything of a kind; `take` keeps what it wants of it.
    pub(super) fn list<T>(
        &mut self,
        action: &str,
        request: RouteNetlinkMessage,
        take: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let whole = self
                .exchange(request.clone(), NLM_F_REQUEST | NLM_F_DUMP, |message| found.extend(take(message)))
                .map_err(|source| NetlinkError::new(action, source))?;
            if whole {
                return Ok(found);
            }
        }
        Err(NetlinkError::new(action, io::Error::other("it changed faster than it could be read")))
    }

    /// One request and all of its answers. Returns whether they form one consistent picture.
    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(request, flags)?;
        let mut whole = true;
        loop {
            let (datagram, sender) = match self.socket.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue, // by a signal
                received => received?,
            };
            if sender.port_number() != 0 {
                continue; // not from the kernel
            }
            for message in messages(&datagram) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue; // the rest of an answer that was given up
                }
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => take(inner),
                    NetlinkPayload::Done(_) => return Ok(whole),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(whole),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }
}

/// The messages of one datagram. One that cannot be decoded is an error for a request, since its answer would have a hole.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        if length < 16 || length > rest.len() {
            return None;
        }
        let (message, _) = rest.split_at(length);
        // NLMSG_ALIGN: messages begin at multiples of four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::deserialize(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    })
}
