//! ICMP errors about packets of connections: translated inside and outside, and sent to whoever sent the packet.

use super::packet::{ACK, Checksum, PSH_ACK, Packet, SYN, Transport, icmp, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World, peer_mac, weir_mac};
use std::net::{IpAddr, SocketAddr};
use weir::conntrack::ConnectionView;
use weir::datapath::{DropReason, Fate, PortId};
use weir::service::Protocol;

/// Types, codes and the word behind them of the errors that are sent on.
fn kinds(family: Family) -> Vec<(u8, u8, [u8; 4])> {
    match family {
        // Network, host, port unreachable; fragmentation needed; source quench; TTL; reassembly time; parameter problem at byte 20.
        Family::V4 => vec![
            (3, 0, [0; 4]),
            (3, 1, [0; 4]),
            (3, 3, [0; 4]),
            (3, 4, [0, 0, 0x05, 0x00]),
            (4, 0, [0; 4]),
            (11, 0, [0; 4]),
            (11, 1, [0; 4]),
            (12, 0, [20, 0, 0, 0]),
        ],
        // No route, port unreachable, too big, hop limit, parameter problem at byte 40.
        Family::V6 => vec![(1, 0, [0; 4]), (1, 4, [0; 4]), (2, 0, [0, 0, 0x05, 0x00]), (3, 0, [0; 4]), (4, 1, [0, 0, 0, 40])],
    }
}

/// A router beyond a port of weir.
fn router(family: Family) -> SocketAddr {
    SocketAddr::new(family.gateway(), 0)
}

/// An error from a router to `to` that quotes this.
fn error(family: Family, to: IpAddr, (kind, code, rest): (u8, u8, [u8; 4]), quote: &[u8]) -> Packet {
    let packet = icmp(router(family), SocketAddr::new(to, 0), kind).carrying(quote);
    Packet { transport: Transport::Icmp { kind, code, rest }, ..packet }
}

/// The first bytes of the IP packet in a frame: its headers and so much of what follows them.
fn quote(packet: &Packet, frame: &[u8], transport: usize) -> Vec<u8> {
    let link = if packet.vlan.is_some() { 18 } else { 14 };
    let end = (packet.l4() + transport).min(frame.len() - packet.padding);
    frame[link..end].to_vec()
}

/// A connection, and the packet of it that gets into trouble.
struct Trouble {
    world: World,
    family: Family,
    /// Where the packet came from, and the port that it came in by.
    sender: SocketAddr,
    came_in: PortId,
    /// From the address that weir gave it.
    weir: SocketAddr,
    /// As it came in.
    packet: Packet,
    /// As weir sent it.
    sent: Vec<u8>,
    /// What the sender knows its peer as.
    known_as: SocketAddr,
}

impl Trouble {
    /// `packet` makes the packet that gets into trouble.
    fn new(setup: Setup, family: Family, from_backend: bool, packet: impl Fn(SocketAddr, SocketAddr) -> Packet) -> Self {
        let mut world = World::new(setup);
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = match packet(client, vip).transport {
            Transport::Tcp { .. } => world.established(client, vip, backend),
            _ => {
                let snat = world.opens(&world.tagged_front(udp(client, vip)), backend);
                world.comes_back(&world.tagged_back(udp(backend, snat)), vip, client);
                snat
            }
        };
        let (sender, known_as, weir, came_in, out) = match from_backend {
            true => (backend, snat, vip, world.back(), world.front()),
            false => (client, vip, snat, world.front(), world.back()),
        };
        let packet = packet(sender, known_as);
        let packet = if from_backend { world.tagged_back(packet) } else { world.tagged_front(packet) };
        let outcome = world.send(came_in, &world.arriving(came_in, &packet).frame());
        let (port, sent) = outcome.sent.expect("it was sent");
        assert_eq!(port, out);
        Self { world, family, sender, came_in, weir, packet, sent, known_as }
    }

    /// Where the error comes in: where the packet left.
    fn troubled(&self) -> PortId {
        if self.came_in == self.world.front() { self.world.back() } else { self.world.front() }
    }

    /// With the tag of the side that the packet left to.
    fn tagged(&self, error: Packet) -> Packet {
        if self.came_in == self.world.front() { self.world.tagged_back(error) } else { self.world.tagged_front(error) }
    }

    /// What weir sent, cut off behind so many bytes of its transport header.
    fn quote(&self, transport: usize) -> Vec<u8> {
        let link = if self.sent[12..14] == [0x81, 0] { 18 } else { 14 };
        let ip = quote(&self.packet, &self.world.arriving(self.came_in, &self.packet).frame(), transport).len();
        self.sent[link..link + ip].to_vec()
    }

