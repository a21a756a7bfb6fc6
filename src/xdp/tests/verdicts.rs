//! Every line of what is steered and what is not, for both families, tagged and not, whole and cut off at every byte.

use super::packets::{
    DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMPV4, ICMPV6, ROUTING, SCTP, TCP, UDP, extension, fragment4, fragment6, frame,
    icmp, ip, tcp, udp, with_options,
};
use super::{Decision, Loaded, XDP_PASS, XDP_REDIRECT, address, run, service};
use crate::service::Protocol;
use crate::xdp::targets::{Entries, Targets};
use crate::xdp::{MAX_QUEUES, MAX_SERVICES, SteerCounters, XdpError};
use etherparse::EtherType;
use std::net::IpAddr;
use std::os::fd::AsFd as _;

/// A case: what it is, the IP packet, and how many bytes of it make it weir's (`None`: it is the kernel's).
type Case = (&'static str, Vec<u8>, Option<usize>);

struct Family {
    client: IpAddr,
    vip: IpAddr,
    all_ports_vip: IpAddr,
    snat: IpAddr,
    other: IpAddr,
    backend: IpAddr,
    header: usize,
    icmp: u8,
    errors: [u8; 4],
    not_errors: [u8; 4],
}

fn v4() -> Family {
    Family {
        client: address("192.0.2.1"),
        vip: address("10.0.0.100"),
        all_ports_vip: address("10.0.0.101"),
        snat: address("10.0.0.200"),
        other: address("10.0.0.1"),
        backend: address("10.1.0.11"),
        header: 20,
        icmp: ICMPV4,
        errors: [3, 4, 11, 12],
        not_errors: [0, 8, 5, 13],
    }
}

fn v6() -> Family {
    Family {
        client: address("2001:db8:1::1"),
        vip: address("2001:db8::100"),
        all_ports_vip: address("2001:db8::101"),
        snat: address("2001:db8::200"),
        other: address("2001:db8::1"),
        backend: address("2001:db8:2::11"),
        header: 40,
        icmp: ICMPV6,
        errors: [1, 2, 3, 4],
        not_errors: [128, 129, 135, 137],
    }
}

fn targets() -> Targets {
    let mut targets = Targets::default();
    for family in [v4(), v6()] {
        targets.services.insert((family.vip, Some(443), Protocol::Tcp));
        targets.services.insert((family.vip, Some(8443), Protocol::Tcp));
        targets.services.insert((family.all_ports_vip, None, Protocol::Udp));
        targets.services.insert((family.all_ports_vip, Some(53), Protocol::Tcp));
        targets.snat.insert(family.snat);
    }
    targets
}

fn services(f: &Family) -> Vec<Case> {
    let ports = Some(f.header + 4);
    let to = |destination, protocol, segment: Vec<u8>| ip(f.client, destination, protocol, &segment);
    vec![
        ("TCP to a service", to(f.vip, TCP, tcp(50000, 443)), ports),
        ("TCP to another service of the VIP", to(f.vip, TCP, tcp(50000, 8443)), ports),
        ("TCP to a port between them", to(f.vip, TCP, tcp(50000, 444)), None),
        ("ssh to a VIP", to(f.vip, TCP, tcp(50000, 22)), None),
        ("TCP from a service's port to none", to(f.vip, TCP, tcp(443, 50000)), None),
        ("UDP to a TCP service's port", to(f.vip, UDP, udp(50000, 443)), None),
        ("UDP to a VIP of all ports", to(f.all_ports_vip, UDP, udp(50000, 7)), ports),
        ("UDP to port 0 of it", to(f.all_ports_vip, UDP, udp(50000, 0)), ports),
        ("TCP to a service on it", to(f.all_ports_vip, TCP, tcp(50000, 53)), ports),
        ("TCP to another port of it", to(f.all_ports_vip, TCP, tcp(50000, 443)), None),
        ("TCP to port 0 of a VIP", to(f.vip, TCP, tcp(50000, 0)), None),
        ("TCP reply of a backend", ip(f.backend, f.snat, TCP, &tcp(8443, 1024)), ports),
        ("UDP reply of a backend", ip(f.backend, f.snat, UDP, &udp(53, 65535)), ports),
        ("TCP to the host's own address", to(f.other, TCP, tcp(50000, 443)), None),
        ("TCP from a VIP to elsewhere", ip(f.vip, f.client, TCP, &tcp(443, 50000)), None),
        ("SCTP to a VIP", to(f.vip, SCTP, tcp(50000, 443)), None),
        ("SCTP to a SNAT address", to(f.snat, SCTP, tcp(50000, 443)), None),
    ]
}

fn icmp_errors(f: &Family) -> Vec<Case> {
    let error = |kind: u8, to: IpAddr, quote: &[u8]| ip(f.client, to, f.icmp, &icmp(kind, quote));
    let sent = ip(f.vip, f.client, TCP, &tcp(443, 50000));
    // Both IP headers, the ICMP header, and the ports of the quote.
    let quoted = Some(2 * f.header + 8 + 4);
    let mut cases = Vec::new();
    for kind in f.errors {
        cases.push(("error about a service's packet", error(kind, f.vip, &sent), quoted));
        cases.push((
            "error about a packet to a backend",
            error(kind, f.snat, &ip(f.snat, f.backend, TCP, &tcp(1024, 8443))),
            quoted,
        ));
        cases.push((
            "error about the host's own ssh from the VIP",
            error(kind, f.vip, &ip(f.vip, f.client, TCP, &tcp(22, 50000))),
            None,
        ));
        cases.push((
            "error about the host's own packet",
            error(kind, f.other, &ip(f.other, f.client, TCP, &tcp(443, 50000))),
            None,
        ));
        cases.push(("error to the host about a service's packet", error(kind, f.other, &sent), None));
    }
    for kind in f.not_errors {
        cases.push(("no error, to a VIP", error(kind, f.vip, &sent), None));
        cases.push(("no error, to a SNAT address", error(kind, f.snat, &sent), None));
    }
    let kind = f.errors[0];
    cases.extend([
        (
            "error about UDP of a VIP of all ports",
            error(kind, f.all_ports_vip, &ip(f.all_ports_vip, f.client, UDP, &udp(9, 9))),
            quoted,
        ),
        ("error about TCP of that VIP", error(kind, f.all_ports_vip, &ip(f.all_ports_vip, f.client, TCP, &tcp(9, 9))), None),
        ("error about UDP to a backend", error(kind, f.snat, &ip(f.snat, f.backend, UDP, &udp(1024, 53))), quoted),
        ("error about a packet to a service", error(kind, f.vip, &ip(f.client, f.vip, TCP, &tcp(50000, 443))), None),
        (
            "error about an echo reply of a VIP",
            error(kind, f.vip, &ip(f.vip, f.client, f.icmp, &icmp(f.not_errors[0], b""))),
            None,
        ),
        ("error about SCTP", error(kind, f.snat, &ip(f.snat, f.backend, SCTP, &tcp(1, 1))), None),
        ("error about nothing", error(kind, f.vip, b""), None),
    ]);
    cases
}

fn only_v4(f: &Family) -> Vec<Case> {
    let request = ip(f.client, f.vip, TCP, &tcp(50000, 443));
    let ssh = ip(f.client, f.vip, TCP, &tcp(50000, 22));
    let reply = ip(f.backend, f.snat, UDP, &udp(53, 1024));
    let echo = ip(f.client, f.vip, ICMPV4, &icmp(8, b"abcdefgh"));
    let sent = ip(f.vip, f.client, TCP, &tcp(443, 50000));
    let error = |quote: &[u8]| ip(f.client, f.vip, ICMPV4, &icmp(3, quote));
    let with_byte = |packet: &[u8], byte: u8| [&[byte], &packet[1..]].concat();
    let no_operations = [1; 40];
    vec![
        ("options, to a service", with_options(&request, &no_operations[..4]), Some(28)),
        ("most options, to a service", with_options(&request, &no_operations), Some(64)),
        ("options, ssh", with_options(&ssh, &no_operations[..8]), None),
        ("options in an error", with_options(&error(&sent), &no_operations[..4]), Some(24 + 8 + 20 + 4)),
        ("options in the quote", error(&with_options(&sent, &no_operations[..12])), Some(20 + 8 + 32 + 4)),
        ("first fragment to a service", fragment4(&request, 0, true), Some(20)),
        ("first fragment of ssh: its rest cannot be told apart", fragment4(&ssh, 0, true), Some(20)),
        ("later fragment", fragment4(&request, 3, true), Some(20)),
        ("last fragment", fragment4(&request, 0x1fff, false), Some(20)),
        ("last fragment of a reply", fragment4(&reply, 1, false), Some(20)),
        ("fragment of UDP to a VIP that has none", fragment4(&ip(f.client, f.vip, UDP, &udp(1, 443)), 0, true), None),
        ("fragment of TCP to the host", fragment4(&ip(f.client, f.other, TCP, &tcp(1, 443)), 0, true), None),
        ("fragment of echo", fragment4(&echo, 0, true), None),
        ("last fragment of echo", fragment4(&echo, 1, false), None),
        ("fragment of SCTP to a SNAT address", fragment4(&ip(f.client, f.snat, SCTP, &tcp(1, 1)), 1, false), None),
        ("error that is itself a fragment", fragment4(&error(&sent), 0, true), None),
        ("error about a first fragment", error(&fragment4(&sent, 0, true)), Some(20 + 8 + 20 + 4)),
        ("error about a later fragment of a VIP", error(&fragment4(&sent, 1, false)), None),
        (
            "error about a later fragment to a backend",
            ip(f.backend, f.snat, ICMPV4, &icmp(11, &fragment4(&ip(f.snat, f.backend, UDP, &udp(1, 1)), 1, false))),
            Some(20 + 8 + 20),
        ),
        ("header length 16", with_byte(&request, 0x44), None),
        ("version 6", with_byte(&request, 0x65), None),
        ("header length 16 in the quote", error(&with_byte(&sent, 0x44)), None),
        ("version 6 in the quote", error(&with_byte(&sent, 0x65)), None),
    ]
}

fn only_v6(f: &Family) -> Vec<Case> {
    let to_vip = |next: u8, payload: Vec<u8>| ip(f.client, f.vip, next, &payload);
    let segment = tcp(50000, 443);
    let error = |quote: &[u8]| to_vip(ICMPV6, icmp(2, quote));
    let from_vip = |next: u8, payload: Vec<u8>| ip(f.vip, f.client, next, &payload);
    let chain = |length: usize, segment: &[u8]| {
        let mut payload = segment.to_vec();
        for index in 0..length {
            let next = if index == 0 { TCP } else { DESTINATION_OPTIONS };
            payload = extension(next, 0, &payload);
        }
        to_vip(DESTINATION_OPTIONS, payload)
    };
    let with_version = |packet: &[u8], byte: u8| [&[byte], &packet[1..]].concat();
    let solicited: IpAddr = address("ff02::1:ff00:100");
    vec![
        ("neighbour solicitation for a VIP", ip(f.client, solicited, ICMPV6, &icmp(135, &[0; 16])), None),
        ("neighbour advertisement to a VIP", to_vip(ICMPV6, icmp(136, &[0; 16])), None),
        ("router advertisement to a VIP", to_vip(ICMPV6, icmp(134, &[0; 8])), None),
        ("reserved ICMPv6 type 0", to_vip(ICMPV6, icmp(0, &from_vip(TCP, tcp(443, 1)))), None),
        ("unassigned ICMPv6 error 5", to_vip(ICMPV6, icmp(5, &from_vip(TCP, tcp(443, 1)))), None),
        ("hop-by-hop options", to_vip(HOP_BY_HOP, extension(TCP, 0, &segment)), Some(40 + 8 + 4)),
        ("routing header", to_vip(ROUTING, extension(TCP, 2, &segment)), Some(40 + 24 + 4)),
        ("destination options", to_vip(DESTINATION_OPTIONS, extension(TCP, 1, &segment)), Some(40 + 16 + 4)),
        ("longest options", to_vip(DESTINATION_OPTIONS, extension(TCP, 255, &segment)), Some(40 + 2048 + 4)),
        ("options, then ssh", to_vip(DESTINATION_OPTIONS, extension(TCP, 1, &tcp(1, 22))), None),
        (
            "all three",
            to_vip(HOP_BY_HOP, extension(ROUTING, 1, &extension(DESTINATION_OPTIONS, 0, &extension(TCP, 0, &segment)))),
            Some(40 + 16 + 8 + 8 + 4),
        ),
        ("eight headers", chain(8, &segment), Some(40 + 64 + 4)),
        ("nine headers", chain(9, &segment), Some(40)),
        ("twelve headers", chain(12, &segment), Some(40)),
        ("twelve headers to the host", ip(f.client, f.other, DESTINATION_OPTIONS, &chain(12, &segment)[40..]), None),
        (
            "options before an error",
            to_vip(HOP_BY_HOP, extension(ICMPV6, 0, &icmp(1, &from_vip(TCP, tcp(443, 1))))),
            Some(48 + 8 + 44),
        ),
        ("options before echo", to_vip(DESTINATION_OPTIONS, extension(ICMPV6, 0, &icmp(128, b""))), None),
        ("options in the quote", error(&from_vip(DESTINATION_OPTIONS, extension(TCP, 1, &tcp(443, 1)))), Some(48 + 40 + 16 + 4)),
        (
            "every header in the quote, and one before the error",
            to_vip(
                DESTINATION_OPTIONS,
                extension(
                    ICMPV6,
                    0,
                    &icmp(
                        1,
                        &from_vip(
                            HOP_BY_HOP,
                            extension(
                                ROUTING,
                                0,
                                &extension(
                                    DESTINATION_OPTIONS,
                                    2,
                                    &extension(FRAGMENT, 0, &fragment6(TCP, 0, false, &tcp(443, 1))),
                                ),
                            ),
                        ),
                    ),
                ),
            ),
            Some(48 + 8 + 40 + 8 + 8 + 24 + 8 + 4),
        ),
        ("first fragment", to_vip(FRAGMENT, fragment6(TCP, 0, true, &segment)), Some(48)),
        ("first fragment of ssh", to_vip(FRAGMENT, fragment6(TCP, 0, true, &tcp(1, 22))), Some(48)),
        ("later fragment", to_vip(FRAGMENT, fragment6(TCP, 181, true, &segment)), Some(48)),
        ("last fragment", to_vip(FRAGMENT, fragment6(TCP, 0x1fff, false, &segment)), Some(48)),
        ("last fragment of a reply", ip(f.backend, f.snat, FRAGMENT, &fragment6(UDP, 1, false, b"rest")), Some(48)),
        ("fragment behind options", to_vip(HOP_BY_HOP, extension(FRAGMENT, 0, &fragment6(TCP, 1, false, &segment))), Some(56)),
        (
            "fragment of options: the protocol is in the first one only",
            to_vip(FRAGMENT, fragment6(DESTINATION_OPTIONS, 1, false, b"")),
            Some(48),
        ),
        ("fragment of UDP to a VIP that has none", to_vip(FRAGMENT, fragment6(UDP, 1, false, &segment)), None),
        ("fragment of echo", to_vip(FRAGMENT, fragment6(ICMPV6, 0, true, &icmp(128, b""))), None),
        ("fragment of TCP to the host", ip(f.client, f.other, FRAGMENT, &fragment6(TCP, 0, true, &segment)), None),
        ("whole packet with a fragment header, to a service", to_vip(FRAGMENT, fragment6(TCP, 0, false, &segment)), Some(52)),
        ("whole packet with a fragment header, ssh", to_vip(FRAGMENT, fragment6(TCP, 0, false, &tcp(1, 22))), None),
        ("error about a first fragment", error(&from_vip(FRAGMENT, fragment6(TCP, 0, true, &tcp(443, 1)))), Some(48 + 48 + 4)),
        ("error about a later fragment of a VIP", error(&from_vip(FRAGMENT, fragment6(TCP, 1, false, &tcp(443, 1)))), None),
        (
            "error about a later fragment to a backend",
            ip(f.backend, f.snat, ICMPV6, &icmp(3, &ip(f.snat, f.backend, FRAGMENT, &fragment6(UDP, 1, false, b"rest")))),
            Some(48 + 48),
        ),
        ("no next header", to_vip(59, segment.clone()), None),
        ("version 4", with_version(&to_vip(TCP, segment.clone()), 0x45), None),
        ("version 4 in the quote", error(&with_version(&from_vip(TCP, tcp(443, 1)), 0x45)), None),
    ]
}

/// VIPs that serve other protocols than TCP and UDP.
fn more_targets() -> Targets {
    let mut targets = targets();
    for family in [v4(), v6()] {
        let icmp = if family.header == 20 { Protocol::Icmp } else { Protocol::Icmpv6 };
        targets.services.insert((family.vip, Some(443), Protocol::Sctp));
        targets.services.extend([Protocol::Dccp, Protocol::Gre, icmp].map(|protocol| (family.vip, None, protocol)));
    }
    targets
}

fn more_protocols(f: &Family) -> Vec<Case> {
    const DCCP: u8 = 33;
    const GRE: u8 = 47;
    let [echo, reply] = if f.header == 20 { [8, 0] } else { [128, 129] };
    let (ports, message) = (Some(f.header + 4), Some(f.header + 8));
    let to = |destination, protocol, segment: &[u8]| ip(f.client, destination, protocol, segment);
    let error = |to: IpAddr, quote: &[u8]| ip(f.client, to, f.icmp, &icmp(f.errors[0], quote));
    let quoted = Some(2 * f.header + 8 + 4);
    vec![
        ("SCTP to a service", to(f.vip, SCTP, &tcp(50000, 443)), ports),
        ("SCTP to another port of it", to(f.vip, SCTP, &tcp(50000, 444)), None),
        ("SCTP to a VIP without it", to(f.all_ports_vip, SCTP, &tcp(50000, 443)), None),
        ("SCTP reply of a backend", ip(f.backend, f.snat, SCTP, &tcp(443, 1024)), ports),
        ("DCCP to any port", to(f.vip, DCCP, &tcp(50000, 9)), ports),
        ("DCCP reply of a backend", ip(f.backend, f.snat, DCCP, &tcp(9, 1024)), ports),
        ("GRE to a VIP", to(f.vip, GRE, &[0x20, 0, 8, 0, 0, 0, 0, 1]), ports),
        ("GRE to a VIP without it", to(f.all_ports_vip, GRE, &[0; 8]), None),
        ("GRE to the host", to(f.other, GRE, &[0; 8]), None),
        ("GRE of a backend", ip(f.backend, f.snat, GRE, &[0; 4]), ports),
        ("echo to a VIP that serves it", to(f.vip, f.icmp, &icmp(echo, b"abc")), message),
        ("echo to another VIP", to(f.all_ports_vip, f.icmp, &icmp(echo, b"abc")), None),
        ("echo to the host", to(f.other, f.icmp, &icmp(echo, b"abc")), None),
        ("echo to a SNAT address", ip(f.backend, f.snat, f.icmp, &icmp(echo, b"abc")), None),
        ("echo reply to a VIP", to(f.vip, f.icmp, &icmp(reply, b"abc")), None),
        ("echo reply of a backend", ip(f.backend, f.snat, f.icmp, &icmp(reply, b"abc")), message),
        ("echo reply to the host", ip(f.backend, f.other, f.icmp, &icmp(reply, b"abc")), None),
        ("timestamp or router solicitation", to(f.vip, f.icmp, &icmp(if echo == 8 { 13 } else { 133 }, b"abc")), None),
        ("error about an echo to a backend", error(f.snat, &ip(f.snat, f.backend, f.icmp, &icmp(echo, b""))), quoted),
        ("error about a reply of a VIP", error(f.vip, &ip(f.vip, f.client, f.icmp, &icmp(reply, b""))), quoted),
        ("error about an echo that a VIP's host sent", error(f.vip, &ip(f.vip, f.client, f.icmp, &icmp(echo, b""))), None),
        ("error about GRE", error(f.snat, &ip(f.snat, f.backend, GRE, &[0; 8])), quoted),
        ("error about SCTP of a service", error(f.vip, &ip(f.vip, f.client, SCTP, &tcp(443, 1))), quoted),
        ("error about SCTP of the host", error(f.vip, &ip(f.vip, f.client, SCTP, &tcp(444, 1))), None),
    ]
}

/// A VIP to which data connections of a helper come.
fn data_connections(f: &Family) -> Vec<Case> {
    let ports = Some(f.header + 4);
    let to = |destination, protocol, segment: &[u8]| ip(f.client, destination, protocol, segment);
    let error = |quote: &[u8]| ip(f.client, f.vip, f.icmp, &icmp(f.errors[0], quote));
    vec![
        ("TCP to the service", to(f.vip, TCP, &tcp(50000, 443)), ports),
        ("TCP to the first data port", to(f.vip, TCP, &tcp(50000, 1024)), ports),
        ("TCP to the last data port", to(f.vip, TCP, &tcp(50000, 65535)), ports),
        ("TCP to the port below", to(f.vip, TCP, &tcp(50000, 1023)), None),
        ("ssh to the VIP", to(f.vip, TCP, &tcp(50000, 22)), None),
        ("UDP to a data port", to(f.vip, UDP, &udp(50000, 1024)), None),
        ("TCP to a data port of another VIP", to(f.all_ports_vip, TCP, &tcp(50000, 1024)), None),
        ("error about a data connection", error(&ip(f.vip, f.client, TCP, &tcp(1024, 50000))), Some(2 * f.header + 8 + 4)),
        ("error about ssh", error(&ip(f.vip, f.client, TCP, &tcp(22, 50000))), None),
    ]
}

#[test]
fn each_packet_goes_where_it_belongs_also_when_cut_off() {
    let (targets, more) = (targets(), more_targets());
    let Some(mut loaded) = Loaded::with(&targets) else { return };
    let mut cases = 0;
    for (family, ether_type, special) in [(v4(), EtherType::IPV4, only_v4(&v4())), (v6(), EtherType::IPV6, only_v6(&v6()))] {
        let all = services(&family).into_iter().chain(icmp_errors(&family)).chain(special);
        cases += decide_all((&mut loaded, &targets), &family, ether_type, all);
    }
    assert!(cases > 140, "{cases}");
    let Some(mut loaded) = Loaded::with(&more) else { return };
    for (family, ether_type) in [(v4(), EtherType::IPV4), (v6(), EtherType::IPV6)] {
        decide_all((&mut loaded, &more), &family, ether_type, more_protocols(&family).into_iter());
    }
    let with_data = Targets { data: [v4().vip, v6().vip].into(), ..targets };
    let Some(mut loaded) = Loaded::with(&with_data) else { return };
    for (family, ether_type) in [(v4(), EtherType::IPV4), (v6(), EtherType::IPV6)] {
        decide_all((&mut loaded, &with_data), &family, ether_type, data_connections(&family).into_iter());
    }
}

/// Whether what is left of a packet ends before it can be told whose it is, at an address that serves its protocol, or may serve it.
fn ends_too_soon(targets: &Targets, packet: &[u8]) -> bool {
    let Some((address, protocol, transport)) = upper(packet, false) else { return false };
    if !is_own(targets, address) {
        return false;
    }
    let Some(protocol) = protocol else { return transport.is_empty() };
    let is_icmp = matches!(protocol, ICMPV4 | ICMPV6);
    if transport.len() < if is_icmp { 8 } else { 4 } {
        return serves(targets, address, protocol);
    }
    let errors = if address.is_ipv4() { v4().errors } else { v6().errors };
    let Some(quote) = transport.get(8..).filter(|_| is_icmp && errors.contains(&transport[0])) else { return false };
    if quote.len() < if address.is_ipv4() { 20 } else { 40 } {
        return true;
    }
    let Some((address, protocol, transport)) = upper(quote, true) else { return false };
    is_own(targets, address) && transport.len() < 4 && protocol.is_none_or(|protocol| serves(targets, address, protocol))
}

/// Destination (or source), protocol (`None`: it comes behind the end) and transport of a packet that has a right IP header and is no
/// fragment.
fn upper(packet: &[u8], source: bool) -> Option<(IpAddr, Option<u8>, &[u8])> {
    let address = |at: usize, length: usize| &packet[if source { at } else { at + length }..][..length];
    if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[0] & 0xf >= 5 {
        let address = <[u8; 4]>::try_from(address(12, 4)).unwrap();
        let transport = packet.get(usize::from(packet[0] & 0xf) * 4..).unwrap_or(&[]);
        let is_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
        return (!is_fragment || source && packet[6] & 0x1f == 0 && packet[7] == 0).then_some((
            address.into(),
            Some(packet[9]),
            transport,
        ));
    }
    if packet.len() < 40 || packet[0] >> 4 != 6 {
        return None;
    }
    let (owner, mut next, mut rest) = (<[u8; 16]>::try_from(address(8, 16)).unwrap(), packet[6], &packet[40..]);
    while matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
        let Some(header) = rest.get(..8) else { return Some((owner.into(), None, &[])) };
        if next == FRAGMENT && u16::from_be_bytes([header[2], header[3]]) & if source { 0xfff8 } else { 0xfff9 } != 0 {
            return None;
        }
        let length = if next == FRAGMENT { 8 } else { (usize::from(header[1]) + 1) * 8 };
        (next, rest) = (header[0], rest.get(length..).unwrap_or(&[]));
    }
    Some((owner.into(), Some(next), rest))
}

