//! Captures of protocols other than TCP and UDP, of errors about connections, and of datagrams in pieces.

use super::cases::{BACKEND, CLIENT, Capture, SNAT, address, packet};
use etherparse::checksum::Sum16BitWords;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// One service of each protocol, one backend, one SNAT address a family and one port.
pub(crate) const CONFIG: &str = r#"[[interface]]
name = "eth0"

[conntrack]
max_connections = 1024

[snat]
addresses = ["10.9.0.1", "fd00:9::1"]
ports = "40000-40000"

[[service]]
name = "ping"
vip = "10.0.0.100"
protocol = "icmp"
scheduler = "round_robin"
pool = "host"

[[service]]
name = "ping6"
vip = "fd00::100"
protocol = "icmp"
scheduler = "round_robin"
pool = "host6"

[[service]]
name = "tunnel"
vip = "10.0.0.100"
protocol = "gre"
scheduler = "round_robin"
pool = "host"

[[service]]
name = "diameter"
vip = "10.0.0.100:3868"
protocol = "sctp"
scheduler = "round_robin"
pool = "one"

[[service]]
name = "stream"
vip = "10.0.0.100:5001"
protocol = "dccp"
scheduler = "round_robin"
pool = "one"

[[service]]
name = "dns"
vip = "10.0.0.100:53"
protocol = "udp"
scheduler = "round_robin"
pool = "one"

[[pool]]
name = "host"
backends = [{ address = "10.2.0.1" }]

[[pool]]
name = "host6"
backends = [{ address = "fd00:2::1" }]

[[pool]]
name = "one"
backends = [{ address = "10.2.0.1:8000" }]
"#;

/// The first identifier that is given out.
const IDENTIFIER: u16 = 0;

const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

fn v4(of: SocketAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = of.ip() else { panic!("IPv4") };
    address
}

/// An IPv4 packet, perhaps a fragment: offset in units of 8 bytes, and whether more follow.
fn ip(protocol: u8, from: &str, to: &str, fragment: Option<(u16, bool)>, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (v4(address(from)).octets(), v4(address(to)).octets());
    let mut header = Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), from, to).expect("a header");
    header.identification = 0x0b0e;
    if let Some((offset, more)) = fragment {
        header.dont_fragment = false;
        (header.fragment_offset, header.more_fragments) = (IpFragOffset::try_new(offset).expect("an offset"), more);
    }
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = ETHERNET.to_vec();
    header.write(&mut bytes).expect("memory");
    bytes.extend(payload);
    bytes
}

fn echo(from: &str, to: &str, identifier: u16, is_reply: bool) -> Vec<u8> {
    let (from, to) = (address(from).ip(), address(to).ip());
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let mut bytes = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ip = ethernet.ipv4(from.octets(), to.octets(), 64);
            let step = if is_reply { ip.icmpv4_echo_reply(identifier, 1) } else { ip.icmpv4_echo_request(identifier, 1) };
            step.write(&mut bytes, b"abcdefgh").expect("memory");
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ip = ethernet.ipv6(from.octets(), to.octets(), 64);
            let step = if is_reply { ip.icmpv6_echo_reply(identifier, 1) } else { ip.icmpv6_echo_request(identifier, 1) };
            step.write(&mut bytes, b"abcdefgh").expect("memory");
        }
        mixed => panic!("mixed families: {mixed:?}"),
    }
    bytes
}

/// Echoes and their replies, over both families; a reply that nobody asked for; and after half a minute there is no connection.
pub(crate) fn echoes() -> Capture {
    let (client6, vip6) = ("[2001:db8::7]:0", "[fd00::100]:0");
    vec![
        (0, echo(CLIENT, "10.0.0.100:0", 77, false)),
        (1, echo(BACKEND, SNAT, IDENTIFIER, true)),
        (2, echo(client6, vip6, 78, false)),
        (3, echo("[fd00:2::1]:0", "[fd00:9::1]:0", IDENTIFIER, true)),
        (4, echo(BACKEND, SNAT, 999, true)),
        (40_000, echo(BACKEND, SNAT, IDENTIFIER, true)),
    ]
}

/// A key, another client's same key, which clashes, and none.
pub(crate) fn tunnels() -> Capture {
    let keyed = [0x20, 0, 8, 0, 0, 0, 0, 7, b'x'];
    let plain = [0, 0, 8, 0, b'y'];
    let vip = "10.0.0.100:0";
    vec![
        (0, ip(47, CLIENT, vip, None, &keyed)),
        (1, ip(47, BACKEND, SNAT, None, &keyed)),
        (2, ip(47, "192.0.2.8:0", vip, None, &keyed)),
        (3, ip(47, CLIENT, vip, None, &plain)),
        (4, ip(47, BACKEND, SNAT, None, &plain)),
    ]
}

