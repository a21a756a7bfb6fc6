//! Timeouts of a service of its own, and connections without an end whose backend is gone.

use super::packet::{Checksum, PSH_ACK, SYN, tcp, udp};
use super::transports::{Crc, Other, gre, init, request, sctp};
use super::world::{BACK, FAMILIES, FRONT, Family, Setup, World};
use super::{packet::Packet, packet::Transport};
use std::net::SocketAddr;
use weir::conntrack::l4proto::{Settings, Verify};
use weir::conntrack::{TimeoutPolicy, Timeouts};
use weir::datapath::DropReason;
use weir::service::Protocol;

fn with(policy: impl Into<TimeoutPolicy>) -> World {
    World::new(Setup { policy: policy.into(), all_protocols: true, ..Setup::default() })
}

#[test]
fn a_service_has_timeouts_of_its_own() {
    let common = Timeouts { udp: 5000, ..Timeouts::default() };
    for family in FAMILIES {
        let named = World::default();
        let services = named.datapath.snapshot.load();
        let service = services.services.find(family.vip().ip(), 80, Protocol::Udp).unwrap().id.0;
        let own = Timeouts { udp: 9000, ..common };
        let mut world =
            World::new(Setup { policy: TimeoutPolicy::new(common, &[(service, own)], Vec::new(), &["udp"]), ..Setup::default() });
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let elsewhere = family.any_port_vip(80);
        world.opens(&udp(client, vip), backend);
        world.opens(&udp(client, elsewhere), SocketAddr::new(backend.ip(), 80));
        assert_eq!(world.find(Protocol::Udp, client, vip).unwrap().0.timeout, 9000);
        assert_eq!(world.find(Protocol::Udp, client, elsewhere).unwrap().0.timeout, 5000);
        world.pass(5000);
        assert_eq!(world.sweep().iter().map(|view| view.original.destination).collect::<Vec<_>>(), [elsewhere]);
        world.pass(4000);
        assert_eq!(world.sweep().len(), 1);
    }
}

#[test]
fn the_shortest_timeout_is_that_of_a_protocol_in_use() {
    let common = Timeouts { udp: 5000, icmp: 7, ..Timeouts::default() };
    assert_eq!(TimeoutPolicy::new(common, &[], Vec::new(), &["udp"]).shortest(), 5000);
    assert_eq!(TimeoutPolicy::new(common, &[(3, Timeouts { udp: 400, ..common })], Vec::new(), &["udp", "tcp"]).shortest(), 400);
    assert_eq!(TimeoutPolicy::new(common, &[], Vec::new(), &["icmp"]).shortest(), 7);
    assert_eq!(TimeoutPolicy::new(common, &[], Vec::new(), &["icmpv6"]).shortest(), 30_000);
}

/// Second by second for so long: a packet of the client, one of the backend if it answers, and a sweep.
fn go_on(world: &mut World, seconds: u32, packets: (&Packet, Option<&Packet>)) {
    for _ in 0..seconds {
        world.pass(1000);
        world.send(FRONT, &world.arriving(FRONT, packets.0).frame());
        if let Some(reply) = packets.1 {
            world.send(BACK, &world.arriving(BACK, reply).frame());
        }
        world.sweep();
    }
}

/// Traffic of the client alone does not keep a connection to a backend that is gone; traffic of the backend does.
#[test]
fn a_removed_backend_is_not_sent_to_for_ever() {
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let any = family.any_port_vip(0);
        let echo = request(SocketAddr::new(client.ip(), 7), any);
        let tunnel = gre(client, any, 0, b"one way");
        for (packet, replied) in [(udp(client, vip), false), (udp(client, vip), true), (echo, false), (tunnel, false)] {
            let mut world = World::new(Setup { all_protocols: true, ..Setup::default() });
            world.send(FRONT, &world.arriving(FRONT, &packet).frame());
            let opened = || format!("{packet:?}");
            assert_eq!(world.datapath.conntrack.count(), 1, "{}", opened());
            let mut snat = None;
            world.datapath.conntrack.for_each(&world.policy(), &mut |view| snat = Some(view.reply.destination));
            let reply = udp(backend, snat.unwrap());
            if replied {
                world.comes_back(&reply, vip, client);
            }
            // As long as the pool has it, one-way traffic keeps the connection.
            go_on(&mut world, 200, (&packet, None));
            assert_eq!(world.datapath.conntrack.count(), 1, "{}", opened());
            let removed: Vec<u16> = world.backends.iter().map(|backend| backend.id.0).collect();
            let common = Timeouts::default();
            world.change(Setup {
                policy: TimeoutPolicy::new(common, &[], removed, &["udp", "icmp", "icmpv6", "gre"]),
                ..world.setup.clone()
            });
            if replied {
                go_on(&mut world, 300, (&packet, Some(&reply)));
                assert_eq!(world.counted()["new_connections"], 1, "it is still answered");
                assert!(world.find(Protocol::Udp, client, vip).is_some_and(|(view, _)| view.timeout >= common.udp));
            }
            // At most half again as long as an unreplied connection may be silent, and a second for the sweep.
            let patience = 30 + 15 + 1;
            go_on(&mut world, patience, (&packet, None));
            assert!(world.counted()["new_connections"] >= 2, "the client has a new connection: {}", opened());
        }
    }
}

/// TCP knows by itself when it is over.
#[test]
fn a_tcp_connection_to_a_removed_backend_stays() {
    let (client, vip, backend) = (Family::V4.client(), Family::V4.vip(), Family::V4.backend());
    let mut world = with(TimeoutPolicy::new(Timeouts::default(), &[], vec![0, 1], &["tcp"]));
    let snat = world.established(client, vip, backend);
    for _ in 0..200 {
        world.pass(1000);
        world.goes_on(&tcp(client, vip, PSH_ACK), snat, backend);
        assert_eq!(world.sweep().len(), 0);
    }
}

#[test]
fn which_checksums_are_looked_at() {
    let wrong = Checksum::Wrong(0x1234);
    for family in FAMILIES {
        let (client, vip, backend) = (family.client(), family.vip(), family.backend());
        let setup =
            |checksum| Setup { tracking: Settings { checksum, ..Settings::default() }, all_protocols: true, ..Setup::default() };
        let mut all = World::new(setup(Verify::All));
        let snat = all.established(client, vip, backend);
        all.goes_on(&tcp(client, vip, PSH_ACK).carrying(b"data"), snat, backend);
        all.drops(FRONT, &tcp(client, vip, PSH_ACK).carrying(b"data").with_checksum(wrong), DropReason::TcpChecksum);
        let snat = all.opens(&udp(client, vip), backend);
        all.drops(FRONT, &udp(client, vip).with_checksum(wrong), DropReason::UdpChecksum);
        all.comes_back(&udp(backend, snat), vip, client);
        all.drops(BACK, &udp(backend, snat).with_checksum(wrong), DropReason::UdpChecksum);
        let mut none = World::new(setup(Verify::None));
        let snat = none.opens(&tcp(client, vip, SYN).with_checksum(wrong), backend);
        none.comes_back(&tcp(backend, snat, super::packet::SYN_ACK).with_checksum(wrong), vip, client);
        none.opens(&udp(client, vip).with_checksum(wrong), backend);
        // That of SCTP is made anew: it must have been right.
        let packet = sctp(client, vip, 0, &[init(1, 7)]);
        let damaged = Packet { transport: Transport::Other(Other::Sctp { tag: 0, checksum: Crc::Wrong }), ..packet };
        none.drops(FRONT, &damaged, DropReason::SctpChecksum);
    }
}