fn is_own(targets: &Targets, address: IpAddr) -> bool {
    targets.snat.contains(&address) || targets.services.iter().any(|(vip, ..)| *vip == address)
}

/// Replies come to a SNAT address: those of TCP and UDP, and of what there is a service of.
fn serves(targets: &Targets, address: IpAddr, protocol: u8) -> bool {
    let of = |vip: &IpAddr, served: &Protocol| vip.is_ipv4() == address.is_ipv4() && served.number() == protocol;
    let is_vip = targets.services.iter().any(|(vip, _, served)| *vip == address && served.number() == protocol);
    let is_served = matches!(protocol, TCP | UDP) || targets.services.iter().any(|(vip, _, served)| of(vip, served));
    is_vip || targets.snat.contains(&address) && is_served
}

/// Each case, whole and cut off at every byte, with a tag and without; how many there were.
fn decide_all(
    (loaded, targets): (&mut Loaded, &Targets),
    family: &Family,
    ether_type: EtherType,
    cases: impl Iterator<Item = Case>,
) -> usize {
    let mut count = 0;
    for (name, packet, needed) in cases {
        count += 1;
        for tags in [&[][..], &[100]] {
            let whole = frame(ether_type, tags, &packet);
            let link = whole.len() - packet.len();
            // The kernel takes no test frame shorter than an Ethernet header.
            for length in 14..=whole.len() {
                let ours = needed.is_some_and(|needed| length >= link + needed)
                    || ends_too_soon(targets, &whole[link.min(length)..length]);
                let expected = if ours { Decision::Ours } else { Decision::Kernels };
                let at = format!("{name}: {} with tags {tags:?}, cut at {length} of {}", family.vip, whole.len());
                assert_eq!(loaded.decide(&whole[..length]), expected, "{at}");
            }
        }
    }
    count
}