fn sctp(from: &str, to: &str, tag: u32, chunk: &[u8]) -> Vec<u8> {
    let (source, destination) = (address(from).port(), address(to).port());
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(chunk);
    let sum = crc32c::crc32c(&bytes);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    ip(132, from, to, None, &bytes)
}

/// An association from INIT to SHUTDOWN COMPLETE; then a heartbeat with a tag that is not agreed on, and a damaged packet.
pub(crate) fn association() -> Capture {
    const VIP: &str = "10.0.0.100:3868";
    let (client, backend) = (0x0c11_e177u32, 0xbac4_e4d0u32);
    let init = |kind: u8, tag: u32| [&[kind, 0, 0, 20], &tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]].concat();
    let up = |tag, chunk: &[u8]| sctp(CLIENT, VIP, tag, chunk);
    let down = |tag, chunk: &[u8]| sctp(BACKEND, SNAT, tag, chunk);
    let data = [0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'd', b'a', b't', b'a'];
    let mut damaged = up(backend, &data);
    *damaged.last_mut().expect("bytes") ^= 1;
    vec![
        (0, up(0, &init(1, client))),
        (1, down(client, &init(2, backend))),
        (2, up(backend, &[10, 0, 0, 8, 1, 2, 3, 4])),
        (3, down(client, &[11, 0, 0, 4])),
        (4, up(backend, &data)),
        (5, damaged),
        (6, down(0x0bad_0bad, &[4, 0, 0, 8, 0, 1, 0, 4])),
        (7, up(backend, &[7, 0, 0, 8, 0, 0, 0, 1])),
        (8, down(client, &[8, 0, 0, 4])),
        (9, up(backend, &[14, 0, 0, 4])),
    ]
}

/// `behind`: service code, or the acknowledgment and what follows it.
fn dccp(from: &str, to: &str, kind: u8, sequence: u64, behind: &[u8]) -> Vec<u8> {
    let (source, destination) = (address(from).port(), address(to).port());
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend([((16 + behind.len()) / 4) as u8, 0, 0, 0, kind << 1 | 1, 0]);
    bytes.extend(&sequence.to_be_bytes()[2..]);
    bytes.extend(behind);
    let sum = Sum16BitWords::new()
        .add_4bytes(v4(address(from)).octets())
        .add_4bytes(v4(address(to)).octets())
        .add_2bytes([0, 33])
        .add_2bytes((bytes.len() as u16).to_be_bytes())
        .add_slice(&bytes);
    bytes[6..8].copy_from_slice(&sum.ones_complement().to_ne_bytes());
    ip(33, from, to, None, &bytes)
}

/// Request, Response, Ack, and Reset; a Request of the backend is none.
pub(crate) fn datagrams_with_congestion_control() -> Capture {
    const VIP: &str = "10.0.0.100:5001";
    let acknowledges = |number: u64, behind: &[u8]| [&number.to_be_bytes()[..], behind].concat();
    vec![
        (0, dccp(CLIENT, VIP, 0, 100, &[1, 2, 3, 4])),
        (1, dccp(BACKEND, SNAT, 1, 900, &acknowledges(100, &[1, 2, 3, 4]))),
        (2, dccp(CLIENT, VIP, 3, 101, &acknowledges(900, &[]))),
        (3, dccp(BACKEND, SNAT, 3, 901, &acknowledges(101, &[]))),
        (4, dccp(BACKEND, SNAT, 0, 902, &[1, 2, 3, 4])),
        (5, dccp(BACKEND, SNAT, 7, 903, &acknowledges(101, &[1, 0, 0, 0]))),
    ]
}

/// The backend has no such port, and its host says so: translated inside and outside, and sent to the client.
pub(crate) fn related_error() -> Capture {
    let question = packet(CLIENT, "10.0.0.100:53", b"question").udp();
    let as_received = packet(SNAT, BACKEND, b"question").udp();
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(&as_received[14..14 + 28]);
    let sum = Sum16BitWords::new().add_slice(&message).ones_complement();
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    vec![(0, question), (1, ip(1, BACKEND, SNAT, None, &message))]
}

/// A datagram in three pieces, what has gone already once more and in another cut, and a piece of SCTP, which cannot be followed.
pub(crate) fn pieces() -> Capture {
    let vip = "10.0.0.100:53";
    let whole = packet(CLIENT, vip, &[b'p'; 40]).udp();
    let datagram = &whole[34..];
    let piece = |from: usize, to: usize| ip(17, CLIENT, vip, Some(((from / 8) as u16, to < datagram.len())), &datagram[from..to]);
    vec![
        (0, piece(0, 16)),
        (1, piece(32, 48)),
        (2, piece(32, 48)),
        (3, piece(16, 32)),
        (4, piece(24, 40)),
        (10, ip(132, CLIENT, "10.0.0.100:3868", Some((0, true)), &[0; 16])),
    ]
}