    /// What the sender had sent, as far as `quote` reaches. Its TTL was one less when weir sent it on.
    fn original(&self, transport: usize) -> Vec<u8> {
        let packet = self.packet.clone().with_ttl(self.packet.ttl - 1);
        quote(&packet, &packet.frame(), transport)
    }

    /// The error goes on to the sender of the packet, about that packet as it sent it.
    fn is_told(&mut self, error: &Packet, original: &[u8]) {
        let (troubled, came_in) = (self.troubled(), self.came_in);
        let outcome = self.world.expect(troubled, error, |outcome| outcome.fate == Fate::Transmit(came_in), &[("related", 1)]);
        let (_, sent) = outcome.sent.expect("it was sent");
        let expected = Packet {
            from: self.known_as,
            to: self.sender,
            ttl: error.ttl - 1,
            to_mac: peer_mac(came_in),
            from_mac: weir_mac(came_in),
            vlan: self.packet.vlan,
            payload: original.to_vec(),
            ..error.clone()
        };
        assert_eq!(sent, expected.frame(), "what left is not {expected:?}");
    }

    fn view(&self) -> Option<ConnectionView> {
        let protocol = if super::world::is_tcp(&self.packet) { Protocol::Tcp } else { Protocol::Udp };
        self.world.find(protocol, self.family.client(), self.family.vip()).map(|(view, _)| view)
    }
}

/// A connection, the port at which an error about a packet of it comes in, and the error: the other side is not reachable.
pub(super) fn unreachable(
    family: Family,
    from_backend: bool,
    packet: impl Fn(SocketAddr, SocketAddr) -> Packet,
) -> (World, PortId, Packet) {
    let trouble = Trouble::new(Setup::default(), family, from_backend, packet);
    let error = error(family, trouble.weir.ip(), kinds(family)[1], &trouble.quote(1000));
    let port = trouble.troubled();
    (trouble.world, port, error)
}

fn counted(view: Option<&ConnectionView>) -> u64 {
    view.and_then(|view| view.account.as_ref()).map_or(0, |account| account.packets.iter().sum())
}

fn without_account(view: Option<ConnectionView>) -> Option<ConnectionView> {
    view.map(|view| ConnectionView { account: None, ..view })
}

fn data(from: SocketAddr, to: SocketAddr) -> Packet {
    tcp(from, to, PSH_ACK).carrying(b"some data of a connection")
}

const MAKERS: [fn(SocketAddr, SocketAddr) -> Packet; 2] = [data, udp];

#[test]
fn an_error_reaches_the_sender_of_the_packet() {
    for family in FAMILIES {
        for from_backend in [false, true] {
            for make in MAKERS {
                for kind in kinds(family) {
                    // Ports and little else, up to the TCP checksum, with it, the whole TCP header, all of it.
                    for transport in [8, 9, 16, 18, 20, 21, 1000] {
                        let mut trouble = Trouble::new(Setup::default(), family, from_backend, make);
                        let error = error(family, trouble.weir.ip(), kind, &trouble.quote(transport));
                        let (before, original) = (trouble.view(), trouble.original(transport));
                        trouble.world.pass(10);
                        trouble.is_told(&error, &original);
                        let after = trouble.view();
                        assert_eq!(counted(after.as_ref()), counted(before.as_ref()) + 1);
                        assert_eq!(without_account(after), without_account(before), "the connection is as it was");
                    }
                }
            }
        }
    }
}

#[test]
fn tags_and_one_arm() {
    for family in FAMILIES {
        for setup in [
            Setup { vlans: (100, 0), ..Setup::default() },
            Setup { vlans: (0, 200), ..Setup::default() },
            Setup { vlans: (100, 200), ..Setup::default() },
            Setup { one_arm: true, ..Setup::default() },
            Setup { recompute: true, ..Setup::default() },
        ] {
            for from_backend in [false, true] {
                for make in MAKERS {
                    let mut trouble = Trouble::new(setup.clone(), family, from_backend, make);
                    let error = error(family, trouble.weir.ip(), kinds(family)[0], &trouble.quote(1000));
                    let (error, original) = (trouble.tagged(error), trouble.original(1000));
                    trouble.is_told(&error, &original);
                }
            }
        }
    }
}