#[test]
fn other_protocols_and_tags_are_the_kernel_s() {
    let Some(mut loaded) = Loaded::with(&targets()) else { return };
    let packet = ip(v4().client, v4().vip, TCP, &tcp(50000, 443));
    let arp = [0; 28];
    for (name, frame) in [
        ("ARP", frame(EtherType::ARP, &[], &arp)),
        ("ARP in a VLAN", frame(EtherType::ARP, &[1], &arp)),
        ("two tags", frame(EtherType::IPV4, &[1, 2], &packet)),
        ("802.1ad", frame(EtherType::PROVIDER_BRIDGING, &[], &[&[0, 5, 8, 0], packet.as_slice()].concat())),
        ("IPv4 that calls itself IPv6", frame(EtherType::IPV6, &[], &packet)),
        ("LLDP", frame(EtherType(0x88cc), &[], &packet)),
    ] {
        assert_eq!(loaded.decide(&frame), Decision::Kernels, "{name}");
    }
    assert_eq!(loaded.decide(&frame(EtherType::IPV4, &[4094], &packet)), Decision::Ours);
}

#[test]
fn what_is_ours_is_redirected_to_the_socket_of_its_queue() {
    let Some(mut loaded) = Loaded::with(&targets()) else { return };
    let request = frame(EtherType::IPV4, &[], &ip(v4().client, v4().vip, TCP, &tcp(50000, 443)));
    let ssh = frame(EtherType::IPV4, &[], &ip(v4().client, v4().vip, TCP, &tcp(50000, 22)));
    let socket = socket2::Socket::new(libc::AF_XDP.into(), libc::SOCK_RAW.into(), None).unwrap();

    // Test frames come in on queue 0.
    loaded.maps.set_socket(1, socket.as_fd()).unwrap();
    assert_eq!(loaded.run(&request), XDP_PASS);
    loaded.maps.set_socket(0, socket.as_fd()).unwrap();
    assert_eq!(loaded.run(&request), XDP_REDIRECT);
    assert_eq!(loaded.run(&ssh), XDP_PASS);
    assert_eq!(loaded.maps.counters().unwrap(), SteerCounters { redirected: 1, unserved: 1, passed: 1 });

    // The kernel empties the slot of a socket that is closed.
    drop(socket);
    assert_eq!(loaded.run(&request), XDP_PASS);
    assert_eq!(loaded.maps.counters().unwrap(), SteerCounters { redirected: 1, unserved: 2, passed: 1 });
}

