//! Packets that end here, each for one reason, leaving nothing behind.

use super::packet::{ACK, FIN_ACK, PSH_ACK, Packet, RST, SYN, SYN_ACK, icmp, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World, is_tcp};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use weir::datapath::{DropReason, Fate, Preview};
use weir::service::Protocol;

fn address(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// The packet, sent to the clients' side of a fresh weir, ends for this reason and opens nothing.
fn refused(packet: &Packet, reason: DropReason) {
    let mut world = World::default();
    world.drops(FRONT, packet, reason);
    assert_eq!(world.datapath.conntrack.count(), 0);
}

#[test]
fn what_no_service_is_for() {
    for family in FAMILIES {
        let (client, vip) = (family.client(), family.vip());
        let mut other = vip;
        other.set_port(81);
        refused(&tcp(client, other, SYN), DropReason::NoService);
        refused(&udp(client, other), DropReason::NoService);
        refused(&tcp(client, SocketAddr::new(family.snat(), 20000), SYN), DropReason::NoService);
        refused(&tcp(client, family.backend(), SYN), DropReason::NoService);
    }
}

#[test]
fn tcp_that_opens_nothing() {
    for family in FAMILIES {
        for flags in [ACK, PSH_ACK, FIN_ACK, RST, SYN_ACK] {
            refused(&tcp(family.client(), family.vip(), flags), DropReason::TcpNotSyn);
        }
        for flags in [0, 0x01, 0x03, 0x06, 0x0f, 0x13, 0x15, 0x16, 0x20, 0x3f] {
            refused(&tcp(family.client(), family.vip(), flags), DropReason::TcpFlags);
        }
    }
}

#[test]
fn tcp_that_the_state_does_not_allow() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let mut world = World::default();
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        for flags in [ACK, PSH_ACK, FIN_ACK, SYN_ACK] {
            world.drops(FRONT, &tcp(client, vip, flags), DropReason::TcpInvalid);
        }
        world.drops(BACK, &tcp(backend, snat, FIN_ACK), DropReason::TcpInvalid);
        world.comes_back(&tcp(backend, snat, SYN_ACK), vip, client);
        world.drops(BACK, &tcp(backend, snat, SYN), DropReason::TcpInvalid);
    }
}

/// `weir explain` says the same.
#[track_caller]
fn foreseen(source: SocketAddr, destination: SocketAddr, reason: DropReason) {
    let world = World::default();
    let preview = world.datapath.preview(Protocol::Tcp, source, destination, world.now);
    assert!(matches!(preview, Preview::Dropped(found) if found == reason), "{source}: {preview:?}");
}

#[test]
fn bad_addresses_and_ports() {
    let vip = Family::V4.vip();
    for source in ["0.0.0.0:1", "127.0.0.1:1", "224.0.0.1:1", "255.255.255.255:1", "240.1.2.3:1"] {
        refused(&tcp(address(source), vip, SYN), DropReason::MartianSource);
        refused(&udp(address(source), vip), DropReason::MartianSource);
        foreseen(address(source), vip, DropReason::MartianSource);
    }
    for source in ["[::]:1", "[::1]:1", "[ff02::1]:1", "[::ffff:192.0.2.1]:1"] {
        refused(&udp(address(source), Family::V6.vip()), DropReason::MartianSource);
        foreseen(address(source), Family::V6.vip(), DropReason::MartianSource);
    }
    foreseen(SocketAddr::new(vip.ip(), 1), vip, DropReason::OwnSource);
    for family in FAMILIES {
        let (client, vip) = (family.client(), family.vip());
        let zero = |mut address: SocketAddr| {
            address.set_port(0);
            address
        };
        for packet in [tcp(zero(client), vip, SYN), tcp(client, zero(vip), SYN), udp(zero(client), vip), udp(client, zero(vip))] {
            refused(&packet, DropReason::PortZero);
        }
        // LAND: to itself.
        refused(&tcp(vip, vip, SYN), DropReason::OwnSource);
        refused(&udp(SocketAddr::new(vip.ip(), 5), vip), DropReason::OwnSource);
        // From another of weir's own addresses.
        for own in [family.snat(), family.any_port_vip(1).ip()] {
            refused(&tcp(SocketAddr::new(own, 1234), vip, SYN), DropReason::OwnSource);
            refused(&udp(SocketAddr::new(own, 1234), vip), DropReason::OwnSource);
        }
    }
}

#[test]
fn from_an_address_of_the_machine() {
    for family in FAMILIES {
        let mut world = World::default();
        let forged = tcp(family.client(), family.vip(), SYN);
        world.datapath.next_hops.set_locals([family.second_backend().ip(), family.client().ip()], []);
        world.drops(FRONT, &forged, DropReason::OwnSource);
        // The address has gone to another machine.
        world.datapath.next_hops.set_locals([family.second_backend().ip()], []);
        world.opens(&forged, family.backend());
    }
}

