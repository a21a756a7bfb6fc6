//! Packets that go on, in both directions.

use super::packet::{ACK, FIN_ACK, PSH_ACK, Packet, RST, RST_ACK, SYN, SYN_ACK, Transport, tcp, udp};
use super::world::{BACK, FAMILIES, FRONT, Family, GATEWAY_MAC, Setup, World, peer_mac};
use etherparse::{Ipv6Extensions, Ipv6FragmentHeader, Ipv6RawExtHeader, Ipv6RoutingExtensions};
use weir::conntrack::{Direction, TcpState};
use weir::service::Protocol;

#[test]
fn a_tcp_connection_from_syn_to_last_ack() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        world.comes_back(&tcp(backend, snat, SYN_ACK), vip, client);
        world.goes_on(&tcp(client, vip, ACK), snat, backend);
        world.goes_on(&tcp(client, vip, PSH_ACK).carrying(b"GET / HTTP/1.1\r\n\r\n"), snat, backend);
        world.comes_back(&tcp(backend, snat, PSH_ACK).carrying(b"HTTP/1.1 200 OK\r\n"), vip, client);
        world.comes_back(&tcp(backend, snat, FIN_ACK), vip, client);
        world.goes_on(&tcp(client, vip, ACK), snat, backend);
        world.goes_on(&tcp(client, vip, FIN_ACK), snat, backend);
        world.comes_back(&tcp(backend, snat, ACK), vip, client);

        let (view, direction) = world.find(Protocol::Tcp, client, vip).unwrap();
        assert_eq!((view.tcp_state, direction), (Some(TcpState::TimeWait), Direction::Original));
        assert_eq!(view.account.map(|account| account.packets), Some([5, 4]));
        let (reply, direction) = world.find(Protocol::Tcp, backend, snat).unwrap();
        assert_eq!((reply, direction), (view, Direction::Reply), "both tuples lead to it");
        assert_eq!(world.datapath.conntrack.count(), 1);
    }
}

#[test]
fn resets_pass_and_close() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        for (from_client, flags) in [(true, RST), (true, RST_ACK), (false, RST), (false, RST_ACK)] {
            let mut world = World::default();
            let snat = world.established(client, vip, backend);
            if from_client {
                world.goes_on(&tcp(client, vip, flags), snat, backend);
            } else {
                world.comes_back(&tcp(backend, snat, flags), vip, client);
            }
            assert_eq!(world.find(Protocol::Tcp, client, vip).unwrap().0.tcp_state, Some(TcpState::Close));
        }
        let mut world = World::default();
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        world.comes_back(&tcp(backend, snat, RST_ACK), vip, client);
    }
}

#[test]
fn udp_both_ways() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.opens(&udp(client, vip), backend);
        assert!(!world.find(Protocol::Udp, client, vip).unwrap().0.seen_reply);
        world.goes_on(&udp(client, vip).carrying(b""), snat, backend);
        world.comes_back(&udp(backend, snat).carrying(&[7; 1000]), vip, client);
        assert!(world.find(Protocol::Udp, client, vip).unwrap().0.seen_reply);
    }
}

#[test]
fn the_same_ports_over_tcp_and_udp_are_two_connections() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let over_tcp = world.opens(&tcp(client, vip, SYN), backend);
    let over_udp = world.opens(&udp(client, vip), backend);
    world.comes_back(&udp(backend, over_udp), vip, client);
    world.comes_back(&tcp(backend, over_tcp, SYN_ACK), vip, client);
    assert_eq!(world.datapath.conntrack.count(), 2);
}

#[test]
fn a_service_on_every_port_keeps_the_port() {
    for family in FAMILIES {
        let mut world = World::default();
        for port in [1, 80, 443, 65535] {
            let (client, vip) = (family.client(), family.any_port_vip(port));
            let mut backend = family.backend();
            backend.set_port(port);
            let snat = world.established(client, vip, backend);
            world.comes_back(&tcp(backend, snat, ACK), vip, client);
        }
    }
}

#[test]
fn every_connection_has_its_own_port() {
    for family in FAMILIES {
        let mut world = World::default();
        let mut taken = std::collections::HashSet::new();
        for port in 1..=200 {
            let mut client = family.client();
            client.set_port(port);
            let snat = world.opens(&tcp(client, family.vip(), SYN), family.backend());
            assert!(taken.insert(snat), "{snat} twice");
            world.comes_back(&tcp(family.backend(), snat, SYN_ACK), family.vip(), client);
        }
    }
}

#[test]
fn a_retransmitted_syn_keeps_its_port() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let snat = world.opens(&tcp(client, vip, SYN), backend);
    world.goes_on(&tcp(client, vip, SYN), snat, backend);
    assert_eq!(world.datapath.conntrack.count(), 1);
}

#[test]
fn replies_go_through_the_gateway_of_far_clients() {
    for family in FAMILIES {
        let mut world = World::default();
        let (client, vip, backend) = (family.far_client(), family.vip(), family.backend());
        let snat = world.opens(&tcp(client, vip, SYN), backend);
        world.translates(&tcp(backend, snat, SYN_ACK), BACK, (vip, client), FRONT, GATEWAY_MAC);
    }
}