#[test]
fn queues_beyond_the_map_are_refused() {
    let Some(mut loaded) = Loaded::new() else { return };
    let socket = socket2::Socket::new(libc::AF_XDP.into(), libc::SOCK_RAW.into(), None).unwrap();
    loaded.maps.set_socket(MAX_QUEUES - 1, socket.as_fd()).unwrap();
    let error = loaded.maps.set_socket(MAX_QUEUES, socket.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "queue 256: only queues 0 to 255 can be served");
}

#[test]
fn new_targets_replace_the_old_ones() {
    let Some(mut loaded) = Loaded::with(&targets()) else { return };
    let to = |destination: &str, port: u16| {
        let destination = address(destination);
        let (client, ether_type) =
            if destination.is_ipv4() { (v4().client, EtherType::IPV4) } else { (v6().client, EtherType::IPV6) };
        frame(ether_type, &[], &ip(client, destination, TCP, &tcp(50000, port)))
    };
    let mut decide = |targets: &Targets, frames: &[Vec<u8>]| {
        loaded.maps.apply(Entries::new(targets).unwrap()).unwrap();
        frames.iter().map(|frame| loaded.decide(frame)).collect::<Vec<_>>()
    };
    use Decision::{Kernels, Ours};
    let frames =
        [to("10.0.0.100", 443), to("10.0.0.100", 22), to("10.0.0.200", 9), to("2001:db8::100", 443), to("2001:db8::200", 9)];

    assert_eq!(decide(&targets(), &frames), [Ours, Kernels, Ours, Ours, Ours]);
    let all_ports = [service("10.0.0.100", None, Protocol::Tcp), service("2001:db8::100", 22, Protocol::Tcp)];
    let second = Targets { services: all_ports.into(), snat: [address("2001:db8::200")].into(), ..Targets::default() };
    assert_eq!(decide(&second, &frames), [Ours, Ours, Kernels, Kernels, Ours]);
    assert_eq!(decide(&Targets::default(), &frames), [Kernels; 5]);
    assert_eq!(decide(&targets(), &frames), [Ours, Kernels, Ours, Ours, Ours]);
}

