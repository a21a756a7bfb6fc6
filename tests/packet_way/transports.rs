//! Transports that etherparse does not build, byte by byte as their RFCs draw them, with checksums computed by code of their own.

use super::packet::Packet;
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber};
use std::net::{IpAddr, SocketAddr};

/// A transport of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Other {
    /// An echo, its identifier the port of the sender, or a reply, its identifier the port of the receiver.
    Echo { reply: bool },
    /// The verification tag; the chunks are the payload.
    Sctp { tag: u32, checksum: Crc },
    /// Sequence numbers are extended unless `short`; `coverage` is the field of the header.
    Dccp { kind: u8, short: bool, sequence: u64, acknowledgment: u64, coverage: u8 },
    /// The header is part of the payload.
    Gre,
}

/// What stands in the checksum of SCTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crc {
    Right,
    Wrong,
    Zero,
}

impl Other {
    pub(crate) fn bytes(&self, packet: &Packet) -> (IpNumber, Vec<u8>) {
        match self {
            Self::Echo { reply } => echo(packet, *reply),
            Self::Sctp { tag, checksum } => (IpNumber(132), sctp_bytes(packet, *tag, *checksum)),
            Self::Dccp { .. } => (IpNumber(33), self.dccp_bytes(packet)),
            Self::Gre => (IpNumber(47), packet.payload.clone()),
        }
    }

    fn dccp_bytes(&self, packet: &Packet) -> Vec<u8> {
        let &Self::Dccp { kind, short, sequence, acknowledgment, coverage } = self else { panic!("not DCCP") };
        let acknowledges = !matches!(kind, 0 | 2);
        let mut bytes = [packet.from.port().to_be_bytes(), packet.to.port().to_be_bytes()].concat();
        bytes.extend([0, coverage, 0, 0, kind << 1 | u8::from(!short)]);
        let number = |number: u64, bytes: &mut Vec<u8>| match short {
            true => bytes.extend(&number.to_be_bytes()[5..]),
            false => bytes.extend(&number.to_be_bytes()[1..]),
        };
        number(sequence & 0xffff_ffff_ffff, &mut bytes);
        if acknowledges {
            bytes.push(0);
            number(acknowledgment & 0xffff_ffff_ffff, &mut bytes);
        }
        if matches!(kind, 0 | 1 | 7) {
            // Service code, or reset code and data.
            bytes.extend([1, 2, 3, 4]);
        }
        bytes[4] = (bytes.len() / 4) as u8;
        let header = bytes.len();
        bytes.extend(&packet.payload);
        let covered = if coverage == 0 { bytes.len() } else { header + 4 * (usize::from(coverage) - 1) };
        let pseudo = pseudo_header(packet, 33, bytes.len());
        let sum = !ones_complement(&[pseudo, bytes[..covered].to_vec()].concat());
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

fn echo(packet: &Packet, reply: bool) -> (IpNumber, Vec<u8>) {
    let header = IcmpEchoHeader { id: if reply { packet.to.port() } else { packet.from.port() }, seq: 7 };
    match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let kind = if reply { Icmpv6Type::EchoReply(header) } else { Icmpv6Type::EchoRequest(header) };
            let header = Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), &packet.payload).unwrap();
            (IpNumber::IPV6_ICMP, [&header.to_bytes(), packet.payload.as_slice()].concat())
        }
        _ => {
            let kind = if reply { Icmpv4Type::EchoReply(header) } else { Icmpv4Type::EchoRequest(header) };
            let header = Icmpv4Header::with_checksum(kind, &packet.payload);
            (IpNumber::ICMP, [&header.to_bytes(), packet.payload.as_slice()].concat())
        }
    }
}

fn sctp_bytes(packet: &Packet, tag: u32, checksum: Crc) -> Vec<u8> {
    let mut bytes = [packet.from.port().to_be_bytes(), packet.to.port().to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&packet.payload);
    let crc = match checksum {
        Crc::Right => crc32c(&bytes),
        Crc::Wrong => crc32c(&bytes) ^ 0x10,
        Crc::Zero => 0,
    };
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// RFC 9260, appendix A, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

fn pseudo_header(packet: &Packet, protocol: u8, length: usize) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [octets(packet.from.ip()), octets(packet.to.ip()), vec![0, protocol], (length as u16).to_be_bytes().to_vec()].concat()
}

/// RFC 1071.
fn ones_complement(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    bytes.chunks(2).map(word).fold(0u16, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// An echo; the sender's port is its identifier.
pub(crate) fn request(from: SocketAddr, to: SocketAddr) -> Packet {
    super::packet::other(from, to, Other::Echo { reply: false }).carrying(b"abcdefghijklmnopqrstuvw")
}

/// A reply; the receiver's port is its identifier.
pub(crate) fn reply(from: SocketAddr, to: SocketAddr) -> Packet {
    super::packet::other(from, to, Other::Echo { reply: true }).carrying(b"abcdefghijklmnopqrstuvw")
}

/// A GRE packet with these flags and version and this behind them.
pub(crate) fn gre(from: SocketAddr, to: SocketAddr, flags: u16, behind: &[u8]) -> Packet {
    let payload = [&flags.to_be_bytes(), &[8, 0], behind].concat();
    super::packet::other(from, to, Other::Gre).carrying(&payload)
}

impl Packet {
    /// A GRE packet with the checksum that its flags announce.
    pub(crate) fn summed(mut self) -> Self {
        self.payload[4..6].fill(0);
        let sum = !ones_complement(&self.payload);
        self.payload[4..6].copy_from_slice(&sum.to_be_bytes());
        self
    }
}

/// An SCTP packet with these chunks.
pub(crate) fn sctp(from: SocketAddr, to: SocketAddr, tag: u32, chunks: &[Vec<u8>]) -> Packet {
    super::packet::other(from, to, Other::Sctp { tag, checksum: Crc::Right }).carrying(&chunks.concat())
}

/// A chunk, padded.
pub(crate) fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = [&[kind, flags], &length.to_be_bytes()[..], value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An INIT (1) or INIT ACK (2) that offers this tag.
pub(crate) fn init(kind: u8, tag: u32) -> Vec<u8> {
    chunk(kind, 0, &[&tag.to_be_bytes(), &[0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1][..]].concat())
}

/// A DCCP packet with extended sequence numbers.
pub(crate) fn dccp(from: SocketAddr, to: SocketAddr, kind: u8, sequence: u64, acknowledgment: u64) -> Packet {
    super::packet::other(from, to, Other::Dccp { kind, short: false, sequence, acknowledgment, coverage: 0 })
}