/// What stands between IP header and ports, in the error and in the packet that it quotes.
#[test]
fn options_and_extension_headers() {
    let options = |packet: Packet| match packet.from {
        SocketAddr::V4(_) => packet.with_options(&[148, 4, 0, 0]),
        SocketAddr::V6(_) => {
            let mut packet = packet;
            let header = |units: usize| etherparse::Ipv6RawExtHeader::new_raw(0.into(), &vec![0; 6 + 8 * units]).unwrap();
            packet.extensions.hop_by_hop_options = Some(header(0));
            packet.extensions.destination_options = Some(header(1));
            // RFC 6946: a whole packet with a fragment header.
            packet.extensions.fragment =
                Some(etherparse::Ipv6FragmentHeader::new(0.into(), 0.try_into().unwrap(), false, 0x1234_5678));
            packet
        }
    };
    for family in FAMILIES {
        for from_backend in [false, true] {
            for make in MAKERS {
                for transport in [8, 1000] {
                    let mut trouble = Trouble::new(Setup::default(), family, from_backend, |from, to| options(make(from, to)));
                    let error = options(error(family, trouble.weir.ip(), kinds(family)[0], &trouble.quote(transport)));
                    let original = trouble.original(transport);
                    trouble.is_told(&error, &original);
                }
            }
        }
    }
}

/// An absent UDP checksum stays absent; a wrong one stays wrong by as much.
#[test]
fn checksums_of_the_quoted_packet() {
    for checksum in [Checksum::Zero, Checksum::Wrong(7)] {
        for make in MAKERS {
            let make = |from, to| make(from, to).with_checksum(checksum);
            let mut trouble = Trouble::new(Setup::default(), Family::V4, true, make);
            if checksum == Checksum::Zero && super::world::is_tcp(&trouble.packet) {
                continue;
            }
            let error = error(Family::V4, trouble.weir.ip(), (3, 4, [0, 0, 5, 0]), &trouble.quote(1000));
            let original = trouble.original(1000);
            trouble.is_told(&error, &original);
        }
    }
}

/// RFC 4884: extensions behind a quote that is padded to 128 bytes.
#[test]
fn extensions_of_the_message_stay() {
    let mut trouble = Trouble::new(Setup::default(), Family::V4, false, udp);
    let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 9, 9, 9, 9];
    let behind = |mut quote: Vec<u8>| {
        quote.resize(128, 0);
        [&quote[..], &extension].concat()
    };
    let error = error(Family::V4, trouble.weir.ip(), (11, 0, [0, 32, 0, 0]), &behind(trouble.quote(1000)));
    let original = behind(trouble.original(1000));
    trouble.is_told(&error, &original);
}

