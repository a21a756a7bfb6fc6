//! The situations, and what is asked of each: what client and backend then hear.

use super::packet::{ACK, Checksum, FIN_ACK, PSH_ACK, Packet, RST, RST_ACK, SYN, Transport, icmp, segment, udp};
use super::seen::{Seen, What};
use super::street::{BACKEND_ISN, CLIENT_ISN, Connection, Heard, Side, Street, address, framed};
use crate::support::Family;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Services of every rival: TCP 80 and UDP 53 with a backend; TCP 82 without one, 83 with one that is not there, 84 with two.
pub(super) const NO_BACKEND: u16 = 82;
pub(super) const GONE: u16 = 83;
pub(super) const TWO: u16 = 84;
const NO_SERVICE: u16 = 81;
const DNS: u16 = 53;

/// One row of the table.
pub(super) struct Situation {
    pub(super) text: &'static str,
    pub(super) play: fn(&mut Street) -> Answer,
}

/// What one rival did.
pub(super) struct Answer(String);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// The connection that a situation begins with could not be had.
const NO_CONNECTION: &str = "no connection";

pub(super) const SITUATIONS: &[Situation] = &[
    Situation { text: "a connection, and data on it", play: connection },
    Situation {
        text: "SYN to a port of the VIP without a service",
        play: |street| to_client(street.knock(Family::V4, NO_SERVICE).2),
    },
    Situation { text: "datagram to such a port", play: |street| to_client(datagram(street, NO_SERVICE).1) },
    Situation { text: "ping of the VIP", play: ping },
    Situation { text: "SYN to a service without a backend", play: |street| to_client(street.knock(Family::V4, NO_BACKEND).2) },
    Situation { text: "SYN to a backend that does not answer ARP", play: gone },
    Situation { text: "SYN to a backend that refuses", play: refused },
    Situation { text: "SYN to a backend whose router answers host unreachable", play: unreachable },
    Situation { text: "the same SYN again, of two backends", play: retransmitted },
    Situation { text: "ACK without a connection", play: stray },
    Situation { text: "RST by the client, then data", play: reset_by_client },
    Situation { text: "RST by the client, sequence number out of the window, then data", play: reset_out_of_window },
    Situation { text: "RST by the backend, then data by the client", play: reset_by_backend },
    Situation { text: "data far out of the window", play: out_of_window },
    Situation { text: "SYN within an established connection", play: syn_within },
    Situation { text: "closed in order, then a SYN from the same port", play: reused },
    Situation { text: "data with a wrong TCP checksum", play: wrong_checksum },
    Situation { text: "datagram without a checksum", play: without_checksum },
    Situation { text: "datagram, port unreachable by the backend", play: port_unreachable },
    Situation { text: "time exceeded by a router toward the backend", play: time_exceeded_behind },
    Situation {
        text: "fragmentation needed by a router toward the client",
        play: |street| too_big_for_client(street, Family::V4),
    },
    Situation {
        text: "packet too big by a router toward the client (IPv6)",
        play: |street| too_big_for_client(street, Family::V6),
    },
    Situation { text: "ICMP error about a connection that nobody has", play: unrelated },
    Situation { text: "segment larger than the MTU toward the backend, with DF", play: |street| large(street, true) },
    Situation { text: "segment larger than the MTU toward the backend, without DF", play: |street| large(street, false) },
    Situation { text: "segment with TTL 1", play: last_hop },
    Situation { text: "datagram in two fragments", play: |street| fragments(street, Family::V4, false) },
    Situation { text: "datagram in two fragments, the later one first", play: |street| fragments(street, Family::V4, true) },
    Situation { text: "datagram in two fragments (IPv6)", play: |street| fragments(street, Family::V6, false) },
    Situation { text: "answer of the backend in two fragments", play: fragmented_answer },
];

fn to_client(heard: Heard) -> Answer {
    format!("client: {}", list(&heard.client)).into()
}

fn to_backend(heard: Heard) -> Answer {
    format!("backend: {}", list(&heard.backend)).into()
}