#[test]
fn from_the_broadcast_address_of_a_prefix() {
    let mut world = World::default();
    let forged = [tcp(Family::V4.client(), Family::V4.vip(), SYN), udp(Family::V4.client(), Family::V4.vip())];
    world.datapath.next_hops.set_locals([], [Family::V4.second_backend().ip(), Family::V4.client().ip()]);
    forged.iter().for_each(|packet| world.drops(FRONT, packet, DropReason::MartianSource));
    world.datapath.next_hops.set_locals([], []);
    for packet in &forged {
        world.opens(packet, Family::V4.backend());
    }
}

#[test]
fn bad_ip_headers() {
    let (client, vip) = (Family::V4.client(), Family::V4.vip());
    for kind in [131, 137] {
        let route = [kind, 7, 4, 10, 2, 0, 11, 0];
        refused(&tcp(client, vip, SYN).with_options(&route), DropReason::IpSourceRoute);
    }
    refused(&tcp(client, vip, SYN).with_options(&[148, 9, 0, 0]), DropReason::IpOptions);

    let changed = |family: Family, at: usize, byte: u8, reason: DropReason| {
        let mut world = World::default();
        let mut frame = world.arriving(FRONT, &tcp(family.client(), family.vip(), SYN)).frame();
        frame[at] = byte;
        let outcome = world.send(FRONT, &frame);
        assert_eq!(outcome.fate, Fate::Drop(reason));
        assert_eq!(outcome.moved.keys().collect::<Vec<_>>(), ["bursts", &format!("drop {}", reason.label()), "rx", "rx_bytes"]);
    };
    changed(Family::V4, 14, 0x65, DropReason::IpVersion);
    changed(Family::V6, 14, 0x45, DropReason::IpVersion);
    changed(Family::V4, 14, 0x44, DropReason::IpHeaderLength);
    changed(Family::V4, 22, 63, DropReason::IpHeaderChecksum);
    changed(Family::V4, 24, 0x00, DropReason::IpHeaderChecksum);
    changed(Family::V6, 19, 21, DropReason::IpTotalLength);
    changed(Family::V4, 13, 0x06, DropReason::NotIp);
    changed(Family::V6, 20, 59, DropReason::UnknownProtocol);
    changed(Family::V6, 20, 131, DropReason::UnknownProtocol);
    changed(Family::V4, 46, 0x40, DropReason::TcpHeaderLength);
    changed(Family::V6, 66, 0xf0, DropReason::TcpHeaderLength);
}

#[test]
fn icmp_that_belongs_to_no_connection() {
    for kind in [5, 13, 14, 128] {
        refused(&icmp(Family::V4.client(), Family::V4.vip(), kind), DropReason::IcmpUnrelated);
    }
    for kind in [135, 137, 200] {
        refused(&icmp(Family::V6.client(), Family::V6.vip(), kind), DropReason::IcmpUnrelated);
    }
    // Echoes are for a service.
    for (family, kinds) in [(Family::V4, [8, 0]), (Family::V6, [128, 129])] {
        for kind in kinds {
            refused(&icmp(family.client(), family.vip(), kind), DropReason::NoService);
        }
    }
    // What they quote is no packet. Errors that are worth more stand in related.rs.
    for (family, kinds) in [(Family::V4, [3, 4, 11, 12]), (Family::V6, [1, 2, 3, 4])] {
        for kind in kinds {
            refused(&icmp(family.client(), family.vip(), kind), DropReason::IcmpQuote);
        }
    }
}

#[test]
fn sources_that_a_service_is_not_for() {
    for family in FAMILIES {
        let (client, vip) = (family.client(), family.vip());
        let lists = |allow: &[IpAddr], deny: &[IpAddr]| Setup {
            allow: allow.iter().map(|address| IpNet::from(*address)).collect(),
            deny: deny.iter().map(|address| IpNet::from(*address)).collect(),
            ..Setup::default()
        };
        for packet in [tcp(client, vip, SYN), udp(client, vip), tcp(client, vip, ACK)] {
            for setup in [lists(&[], &[client.ip()]), lists(&[family.backend().ip()], &[])] {
                let mut world = World::new(setup);
                world.drops(FRONT, &packet, DropReason::AccessDenied);
                assert_eq!(world.datapath.conntrack.count(), 0);
            }
        }
        World::new(lists(&[client.ip()], &[])).opens(&tcp(client, vip, SYN), family.backend());
        World::new(lists(&[], &[family.backend().ip()])).opens(&tcp(client, vip, SYN), family.backend());
    }
}

