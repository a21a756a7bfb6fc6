//! Bursts of 64-byte TCP frames in memory.

use super::flows::{INSIDE, OUTSIDE, PORT, VIP, client};
use crate::datapath::{BURST, Fate, Frame, PortId};
use crate::packet::checksum;
use crate::packet::tcp::flag;
use std::net::{Ipv4Addr, SocketAddr};

/// 64 bytes on the wire: 60 and the FCS.
const LENGTH: usize = 60;
/// Room of a frame: two cache lines, so that what is measured is the table and not the frames.
const ROOM: usize = 128;

/// The reply side of a connection as its first packet left: backend address, SNAT address, and their ports.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReplySide {
    backend: u32,
    snat: u32,
    snat_port: u16,
}

impl ReplySide {
    /// The backend's address, with the port of all of them.
    pub(super) fn backend(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::from_bits(self.backend).into(), 8443)
    }
}

/// Room for one burst.
#[derive(Debug)]
pub(super) struct Burst {
    rooms: Box<[[u8; ROOM]; BURST]>,
    ports: [PortId; BURST],
}

/// Addresses, ports, flags and numbers of a frame to be written.
struct Segment {
    source: u32,
    destination: u32,
    ports: (u16, u16),
    flags: u8,
    /// The sender's and the receiver's first sequence number.
    numbers: (u32, u32),
}

/// First sequence numbers of clients and of backends. Data is the first that its sender sends, again and again: as much is seen of the
/// other side as ever will be, so it stays in the window.
const CLIENT: u32 = 1_000_000_000;
const BACKEND: u32 = 4_000_000_000;
/// Of 2^16, with a scale of 0.
const WINDOW: u16 = 0xffff;

impl Burst {
    pub(super) fn new() -> Self {
        Self { rooms: Box::new([[0; ROOM]; BURST]), ports: [OUTSIDE; BURST] }
    }

    /// Frame `at` is from the client of connection `flow`.
    pub(super) fn write_original(&mut self, at: usize, flow: usize, flags: u8) {
        self.write_from_client(at, client(flow), flags);
    }

    /// Frame `at` is from this client address and port.
    pub(super) fn write_from_client(&mut self, at: usize, (address, port): (u32, u16), flags: u8) {
        self.write(at, &Segment { source: address, destination: VIP, ports: (port, PORT), flags, numbers: (CLIENT, BACKEND) });
        self.ports[at] = OUTSIDE;
    }

    /// Frame `at` is from the backend of the connection with this reply side.
    pub(super) fn write_reply(&mut self, at: usize, side: ReplySide, flags: u8) {
        self.write(
            at,
            &Segment {
                source: side.backend,
                destination: side.snat,
                ports: (8443, side.snat_port),
                flags,
                numbers: (BACKEND, CLIENT),
            },
        );
        self.ports[at] = INSIDE;
    }

    fn write(&mut self, at: usize, segment: &Segment) {
        let frame = &mut self.rooms[at];
        frame[..LENGTH].fill(0);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(LENGTH as u16 - 14).to_be_bytes());
        frame[20] = 0x40;
        frame[22] = 64;
        frame[23] = 6;
        frame[26..30].copy_from_slice(&segment.source.to_be_bytes());
        frame[30..34].copy_from_slice(&segment.destination.to_be_bytes());
        let sum = !checksum::fold(checksum::sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame[34..36].copy_from_slice(&segment.ports.0.to_be_bytes());
        frame[36..38].copy_from_slice(&segment.ports.1.to_be_bytes());
        let (own, other) = segment.numbers;
        let begun = u32::from(segment.flags & flag::SYN == 0);
        frame[38..42].copy_from_slice(&own.wrapping_add(begun).to_be_bytes());
        let acknowledged = if segment.flags & flag::ACK != 0 { other.wrapping_add(1) } else { 0 };
        frame[42..46].copy_from_slice(&acknowledged.to_be_bytes());
        frame[46] = 0x50;
        frame[47] = segment.flags;
        frame[48..50].copy_from_slice(&WINDOW.to_be_bytes());
        let covered = checksum::sum(&frame[26..LENGTH]) + checksum::pseudo_header(6, LENGTH - 34);
        frame[50..52].copy_from_slice(&(!checksum::fold(covered)).to_be_bytes());
    }

    /// The first `count` frames, for the datapath.
    pub(super) fn frames(&mut self, count: usize) -> Vec<Frame<'_>> {
        let rooms = self.rooms.iter_mut().zip(self.ports);
        rooms.take(count).map(|(room, port)| Frame::new(room, LENGTH, port)).collect()
    }

    /// Where frame `at`, a first packet that has just been forwarded, went and what it was given.
    pub(super) fn reply_side(&self, at: usize) -> ReplySide {
        let word = |offset: usize| crate::packet::be32(&self.rooms[at], offset);
        ReplySide { snat: word(26), backend: word(30), snat_port: crate::packet::be16(&self.rooms[at], 34) }
    }
}

/// Flags of a segment that carries data.
pub(super) const DATA: u8 = flag::ACK | flag::PSH;

/// Whether it was sent on.
pub(super) fn is_forwarded(fate: Fate) -> bool {
    matches!(fate, Fate::Transmit(_))
}