#[test]
fn one_arm_sends_back_by_the_port_it_came_in_by() {
    for family in FAMILIES {
        let mut world = World::new(Setup { one_arm: true, ..Default::default() });
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let snat = world.established(client, vip, backend);
        world.translates(&tcp(backend, snat, PSH_ACK).carrying(b"hello"), FRONT, (vip, client), FRONT, peer_mac(FRONT));
    }
}

#[test]
fn tcp_options_and_padding_are_left_alone() {
    for family in FAMILIES {
        let mut world = World::default();
        let options = vec![2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        let mut syn = tcp(family.client(), family.vip(), SYN);
        syn.transport = Transport::Tcp { flags: SYN | 0xc0, sequence: 7, acknowledgment: 0, options };
        syn.padding = 6;
        world.opens(&syn, family.backend());
    }
}

#[test]
fn ip_options_pass() {
    let mut world = World::default();
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    for (port, options) in [(1, &[148, 4, 0, 0][..]), (2, &[1, 1, 1, 0]), (3, &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])] {
        let mut client = client;
        client.set_port(port);
        let snat = world.opens(&tcp(client, vip, SYN).with_options(options), backend);
        world.comes_back(&tcp(backend, snat, SYN_ACK).with_options(options), vip, client);
        world.goes_on(&tcp(client, vip, ACK).with_options(options).carrying(b"data"), snat, backend);
    }
}

#[test]
fn ipv6_extension_headers_pass() {
    let (client, vip, backend) = (Family::V6.client(), Family::V6.vip(), Family::V6.backend());
    let options = |units: u8| Ipv6RawExtHeader::new_raw(0.into(), &vec![0; 6 + usize::from(units) * 8]).unwrap();
    let routing = Ipv6RoutingExtensions { routing: options(2), final_destination_options: Some(options(0)) };
    let atomic = Ipv6FragmentHeader::new(0.into(), 0.try_into().unwrap(), false, 9);
    for extensions in [
        Ipv6Extensions { hop_by_hop_options: Some(options(0)), ..Default::default() },
        Ipv6Extensions { destination_options: Some(options(3)), ..Default::default() },
        Ipv6Extensions { routing: Some(routing.clone()), ..Default::default() },
        Ipv6Extensions { fragment: Some(atomic.clone()), ..Default::default() },
        Ipv6Extensions {
            hop_by_hop_options: Some(options(1)),
            routing: Some(routing),
            fragment: Some(atomic),
            ..Default::default()
        },
    ] {
        let mut world = World::default();
        let with = |packet: Packet| Packet { extensions: extensions.clone(), ..packet };
        let snat = world.opens(&with(tcp(client, vip, SYN)), backend);
        world.comes_back(&with(tcp(backend, snat, SYN_ACK)), vip, client);
        world.goes_on(&with(tcp(client, vip, ACK)).carrying(b"data"), snat, backend);
        let snat = world.opens(&with(udp(client, vip)), backend);
        world.comes_back(&with(udp(backend, snat)), vip, client);
    }
}

#[test]
fn a_whole_burst_of_both_families_is_translated_each_by_itself() {
    let mut world = World::default();
    let frames: Vec<_> = (1..=150u16)
        .map(|port| {
            let family = FAMILIES[usize::from(port % 2)];
            let mut client = family.client();
            client.set_port(port);
            world.arriving(FRONT, &tcp(client, family.vip(), SYN)).frame()
        })
        .collect();
    let fates = world.burst(FRONT, &frames);
    assert!(fates.iter().all(|(fate, _)| *fate == weir::datapath::Fate::Transmit(BACK)));
    let sent = world.take_sent(BACK);
    assert_eq!(sent.len(), 150);
    for (before, after) in frames.iter().zip(&sent) {
        assert_eq!(before.len(), after.len());
        let (l3, addresses) = if before[12..14] == [8, 0] { (14, 26..34) } else { (14, 22..54) };
        assert_eq!(before[l3], after[l3]);
        assert_ne!(before[addresses.clone()], after[addresses]);
    }
    assert_eq!(world.datapath.conntrack.count(), 150);
}

/// A backend that is a client of its own service gets its own packets, from the SNAT address.
#[test]
fn a_backend_may_be_its_own_client() {
    for family in FAMILIES {
        let mut world = World::default();
        let (mut client, vip, backend) = (family.backend(), family.vip(), family.backend());
        client.set_port(5555);
        let frame = world.arriving(BACK, &tcp(client, vip, SYN)).frame();
        assert_eq!(world.burst(BACK, &[frame])[0].0, weir::datapath::Fate::Transmit(BACK));
        let snat = world.find(Protocol::Tcp, client, vip).unwrap().0.reply.destination;
        assert_eq!(world.take_sent(BACK).len(), 1);
        world.translates(&tcp(backend, snat, SYN_ACK), BACK, (vip, client), BACK, peer_mac(BACK));
        world.translates(&tcp(client, vip, ACK), BACK, (snat, backend), BACK, peer_mac(BACK));
    }
}
