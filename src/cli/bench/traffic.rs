//! Bursts of frames in memory.

use super::flows::{INSIDE, OUTSIDE, PORT, VIP, client};
use super::shape::{ETHERNET, Family, Shape, Transport};
use crate::conntrack::l4proto::udp::never_zero;
use crate::datapath::{BURST, Fate, Frame, PortId};
use crate::packet::checksum;
use crate::packet::tcp::flag;
use crate::packet::{be16, be32};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a frame that are written anew for each packet, or all of it. Those behind are zero for ever.
const WRITTEN: usize = 128;

/// The reply side of a connection as its first packet left: the lower words of backend address and SNAT address, and the latter's port.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReplySide {
    backend: u32,
    snat: u32,
    snat_port: u16,
}

impl ReplySide {
    /// The backend's address, with the port of all of them.
    pub(super) fn backend(&self, shape: Shape) -> SocketAddr {
        SocketAddr::new(shape.address(self.backend), 8443)
    }
}

/// Room for one burst.
#[derive(Debug)]
pub(super) struct Burst {
    shape: Shape,
    rooms: Vec<u8>,
    ports: [PortId; BURST],
}

/// Lower words of addresses, ports, and what only TCP has: flags and numbers.
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
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, rooms: vec![0; BURST * shape.room()], ports: [OUTSIDE; BURST] }
    }

    /// An empty one for the same shape.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.shape)
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
        let shape = self.shape;
        let (l4, length) = (shape.l4(), shape.length());
        let frame = &mut self.rooms[at * shape.room()..][..length.min(WRITTEN)];
        frame.fill(0);
        let addresses = write_ip(frame, shape, segment);
        frame[l4..l4 + 2].copy_from_slice(&segment.ports.0.to_be_bytes());
        frame[l4 + 2..l4 + 4].copy_from_slice(&segment.ports.1.to_be_bytes());
        let checksum = match shape.protocol {
            Transport::Tcp => {
                write_tcp(&mut frame[l4..], segment);
                l4 + 16
            }
            Transport::Udp => {
                frame[l4 + 4..l4 + 6].copy_from_slice(&((length - l4) as u16).to_be_bytes());
                l4 + 6
            }
        };
        // The addresses of the pseudo-header stand before the transport header.
        let covered = checksum::sum(&frame[addresses..]) + checksum::pseudo_header(shape.number(), length - l4);
        // RFC 768: 0 would say that there is none. To TCP both are the same.
        let sum = never_zero(!checksum::fold(covered));
        frame[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// The first `count` frames, for the datapath.
    pub(super) fn frames(&mut self, count: usize) -> Vec<Frame<'_>> {
        let length = self.shape.length();
        let rooms = self.rooms.chunks_exact_mut(self.shape.room()).zip(self.ports);
        rooms.take(count).map(|(room, port)| Frame::new(room, length, port)).collect()
    }

    /// Where frame `at`, a first packet that has just been forwarded, went and what it was given.
    pub(super) fn reply_side(&self, at: usize) -> ReplySide {
        let frame = &self.rooms[at * self.shape.room()..];
        let l4 = self.shape.l4();
        let source = match self.shape.family {
            Family::Ipv4 => l4 - 8,
            Family::Ipv6 => l4 - 20,
        };
        ReplySide { snat: be32(frame, source), backend: be32(frame, l4 - 4), snat_port: be16(frame, l4) }
    }
}

/// Ethernet's type and the IP header; the offset of its addresses.
fn write_ip(frame: &mut [u8], shape: Shape, segment: &Segment) -> usize {
    let ip = shape.length() - ETHERNET;
    match shape.family {
        Family::Ipv4 => {
            frame[12..14].copy_from_slice(&[8, 0]);
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&(ip as u16).to_be_bytes());
            frame[20] = 0x40;
            frame[22] = 64;
            frame[23] = shape.number();
            write_address(&mut frame[26..], shape, segment.source);
            write_address(&mut frame[30..], shape, segment.destination);
            let sum = !checksum::fold(checksum::sum(&frame[14..34]));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            26
        }
        Family::Ipv6 => {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame[14] = 0x60;
            frame[18..20].copy_from_slice(&(ip as u16 - 40).to_be_bytes());
            frame[20] = shape.number();
            frame[21] = 64;
            write_address(&mut frame[22..], shape, segment.source);
            write_address(&mut frame[38..], shape, segment.destination);
            22
        }
    }
}

fn write_address(at: &mut [u8], shape: Shape, word: u32) {
    match shape.address(word) {
        IpAddr::V4(address) => at[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => at[..16].copy_from_slice(&address.octets()),
    }
}

/// All behind the ports but the checksum.
fn write_tcp(header: &mut [u8], segment: &Segment) {
    let (own, other) = segment.numbers;
    let begun = u32::from(segment.flags & flag::SYN == 0);
    header[4..8].copy_from_slice(&own.wrapping_add(begun).to_be_bytes());
    let acknowledged = if segment.flags & flag::ACK != 0 { other.wrapping_add(1) } else { 0 };
    header[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    header[12] = 0x50;
    header[13] = segment.flags;
    header[14..16].copy_from_slice(&WINDOW.to_be_bytes());
}

/// Flags of a segment that carries data.
pub(super) const DATA: u8 = flag::ACK | flag::PSH;

/// Whether it was sent on.
pub(super) fn is_forwarded(fate: Fate) -> bool {
    matches!(fate, Fate::Transmit(_))
}

#[cfg(test)]
mod tests {
    use super::super::shape::Size;
    use super::*;
    use etherparse::{NetHeaders, PacketHeaders};

    #[test]
    fn frames_are_whole_and_their_checksums_right() {
        for family in [Family::Ipv4, Family::Ipv6] {
            for protocol in [Transport::Tcp, Transport::Udp] {
                for size in [Size::Smallest, Size::Full] {
                    check(Shape { family, protocol, size });
                }
            }
        }
    }

    fn check(shape: Shape) {
        let mut burst = Burst::new(shape);
        burst.write_original(3, 77, DATA);
        burst.write_reply(2, ReplySide { backend: 1, snat: 2, snat_port: 3 }, DATA);
        for frame in &burst.frames(4)[2..] {
            assert_eq!(frame.bytes().len(), shape.length());
            let headers = PacketHeaders::from_ethernet_slice(frame.bytes()).unwrap();
            let payload = headers.payload.slice();
            let mut transport = headers.transport.clone().unwrap();
            match headers.net.unwrap() {
                NetHeaders::Ipv4(ip, _) => {
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    transport.update_checksum_ipv4(&ip, payload).unwrap();
                }
                NetHeaders::Ipv6(ip, _) => transport.update_checksum_ipv6(&ip, payload).unwrap(),
                other => panic!("{other:?}"),
            }
            assert_eq!(headers.transport, Some(transport), "{shape}");
        }
    }
}