/// The packet was split after weir: its first fragment knows the ports, a later one does not.
#[test]
fn a_quoted_fragment() {
    let mut trouble =
        Trouble::new(Setup::default(), Family::V4, false, |from, to| Packet { dont_fragment: false, ..udp(from, to) });
    let fragment = |mut packet: Vec<u8>, field: u16| {
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet[10..12].fill(0);
        let sum = packet[..20].chunks(2).fold(0u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let (quoted, original) = (trouble.quote(8), trouble.original(8));
    let to = trouble.weir.ip();
    trouble.is_told(&error(Family::V4, to, (11, 1, [0; 4]), &fragment(quoted.clone(), 0x2000)), &fragment(original, 0x2000));
    for field in [0x2001, 0x0001, 0x1fff] {
        let error = error(Family::V4, to, (11, 0, [0; 4]), &fragment(quoted.clone(), field));
        trouble.world.drops(BACK, &error, DropReason::IcmpQuote);
    }
}

#[test]
fn errors_that_are_wrong() {
    for family in FAMILIES {
        let mut trouble = Trouble::new(Setup::default(), family, false, data);
        let (kind, to) = (kinds(family)[0], trouble.weir.ip());
        let quote = trouble.quote(1000);
        // Cut anywhere before the eighth byte of the transport header.
        let headers = if family == Family::V4 { 20 } else { 40 };
        for length in 0..headers + 8 {
            trouble.world.drops(BACK, &error(family, to, kind, &quote[..length]), DropReason::IcmpQuote);
        }
        // About a packet that another address sent.
        let other = error(family, family.vip().ip(), kind, &quote);
        trouble.world.drops(BACK, &other, DropReason::IcmpQuote);
        // Not an IP header of this family.
        for first in [0x44, 0x05, if family == Family::V4 { 0x65 } else { 0x45 }] {
            let mut quote = quote.clone();
            quote[0] = first;
            let expected = if family == Family::V6 && first >> 4 == 6 { continue } else { DropReason::IcmpQuote };
            trouble.world.drops(BACK, &error(family, to, kind, &quote), expected);
        }
        // A wrong checksum of the message, in each of its parts.
        let whole = error(family, to, kind, &quote);
        let frame = trouble.world.arriving(BACK, &whole).frame();
        for at in [whole.l4() + 2, whole.l4() + 7, whole.l4() + 8 + 12, frame.len() - 1] {
            let mut frame = frame.clone();
            frame[at] ^= 1;
            assert_eq!(trouble.world.send(BACK, &frame).fate, Fate::Drop(DropReason::IcmpChecksum), "byte {at}");
        }
        // From one of weir's own addresses.
        let mut forged = whole.clone();
        forged.from = family.any_port_vip(0);
        trouble.world.drops(BACK, &forged, DropReason::OwnSource);
        // The right one still goes.
        let original = trouble.original(1000);
        trouble.is_told(&whole, &original);
    }
}

#[test]
fn errors_about_no_connection() {
    for family in FAMILIES {
        let mut trouble = Trouble::new(Setup::default(), family, false, data);
        let (kind, weir, backend) = (kinds(family)[0], trouble.weir, family.backend());
        let about = |packet: Packet| error(family, packet.from.ip(), kind, &quote(&packet, &packet.frame(), 8));
        let mut other_port = weir;
        other_port.set_port(weir.port() - 1);
        for packet in [
            tcp(other_port, backend, ACK),
            tcp(weir, family.second_backend(), ACK),
            udp(weir, backend),
            tcp(family.vip(), family.far_client(), ACK),
            icmp(weir, backend, 8),
            // What a backend sent, not weir.
            tcp(backend, weir, ACK),
        ] {
            trouble.world.drops(BACK, &about(packet), DropReason::IcmpUnrelated);
        }
        // Redirects, and messages that are no errors.
        let (redirect, echo) = if family == Family::V4 { (5, [0, 8]) } else { (137, [128, 129]) };
        for kind in [redirect, echo[0], echo[1]] {
            let message = error(family, weir.ip(), (kind, 0, [0; 4]), &trouble.quote(1000));
            let reason = if kind == redirect { DropReason::IcmpUnrelated } else { DropReason::NoService };
            trouble.world.drops(BACK, &message, reason);
        }
        // The connection has ended.
        let timeouts = trouble.world.timeouts();
        trouble.world.pass(timeouts.tcp_established);
        trouble.world.sweep();
        let late = error(family, weir.ip(), kind, &trouble.quote(1000));
        trouble.world.drops(BACK, &late, DropReason::IcmpUnrelated);
    }
}

/// An error is not answered with an error.
#[test]
fn an_error_that_cannot_go_on() {
    for family in FAMILIES {
        let mut trouble = Trouble::new(Setup::default(), family, true, data);
        let kind = kinds(family)[0];
        let whole = error(family, trouble.weir.ip(), kind, &trouble.quote(1000));
        for ttl in [0, 1] {
            trouble.world.drops(FRONT, &whole.clone().with_ttl(ttl), DropReason::TtlExpired);
        }
        trouble.world.datapath.next_hops.port(BACK).set(weir_mac(BACK), 60);
        trouble.world.drops(FRONT, &whole, DropReason::TooBig);
        trouble.world.datapath.next_hops.port(BACK).set(weir_mac(BACK), 1500);
        trouble.world.datapath.next_hops.clear_neighbour(family.backend().ip(), BACK, 0);
        trouble.world.waits(FRONT, &whole, (BACK, family.backend().ip()));
    }
}

/// The error about the packet that opened the connection, before anyone answered.
#[test]
fn an_error_about_a_first_packet() {
    for family in FAMILIES {
        for first in [tcp(family.client(), family.vip(), SYN), udp(family.client(), family.vip())] {
            let mut world = World::default();
            let snat = world.opens(&first, family.backend());
            let sent = Packet { from: snat, to: family.backend(), ..first.clone().with_ttl(63) };
            let message = error(family, snat.ip(), kinds(family)[2], &quote(&sent, &sent.frame(), 1000));
            let outcome = world.expect(BACK, &message, |outcome| outcome.fate == Fate::Transmit(FRONT), &[("related", 1)]);
            let original = first.with_ttl(63);
            let expected = Packet {
                from: family.vip(),
                to: family.client(),
                to_mac: peer_mac(FRONT),
                from_mac: weir_mac(FRONT),
                payload: quote(&original, &original.frame(), 1000),
                ..message.with_ttl(63)
            };
            assert_eq!(outcome.sent, Some((FRONT, expected.frame())));
        }
    }
}