fn to_both(heard: Heard) -> Answer {
    match (heard.client.is_empty(), heard.backend.is_empty()) {
        (true, _) => to_backend(heard),
        (false, true) => to_client(heard),
        (false, false) => format!("client: {}; backend: {}", list(&heard.client), list(&heard.backend)).into(),
    }
}

fn list(seen: &[Seen]) -> String {
    let mut words: Vec<String> = seen.iter().map(ToString::to_string).collect();
    words.dedup();
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}

/// Who the backend takes for the client.
fn shown(connection: &Connection) -> &'static str {
    if connection.peer.ip() == connection.client.ip() { "the client's address" } else { "a local address" }
}

fn connection(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let passes = if street.data_passes(&connection) { "data passes" } else { "data does not pass" };
    format!("SYN from {}, {passes}", shown(&connection)).into()
}

fn datagram(street: &mut Street, port: u16) -> (Packet, Heard) {
    let question = udp(street.client(Family::V4), SocketAddr::new(Family::V4.vip(), port));
    let heard = street.say(Side::Client, std::slice::from_ref(&question));
    (question, heard)
}

fn ping(street: &mut Street) -> Answer {
    let client = street.client(Family::V4);
    to_client(street.say(Side::Client, &[icmp(client, SocketAddr::new(Family::V4.vip(), 0), 8)]))
}

fn gone(street: &mut Street) -> Answer {
    let (_, _, mut heard) = street.knock(Family::V4, GONE);
    if heard.client.is_empty() {
        // The kernel gives ARP three seconds.
        heard = street.listen(Duration::from_secs(4));
    }
    to_client(heard)
}

fn refused(street: &mut Street) -> Answer {
    let (_, _, heard) = street.knock(Family::V4, 80);
    let Some(syn) = heard.backend.first().cloned() else { return "the backend hears nothing".into() };
    to_client(street.say(Side::Backend, &[segment(syn.to, syn.from, RST_ACK, 0, CLIENT_ISN + 1)]))
}

fn unreachable(street: &mut Street) -> Answer {
    let (client, vip, heard) = street.knock(Family::V4, 80);
    let Some(syn) = heard.backend.first().cloned() else { return "the backend hears nothing".into() };
    let heard = street.say(Side::Backend, &[error(router(Side::Backend, Family::V4), (3, 1), 0, &syn)]);
    error_at_client(&heard, client, vip)
}

fn retransmitted(street: &mut Street) -> Answer {
    let (client, vip, first) = street.knock(Family::V4, TWO);
    let second = street.say(Side::Client, &[segment(client, vip, SYN, CLIENT_ISN, 0)]);
    match (first.backend.first(), second.backend.first()) {
        (Some(first), Some(second)) if (first.from, first.to) == (second.from, second.to) => "the same backend and port".into(),
        (Some(_), Some(_)) => "another backend or port".into(),
        _ => "the backend hears one of them at most".into(),
    }
}

fn stray(street: &mut Street) -> Answer {
    let (client, vip) = (street.client(Family::V4), SocketAddr::new(Family::V4.vip(), 80));
    to_both(street.say(Side::Client, &[segment(client, vip, ACK, CLIENT_ISN, BACKEND_ISN)]))
}

fn reset_by_client(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let reset = street.say(Side::Client, &[connection.by_client(RST)]);
    let data = street.say(Side::Client, &[connection.by_client(PSH_ACK).carrying(b"late")]);
    format!("backend: {}; then {}", list(&reset.backend), to_both(data)).into()
}

fn reset_out_of_window(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let far = segment(connection.client, connection.vip, RST, CLIENT_ISN.wrapping_add(1 << 30), 0);
    let reset = street.say(Side::Client, &[far]);
    let data = street.say(Side::Backend, &[connection.by_backend(PSH_ACK).carrying(b"still here")]);
    let lives = if data.client.iter().any(Seen::has_data) { "the connection lives" } else { "the connection is lost" };
    format!("backend: {}; {lives}", list(&reset.backend)).into()
}

fn reset_by_backend(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let reset = street.say(Side::Backend, &[connection.by_backend(RST)]);
    let data = street.say(Side::Client, &[connection.by_client(PSH_ACK).carrying(b"late")]);
    format!("client: {}; then {}", list(&reset.client), to_both(data)).into()
}