#[test]
fn no_backend_takes_connections() {
    for family in FAMILIES {
        for packet in [tcp(family.client(), family.vip(), SYN), udp(family.client(), family.vip())] {
            let mut world = World::default();
            world.set_backends(|member| member.set_weight(0));
            world.drops(FRONT, &packet, DropReason::NoBackend);
            world.set_backends(|member| {
                member.set_weight(1);
                member.set_eligible(false);
            });
            world.drops(FRONT, &packet, DropReason::NoBackend);
            world.set_backends(|member| member.set_eligible(true));
            let snat = world.opens(&packet, family.backend());
            // What is open stays so when its backend takes no more.
            world.set_backends(|member| member.set_weight(0));
            let flags = if is_tcp(&packet) { tcp(family.backend(), snat, SYN_ACK) } else { udp(family.backend(), snat) };
            world.comes_back(&flags, family.vip(), family.client());
        }
    }
}

#[test]
fn no_way_to_go() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        // The backend's neighbour is unknown: nothing is opened, and once it is known the same packet goes on.
        let mut world = World::default();
        world.datapath.next_hops.clear_neighbour(backend.ip(), BACK, 0);
        world.waits(FRONT, &tcp(client, vip, SYN), (BACK, backend.ip()));
        assert_eq!(world.datapath.conntrack.count(), 0);
        let hop = weir::datapath::NextHop { mac: [2, 9, 9, 9, 9, 9], port: BACK, vlan: 0 };
        world.datapath.next_hops.set_neighbour(backend.ip(), hop);
        let fates = world.burst(FRONT, &[world.arriving(FRONT, &tcp(client, vip, SYN)).frame()]);
        assert_eq!(fates[0].0, Fate::Transmit(BACK));
        assert_eq!(world.take_sent(BACK)[0][..6], hop.mac);

        // The client's gateway goes away while its connection lives.
        let mut world = World::default();
        let snat = world.opens(&udp(family.far_client(), vip), backend);
        world.datapath.next_hops.clear_neighbour(family.gateway(), FRONT, 0);
        world.waits(BACK, &udp(backend, snat), (FRONT, family.gateway()));

        // Its route goes.
        world.datapath.next_hops.set_routes(weir::datapath::Routes::default());
        world.drops(BACK, &udp(backend, snat), DropReason::NoRoute);
        world.drops(FRONT, &udp(family.far_client(), vip), DropReason::NoRoute);
        world.drops(FRONT, &udp(client, vip), DropReason::NoRoute);

        // The interface goes down.
        let mut world = World::default();
        let snat = world.opens(&udp(client, vip), backend);
        world.datapath.next_hops.port(BACK).set([0; 6], 0);
        world.drops(FRONT, &udp(client, vip), DropReason::PortDown);
        world.comes_back(&udp(backend, snat), vip, client);
    }
}

#[test]
fn a_cut_frame_is_dropped_at_every_byte() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip) = (family.client(), family.vip());
        for packet in [
            tcp(client, vip, SYN).carrying(b"early data"),
            udp(client, vip),
            udp(client, vip).on_vlan(5),
            tcp(client, vip, SYN).with_options(if family == Family::V4 { &[148, 4, 0, 0] } else { &[] }),
        ] {
            let frame = world.arriving(FRONT, &packet).frame();
            for length in 0..frame.len() {
                let outcome = world.send(FRONT, &frame[..length]);
                let Fate::Drop(reason) = outcome.fate else { panic!("{length} bytes of {packet:?}: {outcome:?}") };
                assert_eq!(outcome.moved.get(&format!("drop {}", reason.label())), Some(&1));
                assert_eq!(outcome.moved.get("bursts"), Some(&1));
                assert_eq!(outcome.moved.get("rx"), Some(&1));
                assert_eq!(outcome.moved.len(), if length == 0 { 3 } else { 4 }, "{:?}", outcome.moved);
            }
        }
        assert_eq!(world.datapath.conntrack.count(), 0);
    }
}

#[test]
fn a_cut_frame_of_a_connection_leaves_it_as_it_was() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip) = (family.client(), family.vip());
        world.established(client, vip, family.backend());
        let before = world.find(weir::service::Protocol::Tcp, client, vip);
        let frame = world.arriving(FRONT, &tcp(client, vip, RST).carrying(b"data")).frame();
        for length in 0..frame.len() {
            assert!(matches!(world.send(FRONT, &frame[..length]).fate, Fate::Drop(_)));
        }
        assert_eq!(world.find(weir::service::Protocol::Tcp, client, vip), before);
    }
}