#[test]
fn a_service_that_stays_is_steered_all_through_a_reload() {
    let one = Targets { services: [service("10.0.0.100", 443, Protocol::Tcp)].into(), ..Targets::default() };
    let mut many = one.clone();
    many.services.extend((1..1000).map(|port| (address("10.0.0.100"), Some(port), Protocol::Udp)));
    many.snat.insert(address("10.0.0.100"));
    let all_ports = Targets { services: [service("10.0.0.100", None, Protocol::Tcp)].into(), ..Targets::default() };
    let Some(Loaded { mut ebpf, mut maps }) = Loaded::with(&one) else { return };
    let request = frame(EtherType::IPV4, &[], &ip(v4().client, v4().vip, TCP, &tcp(50000, 443)));

    let mut sent = 0;
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| {
            for _ in 0..20 {
                for targets in [&many, &all_ports, &one] {
                    maps.apply(Entries::new(targets).unwrap()).unwrap();
                }
            }
        });
        while !reload.is_finished() {
            assert_eq!(run(&mut ebpf, &request), XDP_PASS);
            sent += 1;
        }
        reload.join().unwrap();
    });
    assert_eq!(maps.counters().unwrap(), SteerCounters { redirected: 0, unserved: sent, passed: 0 });
}

#[test]
fn more_targets_than_the_maps_hold_change_nothing() {
    let ports = |count: usize| {
        let services = (0..count).map(|index| {
            let vip = address(&format!("10.0.{}.1", index >> 14));
            (vip, Some((index & 0x3fff) as u16), Protocol::Tcp)
        });
        Targets { services: services.collect(), ..Targets::default() }
    };
    let error = Entries::new(&ports(MAX_SERVICES + 1)).unwrap_err();
    assert!(matches!(error, XdpError::TooMany { what: "services", count: 16_385, limit: 16_384 }), "{error}");
    // A full config can be replaced by a wholly different full one.
    let Some(mut loaded) = Loaded::with(&ports(MAX_SERVICES)) else { return };
    let mut other = Targets::default();
    other.services.extend((0..MAX_SERVICES).map(|port| (address("10.9.9.9"), Some(port as u16), Protocol::Udp)));
    loaded.maps.apply(Entries::new(&other).unwrap()).unwrap();
    let request = frame(EtherType::IPV4, &[], &ip(v4().client, address("10.9.9.9"), UDP, &udp(1, 16_383)));
    assert_eq!(loaded.decide(&request), Decision::Ours);
}

#[test]
fn frames_to_all_on_the_link_stay_with_the_kernel() {
    let Some(mut loaded) = Loaded::with(&targets()) else { return };
    for family in [v4(), v6()] {
        let ether_type = if family.vip.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut request = frame(ether_type, &[], &ip(family.client, family.vip, TCP, &tcp(50000, 443)));
        assert_eq!(loaded.decide(&request), Decision::Ours);
        for group in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            request[..6].copy_from_slice(&group);
            assert_eq!(loaded.decide(&request), Decision::Kernels, "{group:02x?}");
        }
    }
}