fn out_of_window(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let far = segment(connection.client, connection.vip, PSH_ACK, CLIENT_ISN.wrapping_add(1 << 30), BACKEND_ISN + 1);
    to_both(street.say(Side::Client, &[far.carrying(b"injected")]))
}

fn syn_within(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let syn = street.say(Side::Client, &[segment(connection.client, connection.vip, SYN, CLIENT_ISN + 500_000, 0)]);
    let lives = if street.data_passes(&connection) { "the connection lives" } else { "the connection is lost" };
    format!("{}; {lives}", to_both(syn)).into()
}

fn reused(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let Connection { client, vip, peer, backend } = connection;
    street.say(Side::Client, &[connection.by_client(FIN_ACK)]);
    street.say(Side::Backend, &[segment(backend, peer, FIN_ACK, BACKEND_ISN + 1, CLIENT_ISN + 2)]);
    street.say(Side::Client, &[segment(client, vip, ACK, CLIENT_ISN + 2, BACKEND_ISN + 2)]);
    let heard = street.say(Side::Client, &[segment(client, vip, SYN, CLIENT_ISN + 700_000, 0)]);
    match heard.backend.iter().find(|seen| seen.is_tcp(SYN)) {
        Some(syn) if syn.from == peer => "backend: SYN from the same port".into(),
        Some(_) => "backend: SYN from another port".into(),
        None => to_both(heard),
    }
}

fn wrong_checksum(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let data = connection.by_client(PSH_ACK).carrying(b"damaged on its way").with_checksum(Checksum::Wrong(0x101));
    to_both(street.say(Side::Client, &[data]))
}

fn without_checksum(street: &mut Street) -> Answer {
    let question = udp(street.client(Family::V4), SocketAddr::new(Family::V4.vip(), DNS)).with_checksum(Checksum::Zero);
    to_both(street.say(Side::Client, &[question]))
}

fn port_unreachable(street: &mut Street) -> Answer {
    let (question, heard) = datagram(street, DNS);
    let Some(seen) = heard.backend.first().cloned() else { return "the backend hears nothing".into() };
    let heard = street.say(Side::Backend, &[error(seen.to.ip(), (3, 3), 0, &seen)]);
    error_at_client(&heard, question.from, question.to)
}

fn time_exceeded_behind(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let data = street.say(Side::Client, &[connection.by_client(PSH_ACK).carrying(b"too far")]);
    let Some(seen) = data.backend.first().cloned() else { return "the backend hears nothing".into() };
    let heard = street.say(Side::Backend, &[error(router(Side::Backend, Family::V4), (11, 0), 0, &seen)]);
    error_at_client(&heard, connection.client, connection.vip)
}

fn too_big_for_client(street: &mut Street, family: Family) -> Answer {
    let Some(connection) = street.connect(family) else { return NO_CONNECTION.into() };
    let data = street.say(Side::Backend, &[connection.by_backend(PSH_ACK).carrying(&[7; 1200])]);
    let Some(seen) = data.client.first().cloned() else { return "the client hears nothing".into() };
    let kind = if family == Family::V4 { (3, 4) } else { (2, 0) };
    let heard = street.say(Side::Client, &[error(router(Side::Client, family), kind, 1280, &seen)]);
    let right = |seen: &&Seen| seen.quotes(connection.backend, connection.peer);
    match heard.backend.iter().find(right) {
        Some(error) => format!("backend: {error}, about its packet").into(),
        None => to_backend(heard),
    }
}

fn unrelated(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let data = street.say(Side::Backend, &[connection.by_backend(PSH_ACK).carrying(b"answer")]);
    let Some(seen) = data.client.first().cloned() else { return "the client hears nothing".into() };
    // Another port of the client, which has no connection.
    let mut stranger = seen;
    stranger.bytes[22..24].copy_from_slice(&9u16.to_be_bytes());
    to_both(street.say(Side::Client, &[error(router(Side::Client, Family::V4), (3, 4), 1280, &stranger)]))
}

