//! A packet that one of the ends got, and the words for it.

use super::packet::{ACK, RST, SYN};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FIN: u8 = 1;
const PSH: u8 = 8;

/// What it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Tcp { flags: u8, data: usize },
    Udp { checksum: u16 },
    Fragment { first: bool },
    Icmp { kind: u8, code: u8, mtu: u16, quote: Box<Seen> },
    Echo,
    Other(u8),
}

/// A packet; ports are 0 where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) what: What,
    /// Whether IP and transport checksum are right; of a quoted packet they need not be.
    sound: bool,
    /// From the IP header on.
    pub(super) bytes: Vec<u8>,
}

impl Seen {
    /// Of a frame with an Ethernet header and without a tag.
    pub(super) fn new(frame: &[u8]) -> Self {
        Self::of_packet(&frame[14..])
    }

    fn of_packet(packet: &[u8]) -> Self {
        if packet.first().is_some_and(|first| first >> 4 == 6) { Self::v6(packet) } else { Self::v4(packet) }
    }

    fn v4(packet: &[u8]) -> Self {
        let length = usize::from(packet[0] & 15) * 4;
        let total = usize::from(word(packet, 2)).min(packet.len());
        let address = |at: usize| IpAddr::V4(Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]));
        let fragment = (word(packet, 6) & 0x3fff != 0).then(|| word(packet, 6) & 0x1fff == 0);
        let seen = Self::transport(address(12), address(16), packet[9], &packet[length..total], fragment);
        let header_is_sound = sum(&packet[..length], 0) == 0xffff;
        Self { sound: seen.sound && header_is_sound, bytes: packet[..total].to_vec(), ..seen }
    }

    fn v6(packet: &[u8]) -> Self {
        let address =
            |at: usize| -> IpAddr { IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("16 bytes"))) };
        let end = (40 + usize::from(word(packet, 4))).min(packet.len());
        let (protocol, at, fragment) = match packet[6] {
            44 => (packet[40], 48, Some(word(packet, 42) & 0xfff8 == 0)),
            protocol => (protocol, 40, None),
        };
        let seen = Self::transport(address(8), address(24), protocol, &packet[at..end], fragment);
        Self { bytes: packet[..end].to_vec(), ..seen }
    }

    /// `fragment`: whether it is the first one.
    fn transport(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8], fragment: Option<bool>) -> Self {
        let has_ports = matches!(protocol, 6 | 17) && bytes.len() >= 8 && fragment != Some(false);
        let port = |at: usize| if has_ports { word(bytes, at) } else { 0 };
        let whole = fragment.is_none();
        let what = match (fragment, protocol) {
            (Some(first), _) => What::Fragment { first },
            (None, 6) => What::Tcp {
                flags: bytes.get(13).copied().unwrap_or_default() & 0x3f,
                data: bytes.len().saturating_sub(bytes.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4)),
            },
            (None, 17) => What::Udp { checksum: word(bytes, 6) },
            (None, 1 | 58) => icmp(protocol, bytes),
            (None, other) => What::Other(other),
        };
        let sound = !whole || matches!(what, What::Udp { checksum: 0 }) || is_sound(from, to, protocol, bytes);
        Self { from: SocketAddr::new(from, port(0)), to: SocketAddr::new(to, port(2)), what, sound, bytes: Vec::new() }
    }

    /// A segment with exactly these flags.
    pub(super) fn is_tcp(&self, wanted: u8) -> bool {
        matches!(self.what, What::Tcp { flags, .. } if flags == wanted)
    }

    pub(super) fn has_data(&self) -> bool {
        matches!(self.what, What::Tcp { data, .. } if data > 0)
    }

    /// Whether an ICMP error quotes a packet from here to there, and not somebody else's.
    pub(super) fn quotes(&self, from: SocketAddr, to: SocketAddr) -> bool {
        matches!(&self.what, What::Icmp { quote, .. } if quote.from == from && quote.to == to)
    }
}

fn icmp(protocol: u8, bytes: &[u8]) -> What {
    let is_error = if protocol == 1 { matches!(bytes[0], 3 | 4 | 5 | 11 | 12) } else { bytes[0] < 128 };
    if !is_error {
        return What::Echo;
    }
    // The MTU: RFC 1191, section 4, and RFC 4443, section 3.2.
    What::Icmp { kind: bytes[0], code: bytes[1], mtu: word(bytes, 6), quote: Box::new(Seen::of_packet(&bytes[8..])) }
}

fn is_sound(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8]) -> bool {
    let start = match (from, to) {
        (IpAddr::V4(_), _) if protocol == 1 => 0,
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            raw_sum(&from.octets()) + raw_sum(&to.octets()) + u32::from(protocol) + bytes.len() as u32
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            raw_sum(&from.octets()) + raw_sum(&to.octets()) + u32::from(protocol) + bytes.len() as u32
        }
        _ => return false,
    };
    sum(bytes, start) == 0xffff
}

fn raw_sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum()
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start + raw_sum(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Tcp { flags, data } => write_tcp(f, *flags, *data)?,
            What::Udp { checksum: 0 } => write!(f, "datagram without a checksum")?,
            What::Udp { .. } => write!(f, "datagram")?,
            What::Fragment { first: true } => write!(f, "first fragment")?,
            What::Fragment { first: false } => write!(f, "later fragment")?,
            What::Icmp { kind, code, mtu, .. } => write_icmp(f, self.to.is_ipv4(), *kind, *code, *mtu)?,
            What::Echo => write!(f, "echo reply")?,
            What::Other(protocol) => write!(f, "protocol {protocol}")?,
        }
        if self.sound { Ok(()) } else { write!(f, " with a wrong checksum") }
    }
}

fn write_tcp(f: &mut fmt::Formatter<'_>, flags: u8, data: usize) -> fmt::Result {
    let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK")];
    let set: Vec<&str> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    match (data, flags & PSH) {
        (0, _) => write!(f, "{}", set.join("+")),
        _ => write!(f, "data"),
    }
}

fn write_icmp(f: &mut fmt::Formatter<'_>, v4: bool, kind: u8, code: u8, mtu: u16) -> fmt::Result {
    match (v4, kind, code) {
        (true, 3, 0) => write!(f, "net unreachable"),
        (true, 3, 1) => write!(f, "host unreachable"),
        (true, 3, 3) | (false, 1, 4) => write!(f, "port unreachable"),
        (true, 3, 4) => write!(f, "fragmentation needed, MTU {mtu}"),
        (false, 2, _) => write!(f, "packet too big, MTU {mtu}"),
        (true, 11, 0) | (false, 3, 0) => write!(f, "time exceeded"),
        (false, 1, 3) => write!(f, "address unreachable"),
        _ => write!(f, "ICMP {kind}/{code}"),
    }
}