fn large(street: &mut Street, dont_fragment: bool) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let mut data = connection.by_client(PSH_ACK).sized(1500);
    data.dont_fragment = dont_fragment;
    let heard = street.say(Side::Client, &[data]);
    if heard.client.is_empty() { to_backend(heard) } else { error_at_client(&heard, connection.client, connection.vip) }
}

fn last_hop(street: &mut Street) -> Answer {
    let Some(connection) = street.connect(Family::V4) else { return NO_CONNECTION.into() };
    let heard = street.say(Side::Client, &[connection.by_client(PSH_ACK).carrying(b"traceroute").with_ttl(1)]);
    if heard.client.is_empty() { to_backend(heard) } else { error_at_client(&heard, connection.client, connection.vip) }
}

fn fragments(street: &mut Street, family: Family, later_first: bool) -> Answer {
    let mut question = udp(street.client(family), SocketAddr::new(family.vip(), DNS)).carrying(&[5; 1200]);
    question.dont_fragment = false;
    let mut frames = cut(&framed(Side::Client, &question)).to_vec();
    if later_first {
        frames.reverse();
    }
    to_both(street.say_frames(Side::Client, &frames))
}

fn fragmented_answer(street: &mut Street) -> Answer {
    let (_, heard) = datagram(street, DNS);
    let Some(seen) = heard.backend.first().cloned() else { return "the backend hears nothing".into() };
    let mut answer = udp(seen.to, seen.from).carrying(&[6; 1200]);
    answer.dont_fragment = false;
    to_client(street.say_frames(Side::Backend, &cut(&framed(Side::Backend, &answer))))
}

/// What the client heard, and whether an error is about its own packet.
fn error_at_client(heard: &Heard, client: SocketAddr, vip: SocketAddr) -> Answer {
    match heard.client.iter().find(|seen| seen.quotes(client, vip)) {
        Some(error) => {
            let by = if error.from.ip() == vip.ip() { "by the VIP" } else { "by who sent it" };
            format!("client: {error}, about its packet, {by}").into()
        }
        None => format!("client: {}", list(&heard.client)).into(),
    }
}

fn router(side: Side, family: Family) -> IpAddr {
    match side {
        Side::Client => address(family, "10.1.0.77", "fd00:1::77"),
        Side::Backend => address(family, "10.2.0.77", "fd00:2::77"),
    }
}

/// An ICMP error that tells the sender of `about` of it, quoting as much as RFC 1812, section 4.3.2.3 wants.
fn error(by: IpAddr, (kind, code): (u8, u8), mtu: u16, about: &Seen) -> Packet {
    assert!(!matches!(about.what, What::Icmp { .. }), "no error about an error: RFC 1122, section 3.2.2");
    let mut error = icmp(SocketAddr::new(by, 0), SocketAddr::new(about.from.ip(), 0), kind);
    let [high, low] = mtu.to_be_bytes();
    error.transport = Transport::Icmp { kind, code, rest: [0, 0, high, low] };
    error.carrying(&about.bytes[..about.bytes.len().min(548)])
}

/// The two fragments of a datagram's frame, cut behind 800 bytes of IP payload.
fn cut(frame: &[u8]) -> [Vec<u8>; 2] {
    const FIRST: usize = 800;
    let v4 = frame[12] == 8;
    let start = if v4 { 34 } else { 54 };
    [(0, &frame[start..start + FIRST]), (FIRST, &frame[start + FIRST..])].map(|(offset, payload)| {
        let mut fragment = frame[..start].to_vec();
        let more = offset == 0;
        match v4 {
            true => {
                fragment[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
                let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                fragment[20..22].copy_from_slice(&field.to_be_bytes());
                fragment[24..26].copy_from_slice(&[0, 0]);
                let checksum = header_checksum(&fragment[14..34]);
                fragment[24..26].copy_from_slice(&checksum.to_be_bytes());
            }
            false => {
                fragment[18..20].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
                let next = std::mem::replace(&mut fragment[20], 44);
                let field = offset as u16 | u16::from(more);
                fragment.extend([next, 0, field.to_be_bytes()[0], field.to_be_bytes()[1], 0, 0, 0x56, 0x78]);
            }
        }
        fragment.extend(payload);
        fragment
    })
}

fn header_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}
